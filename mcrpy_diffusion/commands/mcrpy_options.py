"""The options of mcrpy_match and mcrpy_reconstruct: this package's, and what MCRpy's mean with --method diffusion."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mcrpy_diffusion.commands.options import add_option, add_settings, check_values, fields_of, preset_in_force
from mcrpy_diffusion.commands.parser import DRY_RUN, MODEL, Parser
from mcrpy_diffusion.mcrpy_bridge.mcrpy_arguments import mcrpy_arguments
from mcrpy_diffusion.mcrpy_bridge.registration import plugin_names
from mcrpy_diffusion.mcrpy_bridge.safe_loading import ImageReader
from mcrpy_diffusion.runtime.console import say_error
from mcrpy_diffusion.settings import (
    PRESET,
    FileSettings,
    GenerationSettings,
    ImageSettings,
    Option,
    Preset,
    RequestSettings,
    options_of,
)
from mcrpy_diffusion.settings.images import READING_FIELDS

METHODS = ("descriptor", "diffusion")
MCRPY_OPTIONS = {
    "microstructure_filenames": "micrographs: .npy, .npz, .png, .tif, .jpg, .bmp, .gif",
    "descriptor_filename": "a characterization by MCRpy (.pickle)",
    "data_folder": "folder of the results (default: results)",
    "information": "text that is added to the names of the results",
    "logfile_name": "name of the log file without extension (default: logfile)",
    "logging_level": "smallest level of the messages in the log (default: 20)",
    "logfile_date": "add date and time to the name of the log file",
    "periodic": "reconstructions by MCRpy are not periodic; crops never are",
    "use_multigrid_descriptor": "no multigrid descriptors (default)",
    "add_dimension": "slices of a volume, whose sections in all three planes are like the micrograph (default: 2D)",
    "extent_z": "slices of a volume, whose sections in all three planes are like the reference (default: 2D)",
}
"""Meaning of MCRpy's options with --method diffusion, by the names in the result of MCRpy's parser.

MCRpy's options that are fields of `GenerationSettings` have the meaning of the fields. All others are ignored.
"""
OPTIONS_OF_IMAGES = tuple(name for name in READING_FIELDS if name != "slices_along")
"""Options of reading that hold for MCRpy's own commands too, which take single images."""
SAMPLING_OPTIONS = ("sampler", "n_sampling_steps", "eta")
OPTIONS_OF_SETTINGS = {
    "sampling": ("n_samples", "seed", *SAMPLING_OPTIONS, "plane_weight"),
    "generation": ("extent_x", "extent_y", "training_data", "n_training_samples", *READING_FIELDS),
    "training": ("n_training_steps",),
}
"""Fields of a preset's settings that are options."""
DESCRIPTOR_OPTIONS = ("descriptor_filename", "descriptor_types", "limit_to")  # MCRpy's; the same for steering
OWN_OPTIONS = (
    PRESET,
    replace(MODEL, help=f"sample from a model instead of training one: {MODEL.help}", beginner=True),
    Option("n_jobs", int, -1, "number of worker processes for the training data; -1: one per core"),
    DRY_RUN,
)
PLUGIN_OPTIONS = (
    Option("references", str, help="PixelMSE: structures, or folders of structures", is_list=True),
    Option("best_of", int, 1, "optimizer Diffusion: sample this many structures, keep the smallest loss", low=1),
    Option(
        "strength",
        float,
        0.5,
        "optimizer Diffusion: how much noise is added to an initial microstructure; 1: as much as without one",
        low=0.0,
        high=1.0,
    ),
)
ARGUMENTS: dict[str, dict[str, Any]] = {
    "dry_run": {"action": "store_true"},
    "model": {"metavar": "MODEL"},
    "references": {"nargs": "+", "metavar": "FILE"},
}
"""Keyword arguments of argparse's `add_argument` that do not follow from an option."""
OPTIONS_OF_PLUGINS = {
    "--optimizer_type Diffusion": ("model", "seed", *SAMPLING_OPTIONS, "best_of", "strength"),
    "--descriptor_types PixelMSE": ("references",),
}
"""Options of MCRpy that select a plugin of this package -> the options that the plugin uses."""


