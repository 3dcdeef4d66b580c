"""MCRpy's graphical user interface with the diffusion actions, and a choice of the method in Match and Reconstruct.

MCRpy describes its GUI by a Gooey parser. A private copy of that module is run while `gooey.GooeyParser` and
`gooey.Gooey` are replaced by ours, which add to the forms; afterwards everything is as it was, and no file of MCRpy's
or Gooey's is touched. The Start button runs `mcrpy_diffusion gui --ignore-gooey <command> ...` in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from mcrpy_diffusion.commands import gui_forms, stages
from mcrpy_diffusion.commands.mcrpy_options import (
    METHODS,
    add_diffusion_options,
    add_image_options,
    add_plugin_options,
    chosen_method,
    diffusion_options,
    flags_of,
    take_image_options,
    take_options,
    uses_torch,
)
from mcrpy_diffusion.commands.options import preset_in_force
from mcrpy_diffusion.commands.parser import make_parser
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge.plugin_options import plugin_options
from mcrpy_diffusion.mcrpy_bridge.registration import register
from mcrpy_diffusion.mcrpy_bridge.safe_loading import ImageReader, safe_loading
from mcrpy_diffusion.mcrpy_bridge.viewer import single_points
from mcrpy_diffusion.runtime import progress
from mcrpy_diffusion.runtime.console import run

WITHOUT_WINDOW = "--ignore-gooey"
METHOD_COMMANDS = {"Match": "match", "Reconstruct": "reconstruct"}
PROGRESS = r"^(?:Iteration\s+|\d\d:\d\d:\d\d\s+)(?P<current>\d+)(?:\s+of\s+|/)(?P<total>\d+)"
"""Matches the progress lines of both MCRpy versions and of this package."""
SECONDS_TO_SAVE = 60.0  # a run that is stopped is killed after this time
NEEDED = ("gooey", "wx", "pygtrie", "psutil", "colored", "PIL")
HOW_TO_INSTALL = (
    "pip install 'mcrpy-diffusion[gui]', on Linux after the distribution's wxPython (Debian: apt-get install "
    "python3-wxgtk4.0), see README; all commands work without it"
)


def main() -> int:
    """Open the window; with `--ignore-gooey` in `sys.argv`, run what its Start button starts.

    Returns
    -------
    int
        Exit status.

    Raises
    ------
    InputError
        If Gooey, wxPython or a display is missing.
    """
    arguments = [word for word in sys.argv[1:] if word != WITHOUT_WINDOW]
    works = WITHOUT_WINDOW in sys.argv
    if works and arguments and arguments[0] in gui_forms.ACTIONS:
        return _run_action(gui_forms.ACTIONS[arguments[0]][0], arguments[1:])
    try:
        return _run_mcrpys(works)
    except ImportError as error:
        name = (error.name or "").partition(".")[0]
        if name not in NEEDED:
            raise
        raise InputError(f"MCRpy's GUI needs {name}, which is not installed: {HOW_TO_INSTALL}") from error


def _run_action(command: str, arguments: Sequence[str]) -> int:
    """Run a command of this package with the values of its form."""
    given = gui_forms.command_line(arguments, make_parser(arguments).commands[command])
    print("mcrpy_diffusion", shlex.join([command, *given]), flush=True)
    started = time.time()
    with progress.as_lines(), _stop_at_sigterm():
        status = stages.main([command, *given])
    if status == 0 and "--out" in given:
        _say_report(Path(given[given.index("--out") + 1]) / "report.html", started)
    return status


def _run_mcrpys(works: bool) -> int:
    """Run MCRpy's GUI module, then the pipeline if Match or Reconstruct was started with the method diffusion."""
    gooey: Any = importlib.import_module("gooey")
    started = time.time()
    chosen: list[tuple[str, dict[str, Any]]] = []
    with plugin_options() as options:
        given_words = sys.argv[1:]
        by_torch = chosen_method(given_words) == "diffusion" or uses_torch(given_words)
        register(with_torch=works and by_torch)
        reader = ImageReader()
        parser = _parser_class(gooey.GooeyParser, options, chosen, reader)
        parse_args = argparse.ArgumentParser.parse_args  # Gooey replaces it and never restores it
        points = single_points() if works else contextlib.nullcontext()  # for View
        try:
            with _replaced(gooey, GooeyParser=parser, Gooey=_decorator(gooey.Gooey)), points, safe_loading(reader):
                _private_copy("mcrpy.gui_mcrpy").call_main()
        finally:
            setattr(argparse.ArgumentParser, "parse_args", parse_args)  # noqa: B010
            with contextlib.suppress(AttributeError):
                delattr(argparse.ArgumentParser, "original_parse_args")
    if not chosen:
        return 0
    ((command, given),) = chosen
    with progress.as_lines(), _stop_at_sigterm():
        status = run(lambda: stages.run_pipeline(command, given))
    if status or given.get("dry_run"):
        return status
    information = given.get("information")
    report = "report.html" if information is None else f"report_{information}.html"
    _say_report(Path(str(given.get("data_folder") or "results")) / report, started)
    return 0


