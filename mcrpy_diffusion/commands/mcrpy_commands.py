"""MCRpy's commands with `--method {descriptor,diffusion}`, for either MCRpy version.

A command is run as `python -m mcrpy.<command>` would run it. Only the parser's `parse_args` is wrapped for the length
of that call: options are added to it, and taken out of its result again before MCRpy sees it. MCRpy's files and
classes stay as they are.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib
import logging
import runpy
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge import environment
from mcrpy_diffusion.mcrpy_bridge.plugin_options import plugin_options
from mcrpy_diffusion.mcrpy_bridge.registration import register
from mcrpy_diffusion.mcrpy_bridge.safe_loading import safe_loading
from mcrpy_diffusion.runtime.console import run, say_error
from mcrpy_diffusion.settings import PRESETS, SAMPLERS

METHODS = ("descriptor", "diffusion")
MCRPY_OPTIONS_USED = (
    "microstructure_filenames",
    "descriptor_filename",
    "data_folder",
    "descriptor_types",
    "descriptor_weights",
    "optimizer_type",
    "loss_type",
    "limit_to",
    "max_iter",
    "information",
    "logfile_name",
    "logging_level",
    "logfile_date",
    "periodic",
    "grey_values",
    "isotropic",
    "use_multiphase",
    "use_multigrid_descriptor",
    "extent_x",
    "extent_y",
)
"""MCRpy's options (the names its parser stores them under) that mean something with --method diffusion."""
MCRPY_OPTIONS_UNUSED = (
    "initial_microstructure_file",
    "nl_method",
    "gram_weights_filename",
    "learning_rate",
    "beta_1",
    "beta_2",
    "rho",
    "momentum",
    "threshold_steepness",
    "initial_temperature",
    "final_temperature",
    "cooldown_factor",
    "mutation_rule",
    "acceptance_distribution",
    "convergence_data_steps",
    "outfile_data_steps",
    "tolerance",
    "oor_multiplier",
    "phase_sum_multiplier",
    "slice_mode",
    "symmetry",
    "use_multigrid_reconstruction",
    "greedy",
    "profile",
    "batch_size",
    "ori_repr",  # this and the next two are the repository's
    "n_shsh_terms",
    "full_3d",
)
"""Those that mean nothing with it and are named in a warning, as is every option that stands in neither list."""
MCRPY_OPTIONS_3D = ("add_dimension", "extent_z")
OPTIONS_OF_DIFFUSION = ("model", "seed", "sampler", "n_sampling_steps", "eta", "best_of", "strength")
OPTIONS_OF_PLUGINS = {
    "--optimizer_type Diffusion": OPTIONS_OF_DIFFUSION,
    "--descriptor_types PixelMSE": ("references",),
}
"""What the plugins of this package take of our options with --method descriptor, by what asks for them."""
_PLUGIN_OPTIONS: dict[str, dict[str, Any]] = {
    "references": {
        "nargs": "+",
        "metavar": "FILE",
        "help": "structures, or folders of them, to the nearest of which PixelMSE measures the distance",
    },
    "best_of": {
        "type": int,
        "metavar": "K",
        "help": "the optimizer Diffusion draws K structures and returns that of the smallest loss (default: 1)",
    },
    "strength": {
        "type": float,
        "metavar": "S",
        "help": "how far the optimizer Diffusion leaves an initial microstructure, above 0 to 1 (default: 0.5)",
    },
}
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
            with _wrapped_parser(lambda parser, args, space: _parse_characterize(parser, args, space, prog, options)):
                _run_module("characterize")

    return run(start, stopped=_STOPPED)


def view(arguments: Sequence[str] | None = None) -> int:
    """Run MCRpy's viewer."""
    return _run_as_it_is("view", arguments, _single_points())


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


class _Diffusion(BaseException):
    """Leaves MCRpy's main before it has done anything; no `except Exception` on the way may hold it up."""

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__()
        self.options = options


def _run_with_method(command: str, arguments: Sequence[str] | None) -> int:
    by_diffusion: list[dict[str, Any]] = []

    def start() -> None:
        with _command_line(f"mcrpy_{command}", arguments) as prog, plugin_options() as options:
            register(with_torch=_needs_torch(sys.argv[1:]))
            try:
                with _wrapped_parser(lambda parser, args, space: _parse(parser, args, space, prog, command, options)):
                    _run_module(command)
            except _Diffusion as chosen:
                by_diffusion.append(chosen.options)

    status = run(start, stopped=_STOPPED)
    if not by_diffusion:
        return status
    return run(lambda: _run_diffusion(command, by_diffusion[0]))


def _run_diffusion(command: str, options: dict[str, Any]) -> None:
    environment.import_mcrpy(hide_gpus=True)  # it is here already; the GPU is PyTorch's
    pipeline = importlib.import_module("mcrpy_diffusion.workflow.pipeline")
    getattr(pipeline, command)(options)