def chosen_method(arguments: Sequence[str]) -> str | None:
    """Return the value of `--method` in a command line, which decides how all other options are parsed."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--method", nargs="?", default=METHODS[0])
    method: str | None = parser.parse_known_args(arguments)[0].method
    return method


def uses_torch(arguments: Sequence[str]) -> bool:
    """Whether a command line makes MCRpy use PyTorch, which has to be loaded before TensorFlow."""
    return any(word == "Diffusion" or word.endswith("=Diffusion") for word in arguments)


def parse_for_diffusion(command: str, arguments: Sequence[str], prog: str) -> dict[str, Any]:
    """Parse the command line of "match" or "reconstruct" with --method diffusion, without MCRpy.

    Returns
    -------
    dict
        The options given, for `mcrpy_diffusion.workflow.pipeline`: see `diffusion_options`.

    Raises
    ------
    InputError
        If an option is unknown, or its value has another type or is out of range.
    """
    parser = diffusion_parser(command, prog, preset_in_force(arguments))
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    check_values(parser, given)
    del given["method"]
    return diffusion_options(given, flags_of(parser))


def diffusion_parser(command: str, prog: str, chosen: Preset) -> argparse.ArgumentParser:
    """Return the parser of "match" or "reconstruct" with --method diffusion; what is not given is `None`."""
    source = "a micrograph" if command == "match" else "a characterization by MCRpy"
    parser = Parser(
        prog=prog,
        description=f"New structures that are statistically equivalent to {source}, by a diffusion model.",
    )
    results = parser.add_argument_group("reference and results")
    own = add_diffusion_options(parser, command, chosen)
    of_mcrpy = parser.add_argument_group("options of MCRpy that are used")
    of_settings = {option.name: option for option in options_of(GenerationSettings)}
    ignored = []
    for flag, keywords in mcrpy_arguments(command).items():
        name = keywords["dest"]
        if name in own:
            continue
        if name in MCRPY_OPTIONS:
            kind = bool if "action" in keywords else keywords.get("type", str)
            is_list = "nargs" in keywords
            option = Option(flag.removeprefix("--"), kind, help=MCRPY_OPTIONS[name], is_list=is_list)
            add_option(results, option, **keywords)
        elif name in of_settings:
            option = replace(of_settings[name], name=flag.removeprefix("--"), default=getattr(chosen.generation, name))
            add_option(of_mcrpy, replace(option, choices=choices_of(name)), **keywords)
        else:
            ignored.append(flag)
            parser.add_argument(flag, help=argparse.SUPPRESS, default=None, **keywords)
    for option in PLUGIN_OPTIONS:
        ignored.append(f"--{option.name}")
        add_option(parser, option, hidden=True)
    parser.epilog = f"Accepted and ignored: {', '.join(ignored)}."
    match_no_abbreviation(parser, ["method", *own, *(option.name for option in PLUGIN_OPTIONS)])
    return parser


def add_diffusion_options(parser: argparse.ArgumentParser, command: str, chosen: Preset) -> list[str]:
    """Add `--method` and the group of the diffusion options.

    Returns
    -------
    list of str
        The names of those in the group, without those that the parser has already.
    """
    parser.add_argument("--method", choices=METHODS, default=METHODS[0], help="default: descriptor, MCRpy's own")
    there = {action.dest for action in parser._actions} | (set() if command == "match" else {"training_data"})
    group = parser.add_argument_group("diffusion options (with --method diffusion)")
    for option in OWN_OPTIONS:
        add_option(group, option, **ARGUMENTS.get(option.name, {}))
    for stage, names in OPTIONS_OF_SETTINGS.items():
        add_settings(parser, getattr(chosen, stage), only=set(names) - there, group=group)
    for settings in (RequestSettings(), FileSettings()):
        add_settings(parser, settings, leave_out={*there, *DESCRIPTOR_OPTIONS}, group=group)
    return [action.dest for action in group._group_actions]


def add_plugin_options(parser: argparse.ArgumentParser, *, all_plugins: bool = True) -> list[str]:
    """Add the group of the options of this package's plugins, or of its descriptors alone; return their names."""
    group = parser.add_argument_group(
        "options of this package's plugins (with --method descriptor)" if all_plugins else "option of PixelMSE",
        "--model, --seed, --sampler, --n_sampling_steps and --eta serve --optimizer_type Diffusion too"
        if all_plugins
        else None,
    )
    chosen = PLUGIN_OPTIONS if all_plugins else PLUGIN_OPTIONS[:1]
    for option in chosen:
        add_option(group, option, **ARGUMENTS.get(option.name, {}))
    return [option.name for option in chosen]


