"""MCRpy's commands with `--method {descriptor,diffusion}`, for either MCRpy version.

With `--method diffusion`, match and reconstruct run this package's pipeline; MCRpy is loaded only to read or write its
files. Otherwise a command runs as by `python -m mcrpy.<command>`. During that call `parse_args` is wrapped: options are
added before parsing, and removed from the result before MCRpy gets it. MCRpy's files are not changed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import logging
import runpy
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mcrpy_diffusion.commands import mcrpy_options, stages
from mcrpy_diffusion.commands.options import preset_in_force
from mcrpy_diffusion.mcrpy_bridge import environment
from mcrpy_diffusion.mcrpy_bridge.plugin_options import plugin_options
from mcrpy_diffusion.mcrpy_bridge.registration import register
from mcrpy_diffusion.mcrpy_bridge.safe_loading import ImageReader, safe_loading
from mcrpy_diffusion.mcrpy_bridge.viewer import single_points
from mcrpy_diffusion.runtime.console import messages_of, run

_STOPPED = "stopped"


def match(arguments: Sequence[str] | None = None) -> int:
    """Run MCRpy's match, or with `--method diffusion` ours; return the exit status."""
    return _run_with_method("match", arguments)


def reconstruct(arguments: Sequence[str] | None = None) -> int:
    """Run MCRpy's reconstruct, or with `--method diffusion` ours; return the exit status."""
    return _run_with_method("reconstruct", arguments)


def characterize(arguments: Sequence[str] | None = None) -> int:
    """Run MCRpy's characterize, with this package's descriptors too."""

    def start() -> None:
        with _command_line("mcrpy_characterize", arguments) as prog, plugin_options() as options:
            register(with_torch=False)
            reader = ImageReader()
            parse = partial(_parse_characterize, prog=prog, options=options, reader=reader)
            with _wrapped_parser(parse):
                _run_module("characterize", reader)

    return run(start, stopped=_STOPPED)


def view(arguments: Sequence[str] | None = None) -> int:
    """Run MCRpy's viewer."""
    return _run_as_it_is("view", arguments, single_points())


def merge(arguments: Sequence[str] | None = None) -> int:
    """Run MCRpy's merge."""
    return _run_as_it_is("merge", arguments)


def smooth(arguments: Sequence[str] | None = None) -> int:
    """Run MCRpy's smooth."""
    return _run_as_it_is("smooth", arguments)


def gui(arguments: Sequence[str] | None = None) -> int:
    """Run MCRpy's graphical user interface, with the diffusion actions; see `gui`."""

    def start() -> int:
        from mcrpy_diffusion.commands import gui as window

        with _command_line("mcrpy", arguments):
            return window.main()

    return run(start, stopped=_STOPPED)


def _run_with_method(command: str, arguments: Sequence[str] | None) -> int:
    with _command_line(f"mcrpy_{command}", arguments) as prog:
        given = sys.argv[1:]
        if mcrpy_options.chosen_method(given) == "diffusion":
            return run(lambda: stages.run_pipeline(command, mcrpy_options.parse_for_diffusion(command, given, prog)))

        def start() -> None:
            with plugin_options() as options:
                register(with_torch=mcrpy_options.uses_torch(given))
                reader = ImageReader()
                parse = partial(_parse, prog=prog, command=command, options=options, reader=reader)
                with _wrapped_parser(parse):
                    _run_module(command, reader)

        return run(start, stopped=_STOPPED)


def _run_as_it_is(
    command: str, arguments: Sequence[str] | None, around: contextlib.AbstractContextManager[None] | None = None
) -> int:
    def start() -> None:
        with _command_line(f"mcrpy_{command}", arguments), around or contextlib.nullcontext():
            register(with_torch=False)
            _run_module(command)

    return run(start, stopped=_STOPPED)