def _run_as_it_is(
    command: str, arguments: Sequence[str] | None, around: contextlib.AbstractContextManager[None] | None = None
) -> int:
    def start() -> None:
        with _command_line(f"mcrpy_{command}", arguments), around or contextlib.nullcontext():
            register(with_torch=False)
            _run_module(command)

    return run(start, stopped=_STOPPED)


def _run_module(command: str) -> None:
    """Run a module of MCRpy as `python -m` does, but let it read nothing that could run code.

    The root logger is put back as it was.
    """
    with environment.restored_logging(), _notes_in_the_log(), warnings.catch_warnings(), safe_loading():
        warnings.filterwarnings("ignore", message=".*found in sys.modules after import of package", module="runpy")
        runpy.run_module(f"mcrpy.{command}", run_name="__main__")


@contextlib.contextmanager
def _notes_in_the_log() -> Iterator[None]:
    """Let MCRpy's log begin with what was settled for it in this process."""
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
    """Set `sys.argv` for a call with arguments of its own, and yield the command's name for messages."""
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
    """Let `parse` do the first `parse_args` of any parser: that of the command that is run."""
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
) -> argparse.Namespace:
    """Parse for MCRpy, and put what its plugins take into the options, or leave with those given for diffusion."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser.prog = prog
    ours = _add_options(parser, command)
    _add_plugin_options(parser, list(_PLUGIN_OPTIONS))
    if _asks_for_diffusion(arguments):
        setattr(parser, "error", _raise_input_error)  # noqa: B010
    explicit = copy.deepcopy(parser)
    for each in (parser, explicit):
        _match_no_abbreviation(each, [*ours, *_PLUGIN_OPTIONS])
    values = parser.parse_args(arguments, namespace)
    _remove_defaults(explicit)
    given = vars(explicit.parse_args(arguments))
    flags = {action.dest: action.option_strings[0] for action in parser._actions if action.option_strings}
    if given.pop("method", METHODS[0]) == "diffusion":
        raise _Diffusion(_diffusion_options(given, ours, flags))
    options.update(_options_for_plugins(given, values))
    unused = [name for name in given if name in (*ours, *_PLUGIN_OPTIONS) and name not in options]
    _warn(prog, [flags[name] for name in unused if name in ours], "--method diffusion")
    for wanted, names in OPTIONS_OF_PLUGINS.items():
        _warn(prog, [flags[name] for name in unused if name in names and name not in ours], wanted)
    for name in ("method", *ours, *_PLUGIN_OPTIONS):
        vars(values).pop(name, None)
    return values


def _parse_characterize(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    namespace: argparse.Namespace | None,
    prog: str,
    options: dict[str, Any],
) -> argparse.Namespace:
    """Parse for MCRpy, and put what its plugins take into the options."""
    parser.prog = prog
    _add_plugin_options(parser, ["references"])
    _match_no_abbreviation(parser, ["references"])
    values = parser.parse_args(arguments, namespace)
    references = vars(values).pop("references", None)
    options.update(_options_for_plugins({"references": references} if references else {}, values))
    _warn(prog, ["--references"] if references and not options else [], "--descriptor_types PixelMSE")
    return values


def _options_for_plugins(given: Mapping[str, Any], values: argparse.Namespace) -> dict[str, Any]:
    """Return those of the given options that the chosen plugins take."""
    chosen = {f"--optimizer_type {getattr(values, 'optimizer_type', None)}"}
    chosen.update(f"--descriptor_types {name}" for name in getattr(values, "descriptor_types", None) or ())
    names = {name for wanted in chosen for name in OPTIONS_OF_PLUGINS.get(wanted, ())}
    return {name: value for name, value in given.items() if name in names}


def _warn(prog: str, unused: Sequence[str], wanted: str) -> None:
    if unused:
        say_error(f"{prog}: warning: {', '.join(unused)}: used with {wanted} only, ignored")


def _diffusion_options(given: Mapping[str, Any], ours: Sequence[str], flags: Mapping[str, str]) -> dict[str, Any]:
    """Return the options that count with diffusion, and the flags of the others as "ignored"; refuse 3D."""
    if (given.get("extent_z") or 1) > 1 or given.get("add_dimension") is not None:
        name = "--add_dimension" if given.get("add_dimension") is not None else "--extent_z"
        raise InputError(f"3D is not there yet: leave out {name}, or use --method descriptor")
    known = (*MCRPY_OPTIONS_USED, *ours)
    counting = {name: value for name, value in given.items() if name in known}
    ignored = [flags[name] for name in given if name not in (*known, *MCRPY_OPTIONS_3D)]
    return {**counting, "ignored": ignored} if ignored else counting


def _add_options(parser: argparse.ArgumentParser, command: str) -> list[str]:
    """Add `--method` and the group of the diffusion options; return the names of the group's that MCRpy lacks."""
    parser.add_argument("--method", choices=METHODS, default=METHODS[0], help="default: descriptor, MCRpy's own")
    group = parser.add_argument_group("diffusion options (with --method diffusion)")
    there = {action.dest for action in parser._actions}
    options: dict[str, dict[str, Any]] = {
        "n_samples": {"type": int, "metavar": "N", "help": "new structures (default: 16)"},
        "extent_x": {"type": int, "metavar": "PIXELS", "help": "rows of a new structure (default: 64)"},
        "extent_y": {"type": int, "metavar": "PIXELS", "help": "columns of a new structure (default: 64)"},
        "preset": {
            "choices": PRESETS,
            "help": "quick: minutes on a CPU (default); small: about half an hour with bfloat16; paper: as published",
        },
        "model": {
            "metavar": "MODEL",
            "help": "sample from this model.safetensors, or pretrained model (`mcrpy_diffusion models` lists their "
            "names), instead of training one",
        },
        "seed": {"type": int, "metavar": "S", "help": "of everything that is random (default: 0)"},
        "training_data": {
            "choices": ("auto", "crops", "descriptors"),
            "help": "crops of the micrograph, MCRpy's reconstructions, or auto: crops where it is large enough",
        },
        "n_training_samples": {"type": int, "metavar": "N", "help": "training structures (default: the preset's)"},
        "n_training_steps": {"type": int, "metavar": "N", "help": "training steps (default: the preset's)"},
        "sampler": {"choices": tuple(SAMPLERS), "help": "default: the preset's"},
        "n_sampling_steps": {"type": int, "metavar": "N", "help": "denoising steps (default: the preset's)"},
        "eta": {"type": float, "metavar": "ETA", "help": "noise while sampling, 0 to 1 (default: 0)"},
        "n_jobs": {"type": int, "metavar": "N", "help": "worker processes for training data, -1: all cores (default)"},
        "dry_run": {"action": "store_true", "help": "show the resolved settings and stop"},
    }
    if command != "match":
        del options["training_data"]
    names = [name for name in options if name not in there]
    for name in names:
        group.add_argument(f"--{name}", default=argparse.SUPPRESS, **options[name])
    return names