def add_image_options(parser: argparse.ArgumentParser) -> list[str]:
    """Add the group of options of reading image files; return their names."""
    group = parser.add_argument_group("image files")
    return [action.dest for action in add_settings(parser, ImageSettings(), only=OPTIONS_OF_IMAGES, group=group)]


def take_image_options(values: argparse.Namespace, reader: ImageReader) -> None:
    """Remove the options of reading image files from what MCRpy gets, and let the reader use them."""
    given = {name: vars(values).pop(name, None) for name in OPTIONS_OF_IMAGES}
    reader.folder = getattr(values, "data_folder", None)
    reader.settings = reader.settings.replace(**given, grey_values=bool(getattr(values, "grey_values", False)))


def choices_of(name: str) -> tuple[str, ...]:
    """Return the choices of an option among the plugins of MCRpy and this package; empty for other options."""
    kind = {"descriptor_types": "descriptors", "optimizer_type": "optimizers", "loss_type": "losses"}.get(name)
    return () if kind is None else tuple(plugin_names(kind))


def diffusion_options(given: Mapping[str, Any], flags: Mapping[str, str]) -> dict[str, Any]:
    """Return the options that count with diffusion, and the flags of the others as "ignored"."""
    known = {*MCRPY_OPTIONS, *fields_of(GenerationSettings), *(option.name for option in OWN_OPTIONS)}
    known.update(name for names in OPTIONS_OF_SETTINGS.values() for name in names)
    known.update(fields_of(RequestSettings) + fields_of(FileSettings))
    counting = {name: value for name, value in given.items() if name in known}
    ignored = [flags[name] for name in given if name not in known]
    return {**counting, "ignored": ignored} if ignored else counting


def take_options(
    prog: str,
    parser: argparse.ArgumentParser,
    values: argparse.Namespace,
    names: Sequence[str],
    options: dict[str, Any],
) -> None:
    """Remove the options of the given names from what MCRpy gets.

    Options that a selected plugin uses go into `options`; a warning names the others that were given.
    """
    taken = {name: vars(values).pop(name, None) for name in names}
    given = {name: value for name, value in taken.items() if value is not None and name != "method"}
    plugins = {f"--optimizer_type {getattr(values, 'optimizer_type', None)}"}
    plugins.update(f"--descriptor_types {name}" for name in getattr(values, "descriptor_types", None) or ())
    used = {name for plugin in plugins for name in OPTIONS_OF_PLUGINS.get(plugin, ())}
    options.update({name: value for name, value in given.items() if name in used})
    flags, of_plugins_alone = flags_of(parser), {option.name for option in PLUGIN_OPTIONS}
    ignored: dict[str, list[str]] = {}
    for name in given:
        if name not in used:
            plugin = next((each for each, takes in OPTIONS_OF_PLUGINS.items() if name in takes), "")
            ignored.setdefault(plugin if name in of_plugins_alone else "--method diffusion", []).append(flags[name])
    for wanted, unused in ignored.items():
        say_error(f"{prog}: warning: {', '.join(unused)}: used with {wanted} only, ignored")


def mcrpy_options_used(command: str) -> list[str]:
    """Return the names of MCRpy's options of a command that are used with --method diffusion."""
    known = {*MCRPY_OPTIONS, *fields_of(GenerationSettings)}
    return [keywords["dest"] for keywords in mcrpy_arguments(command).values() if keywords["dest"] in known]


def flags_of(parser: argparse.ArgumentParser) -> dict[str, str]:
    """Return the name of each option -> its flag."""
    return {action.dest: action.option_strings[0] for action in parser._actions if action.option_strings}


def match_no_abbreviation(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Forbid abbreviations of the options of the given names, so that MCRpy's --pr remains --profile."""
    find: Callable[[str], list[tuple[Any, ...]]] = parser._get_option_tuples  # type: ignore[assignment]

    def find_mcrpys(option: str) -> list[tuple[Any, ...]]:
        return [found for found in find(option) if found[0].dest not in names]

    setattr(parser, "_get_option_tuples", find_mcrpys)  # noqa: B010
