"""The command `mcrpy_diffusion`: parse, one call, nothing else."""

from __future__ import annotations

import argparse
import sys
import typing
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, NoReturn

from mcrpy_diffusion import __version__
from mcrpy_diffusion.config import PRESETS, GenerationSettings, SamplingSettings, Settings, TrainingSettings, preset
from mcrpy_diffusion.console import run
from mcrpy_diffusion.errors import InputError

MCRPY_COMMANDS = {
    "match": "new structures like a micrograph, the whole way (mcrpy_match)",
    "reconstruct": "new structures like an MCRpy characterization (mcrpy_reconstruct)",
    "characterize": "MCRpy's characterization (mcrpy_characterize)",
    "view": "MCRpy's viewer (mcrpy_view)",
    "merge": "MCRpy's merge (mcrpy_merge)",
    "smooth": "MCRpy's smoothing (mcrpy_smooth)",
    "gui": "MCRpy's graphical user interface (mcrpy)",
}


class Parser(argparse.ArgumentParser):
    """Reports wrong arguments as every other wrong input: in one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; {self.prog} -h lists what is allowed")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 done, 2 wrong input, 1 anything else."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0] in MCRPY_COMMANDS:
        from mcrpy_diffusion.mcrpy_bridge import commands

        name = sys.argv[0] if given[0] == "gui" else f"mcrpy_diffusion {given[0]}"  # the GUI runs that file again
        sys.argv = [name, *given[1:]]
        return int(getattr(commands, given[0])() or 0)

    def start() -> None:
        options = vars(make_parser().parse_args(given))
        function: Callable[[dict[str, Any]], None] = options.pop("function")
        function({k: v for k, v in options.items() if v is not None})

    return run(start)


def make_parser() -> Parser:
    """The parser of all commands that need no MCRpy."""
    parser = Parser(
        prog="mcrpy_diffusion",
        description="New microstructures that are statistically equivalent to a given one, by a diffusion model.",
        epilog="Further commands, which take MCRpy's options: "
        + "; ".join(f"{name}: {text}" for name, text in MCRPY_COMMANDS.items())
        + ".",
    )
    parser.add_argument("--version", action="version", version=f"mcrpy_diffusion {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)

    p = _command(commands, "generate", generate, "reference -> a data set of training structures")
    p.add_argument("--micrograph", nargs="+", metavar="FILE", help="micrographs (.npy, .npz, .png, .tif, .jpg)")
    p.add_argument("--descriptor_filename", metavar="FILE", help="an MCRpy characterization instead")
    p.add_argument("--out", metavar="DIR", help="the data set's folder; run again to go on")
    p.add_argument("--n_jobs", type=int, help="worker processes (default: one per core)")
    p.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler, whose workers are used instead")
    p.add_argument("--verify", metavar="DIR", help="check a data set instead: status 0 if it is whole, else 2")
    _add_settings(p, GenerationSettings)

    p = _command(commands, "train", train, "data set -> model; run again to go on")
    p.add_argument("--dataset", required=True, metavar="DIR")
    p.add_argument("--out", required=True, metavar="RUN", help="folder for model.safetensors and the training state")
    p.add_argument("--preset", choices=PRESETS, help="default: paper")
    _add_settings(p, TrainingSettings)

    p = _command(commands, "sample", sample, "model and seeds -> microstructures")
    p.add_argument("--model", required=True, metavar="FILE")
    p.add_argument("--out", required=True, metavar="DIR")
    p.add_argument("--extent_x", type=int, help="rows (default: those of the training structures)")
    p.add_argument("--extent_y", type=int, help="columns")
    _add_settings(p, SamplingSettings, rename={"n_sampling_steps": "n_steps"})

    p = _command(commands, "evaluate", evaluate, "generated against original structures -> report.html, metrics.json")
    p.add_argument("--original", required=True, metavar="DIR")
    p.add_argument("--generated", required=True, metavar="DIR")
    p.add_argument("--out", required=True, metavar="DIR")
    p.add_argument("--non_periodic", dest="periodic", action="store_false", default=None)
    return parser


def generate(options: dict[str, Any]) -> None:
    """Make a data set."""
    from mcrpy_diffusion.generate import generate as run_generate
    from mcrpy_diffusion.generate import resolve
    from mcrpy_diffusion.pipeline import reference_from_characterization, reference_from_micrographs

    if "verify" in options:
        verify(options)
        return
    files, descriptor = options.pop("micrograph", None), options.pop("descriptor_filename", None)
    if (files is None) == (descriptor is None):
        raise InputError("give either --micrograph or --descriptor_filename")
    if "out" not in options:
        raise InputError("give the data set's folder with --out, or --verify to check one")
    out, n_jobs, scheduler = options.pop("out"), options.pop("n_jobs", -1), options.pop("scheduler", None)
    reference = (
        reference_from_characterization(descriptor, options)
        if files is None
        else reference_from_micrographs(files, options)
    )
    settings = resolve(GenerationSettings().replace(**options), reference)
    made = run_generate(settings, reference, out, n_jobs=n_jobs, scheduler=scheduler)
    print(f"{made}: {settings.n_training_samples} structures")


def verify(options: dict[str, Any]) -> None:
    """Check a data set."""
    from mcrpy_diffusion.generate import verify as run_verify

    folder = options.pop("verify")
    if options:
        raise InputError(f"--verify was given with --{', --'.join(options)}; allowed is --verify alone")
    print(run_verify(folder))


def train(options: dict[str, Any]) -> None:
    """Train on a data set."""
    from mcrpy_diffusion.files import make_folder
    from mcrpy_diffusion.train import read_dataset
    from mcrpy_diffusion.train import train as run_train

    data, out = options.pop("dataset"), options.pop("out")
    settings = preset(options.pop("preset", "paper")).training.replace(**options)
    print(run_train(read_dataset(data), settings, make_folder(out)))


def sample(options: dict[str, Any]) -> None:
    """Sample from a model."""
    from mcrpy_diffusion.sample import load_model, sample_to_folder

    model, out = load_model(options.pop("model")), options.pop("out")
    shape = (options.pop("extent_x", model.info.extent[0]), options.pop("extent_y", model.info.extent[1]))
    options["n_sampling_steps"] = options.pop("n_steps", None)
    print(sample_to_folder(model, SamplingSettings().replace(**options), out, shape))


def evaluate(options: dict[str, Any]) -> None:
    """Compare two folders of structures."""
    from mcrpy_diffusion.compare import compare_folders

    print(compare_folders(options["original"], options["generated"], options["out"], options.get("periodic", True)))


def _command(
    commands: Any, name: str, function: Callable[[dict[str, Any]], None], text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(function=function, command=None)
    return parser


def _add_settings(
    parser: argparse.ArgumentParser, settings: type[Settings], *, rename: dict[str, str] | None = None
) -> None:
    """Add an option for each field, typed as the field is; defaults stay with the settings."""
    hints = typing.get_type_hints(settings)
    group = parser.add_argument_group("settings")
    for f in fields(settings):
        name, kind = (rename or {}).get(f.name, f.name), hints[f.name]
        kinds = [k for k in typing.get_args(kind) if k is not type(None)] or [kind]
        if kind is bool:
            group.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=None, help=f"({f.default})")
            continue
        many = typing.get_origin(kinds[0]) is tuple or typing.get_origin(kind) is tuple
        item = typing.get_args(kinds[0])[0] if typing.get_origin(kinds[0]) is tuple else kinds[0]
        group.add_argument(
            f"--{name}", type=item, nargs="*" if many else None, default=None, metavar="X", help=f"({f.default})"
        )


if __name__ == "__main__":
    sys.exit(main())