def _add_plugin_options(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Add the group of the options of this package's plugins."""
    also = "--model, --seed, --sampler, --n_sampling_steps and --eta serve --optimizer_type Diffusion too"
    group = parser.add_argument_group(
        "options of this package's plugins (with --method descriptor)" if len(names) > 1 else "option of PixelMSE",
        also if len(names) > 1 else None,
    )
    for name in names:
        group.add_argument(f"--{name}", default=argparse.SUPPRESS, **_PLUGIN_OPTIONS[name])


def _needs_torch(arguments: Sequence[str]) -> bool:
    """Whether PyTorch will be used, and so has to be loaded before TensorFlow."""
    return _asks_for_diffusion(arguments) or any(a == "Diffusion" or a.endswith("=Diffusion") for a in arguments)


def _asks_for_diffusion(arguments: Sequence[str]) -> bool:
    """Whether errors are ours to report (in one line), before anything is parsed."""
    pairs = zip(arguments, [*arguments[1:], ""])
    return any(a == "--method=diffusion" or (a == "--method" and b == "diffusion") for a, b in pairs)


def _raise_input_error(message: str) -> None:
    raise InputError(message)


def _match_no_abbreviation(parser: argparse.ArgumentParser, ours: Sequence[str]) -> None:
    """Keep MCRpy's abbreviations (--pr for --profile) what they were: our options have none."""
    find: Callable[[str], list[tuple[Any, ...]]] = parser._get_option_tuples  # type: ignore[assignment]
    hidden = {*ours, "method"}

    def find_mcrpys(option: str) -> list[tuple[Any, ...]]:
        return [found for found in find(option) if found[0].dest not in hidden]

    setattr(parser, "_get_option_tuples", find_mcrpys)  # noqa: B010


def _remove_defaults(parser: argparse.ArgumentParser) -> None:
    """Make a parser store nothing but what is given."""
    parser._defaults.clear()
    for action in parser._actions:
        action.default = argparse.SUPPRESS


@contextlib.contextmanager
def _single_points() -> Iterator[None]:
    """Let lines take single numbers: MCRpy 0.2.0's viewer marks a point so, and matplotlib 3.9 and later refuse."""
    import numpy as np
    from matplotlib.lines import Line2D

    original = Line2D.set_data

    def set_data(self: Line2D, *values: Any) -> None:
        original(self, *(np.atleast_1d(value) if len(values) == 2 else value for value in values))

    setattr(Line2D, "set_data", set_data)  # noqa: B010
    try:
        yield
    finally:
        setattr(Line2D, "set_data", original)  # noqa: B010