def _parser_class(
    base: Any, options: dict[str, Any], chosen: list[tuple[str, dict[str, Any]]], reader: ImageReader
) -> Any:
    """Return Gooey's parser class with the forms of this package added to those of MCRpy.

    `parse_args` removes this package's options from what MCRpy gets. Options for plugins go into `options`. With the
    method diffusion, the command and its options go into `chosen`, and the function that MCRpy calls does nothing.
    """

    class Parser(base):  # type: ignore[misc]
        def add_subparsers(self, **arguments: Any) -> Any:
            action = super().add_subparsers(**arguments)
            self.__dict__["_forms"] = action  # Gooey forwards other attributes to argparse's parser
            return action

        def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
            forms = self.__dict__.get("_forms")
            if forms is None:
                return super().parse_args(args, namespace)
            ours = {name: _extend(form, name) for name, form in forms.choices.items()}
            for name, (command, title) in gui_forms.ACTIONS.items():
                parser = make_parser().commands[command]
                _add_form(forms.add_parser(name, prog=title, usage=parser.description), command, parser)
            values = super().parse_args(args, namespace)
            if values is None:  # the window was closed
                raise SystemExit(0)
            name = next(word for word in sys.argv[1:] if word in forms.choices)
            form = forms.choices[name]
            if name not in METHOD_COMMANDS or values.method == METHODS[0]:
                take_image_options(values, reader)
                take_options("mcrpy", form, values, ours[name], options)
                return values
            given = {dest: value for dest, value in vars(values).items() if value != form.get_default(dest)}
            del given["method"]
            chosen.append((METHOD_COMMANDS[name], diffusion_options(given, flags_of(form))))
            return argparse.Namespace(func=lambda _: None)

    return Parser


def _extend(form: Any, name: str) -> list[str]:
    """Add the method and this package's options to a form of MCRpy; return their names."""
    before = {action.dest for action in form._actions}
    if name in METHOD_COMMANDS:
        form._optionals.title = "Method"
        form._optionals.description = (
            "descriptor is MCRpy's own method. diffusion trains a model and samples from it: its options are at the "
            "end of this page; MCRpy's options that have their default value are not used."
        )
        add_diffusion_options(form, METHOD_COMMANDS[name], preset_in_force([]))
        add_plugin_options(form)
    elif name == "Characterize":
        add_plugin_options(form, all_plugins=False)
        add_image_options(form)
    else:
        return []
    for group in form._action_groups:
        if group is not form._optionals and any(action.dest not in before for action in group._group_actions):
            title = group.title.replace("--", "")  # the dashes belong to the command line
            group.title, group.description = title[0].upper() + title[1:], (group.description or "").replace("--", "")
    for action in form._actions:
        is_ours = action.dest not in before
        if is_ours or action.dest == "microstructure_filenames":  # MCRpy's chooser takes no names with blanks
            widget = gui_forms.widget_of(action) if is_ours else "MultiFileChooser"
            form.widgets[action.dest] = "Dropdown" if action.choices else widget
            form.options[action.dest] = gui_forms.gooey_options(action.dest, action.type)
        if is_ours:
            action.metavar = None  # Gooey shows it instead of the name
    return [action.dest for action in form._actions if action.dest not in before]