def _run_module(command: str, reader: ImageReader | None = None) -> None:
    """Run a module of MCRpy as `python -m` does, with safe loading of files; then restore the root logger."""
    shown, loading = messages_of("mcrpy_diffusion.data"), safe_loading(reader)
    with environment.restored_logging(), _notes_in_the_log(), warnings.catch_warnings(), shown, loading:
        warnings.filterwarnings("ignore", message=".*found in sys.modules after import of package", module="runpy")
        runpy.run_module(f"mcrpy.{command}", run_name="__main__")
    if reader is not None and reader.micrographs and reader.folder is not None:
        from mcrpy_diffusion.reports.segmentation import write_segmentation

        write_segmentation(reader.folder, [m.reading for m in reader.micrographs if m.reading is not None])


@contextlib.contextmanager
def _notes_in_the_log() -> Iterator[None]:
    """Write the settings of this process for MCRpy at the start of MCRpy's log."""
    log = importlib.import_module("mcrpy.src.log")
    set_up: Callable[..., None] = log.setup_logging

    def setup_logging(*arguments: Any, **keywords: Any) -> None:
        set_up(*arguments, **keywords)
        setattr(log, "setup_logging", set_up)  # noqa: B010  once a command
        for line in environment.notes():
            logging.getLogger().info("%s", line)

    setattr(log, "setup_logging", setup_logging)  # noqa: B010
    try:
        yield
    finally:
        setattr(log, "setup_logging", set_up)  # noqa: B010


@contextlib.contextmanager
def _command_line(name: str, arguments: Sequence[str] | None) -> Iterator[str]:
    """Set `sys.argv` if arguments are given, and yield the name of the command for messages."""
    if arguments is None:
        yield Path(sys.argv[0]).name or name
        return
    saved = sys.argv
    sys.argv = [name, *arguments]
    try:
        yield name
    finally:
        sys.argv = saved


@contextlib.contextmanager
def _wrapped_parser(
    parse: Callable[[argparse.ArgumentParser, Sequence[str] | None, Any], argparse.Namespace],
) -> Iterator[None]:
    """Replace the first call of `parse_args`, which is that of the command, by `parse`."""
    original = argparse.ArgumentParser.parse_args

    def parse_args(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> argparse.Namespace:
        setattr(argparse.ArgumentParser, "parse_args", original)  # noqa: B010  mypy knows no assignment to a method
        return parse(self, args, namespace)

    setattr(argparse.ArgumentParser, "parse_args", parse_args)  # noqa: B010
    try:
        yield
    finally:
        setattr(argparse.ArgumentParser, "parse_args", original)  # noqa: B010


def _parse(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    namespace: argparse.Namespace | None,
    prog: str,
    command: str,
    options: dict[str, Any],
    reader: ImageReader,
) -> argparse.Namespace:
    """Parse for MCRpy, and put what this package's plugins take into the options."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser.prog = prog
    ours = mcrpy_options.add_diffusion_options(parser, command, preset_in_force(words))
    names = ["method", *ours, *mcrpy_options.add_plugin_options(parser)]
    mcrpy_options.match_no_abbreviation(parser, names)
    values = parser.parse_args(words, namespace)
    mcrpy_options.take_image_options(values, reader)
    mcrpy_options.take_options(prog, parser, values, names, options)
    return values


def _parse_characterize(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    namespace: argparse.Namespace | None,
    prog: str,
    options: dict[str, Any],
    reader: ImageReader,
) -> argparse.Namespace:
    """Parse for MCRpy, and put what this package's descriptors take into the options."""
    parser.prog = prog
    names = mcrpy_options.add_plugin_options(parser, all_plugins=False)
    names += mcrpy_options.add_image_options(parser)
    mcrpy_options.match_no_abbreviation(parser, names)
    values = parser.parse_args(arguments, namespace)
    mcrpy_options.take_image_options(values, reader)
    mcrpy_options.take_options(prog, parser, values, names, options)
    return values