def _add_form(form: Any, command: str, parser: argparse.ArgumentParser) -> None:
    """Add the inputs of a command of this package to its form."""
    groups: dict[str, Any] = {}
    for field in gui_forms.form(command, parser):
        if field.group not in groups:
            groups[field.group] = form.add_argument_group(field.group, "", gooey_options=dict(gui_forms.COLOURS))
        groups[field.group].add_argument(f"--{field.name}", **field.arguments)


def _decorator(original: Any) -> Any:
    """Return Gooey's decorator with this package's command to run, progress expression and Stop button."""

    def decorate(function: Any = None, **options: Any) -> Any:
        if not os.path.isdir(options.get("image_dir", "")):  # MCRpy from its repository names a missing one
            options.pop("image_dir", None)
        options["target"] = f'"{sys.executable}" -u -m mcrpy_diffusion gui'
        options["progress_regex"], options["progress_expr"] = PROGRESS, "current / total * 100"
        if WITHOUT_WINDOW in sys.argv:
            return original(function, **options)

        def with_window(payload: Any) -> Any:
            opened = original(payload, **options)

            def call() -> Any:
                application: Any = importlib.import_module("gooey.gui.application")
                _check_display(application)
                with _gentle_stop():
                    return opened()

            return call

        return with_window if function is None else with_window(function)

    return decorate


def _check_display(application: Any) -> None:
    wx = getattr(application, "wx", None)
    if wx is not None and not wx.App.IsDisplayAvailable():
        raise InputError("MCRpy's GUI needs a display (DISPLAY is not set or not reachable); all commands work without")


@contextlib.contextmanager
def _gentle_stop() -> Iterator[None]:
    """Let Gooey's Stop button send SIGTERM before SIGKILL."""
    processor = sys.modules.get("gooey.gui.processor")
    if processor is None:
        yield
        return
    with _replaced(processor, taskkill=stop):
        yield


def stop(pid: int, seconds: float = SECONDS_TO_SAVE) -> None:
    """Send SIGTERM to a run, and SIGKILL after some time; return at once.

    Parameters
    ----------
    pid : int
        The process that Gooey started: the run itself, or the shell that started it.
    seconds : float
        Time for the run to save its state.
    """
    psutil: Any = importlib.import_module("psutil")
    try:
        top = psutil.Process(pid)
        processes = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return

    def words(process: Any) -> Sequence[str]:
        with contextlib.suppress(psutil.Error):
            return process.cmdline()
        return ()

    def runs(process: Any) -> bool:
        with contextlib.suppress(psutil.Error):
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        return False

    work = next((process for process in processes if WITHOUT_WINDOW in words(process)), top)
    with contextlib.suppress(psutil.Error):
        work.terminate()

    def end() -> None:
        # Process.wait would consume the exit status, which Gooey needs
        last = time.monotonic() + seconds
        while runs(work) and time.monotonic() < last:
            time.sleep(0.05)
        for process in processes:
            if process is not top or process is work:
                with contextlib.suppress(psutil.Error):
                    process.kill()

    threading.Thread(target=end, name="stop").start()  # no daemon: a closed window waits for the thread


@contextlib.contextmanager
def _stop_at_sigterm() -> Iterator[None]:
    """Turn SIGTERM, which `stop` sends, into Ctrl-C; a training handles it itself and saves its state."""

    def interrupt(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _replaced(module: Any, **attributes: Any) -> Iterator[None]:
    """Replace attributes of a module within this context."""
    before = {name: getattr(module, name) for name in attributes}
    for name, value in attributes.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(module, name, value)


def _private_copy(name: str) -> Any:
    """Execute a module's file as a new module; the module itself is not loaded or changed."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise InputError(f"the GUI needs {name}, which the installed MCRpy does not have")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _say_report(path: Path, since: float) -> None:
    """Print the address of a new report, which the window shows as a link."""
    if path.exists() and path.stat().st_mtime >= since - 1:
        print(f"report: {path.resolve().as_uri()}", flush=True)
