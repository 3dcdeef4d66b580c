"""Write docs/options.md, the options of all commands, from their parsers: `python docs/make_options.py`.

tests/test_documentation.py fails where the file is not what this makes.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from mcrpy_diffusion.commands import cli
from mcrpy_diffusion.commands import mcrpy_commands as commands
from mcrpy_diffusion.commands.gui_forms import HELP
from mcrpy_diffusion.commands.options import option_of
from mcrpy_diffusion.settings import (
    PRESETS,
    AlloySettings,
    BenchmarkSettings,
    FibreSettings,
    GenerationSettings,
    SamplingSettings,
    TrainingSettings,
    preset,
)

PATH = Path(__file__).with_name("options.md")
HEAD = """# Options

All options of all commands, made from their parsers by `python docs/make_options.py`. MCRpy's own options, which
`mcrpy_match`, `mcrpy_reconstruct` and `mcrpy_characterize` take too, are those of `-h`. A default in the column of that
name is the option's own; `train` takes what is not given from the preset, whose values stand beside it.
"""
SETTINGS = {
    "match": (GenerationSettings,),
    "generate": (GenerationSettings, FibreSettings, AlloySettings),
    "train": (TrainingSettings,),
    "sample": (SamplingSettings,),
    "benchmark": (BenchmarkSettings, TrainingSettings),
}
IN_HELP = (r" \(default: ([^)]+)\)", r"^default: ([^,]+)", r"(\S+): [^;:]*\(default\)")  # how help texts say a default
WITH_PARENTHESES = ("evaluate", "export", "benchmark")  # their help texts end with the default
IN_PARENTHESES = (r" \(([^()]+)\)$",)


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parsers of the commands that are not MCRpy's, by name."""
    (choices,) = (a.choices for a in cli.make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(choices)


def parser_with_ours(command: str) -> argparse.ArgumentParser:
    """Return a parser with what this package adds to a command of MCRpy's."""
    parser = argparse.ArgumentParser(add_help=False)
    if command == "characterize":
        commands._add_plugin_options(parser, ["references"])
    else:
        commands._add_options(parser, command)
        commands._add_plugin_options(parser, list(commands._PLUGIN_OPTIONS))
    return parser


def text() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for command in ("match", "reconstruct", "characterize"):
        parts.append(f"\n## mcrpy_{command}\n")
        if command != "characterize":
            used = ", ".join(f"`{option}`" for option in sorted(commands.MCRPY_OPTIONS_USED))
            parts.append(f"\nWith `--method diffusion` these of MCRpy's options count too: {used}.\n")
        parts.extend(tables(parser_with_ours(command), command))
    for command, parser in parsers().items():
        parts.append(f"\n## mcrpy_diffusion {command}\n\n{_upper(parser.description or '')}.\n")
        parts.extend(tables(parser, command))
    return "".join(parts)


def tables(parser: argparse.ArgumentParser, command: str) -> Iterator[str]:
    """Yield a table for each group of a parser's options."""
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.option_strings and not isinstance(a, argparse._HelpAction)]
        if not actions:
            continue
        title = "" if group.title in ("options", "optional arguments") else f"\n### {_upper(group.title or '')}\n"
        yield f"{title}\n| option | default | meaning |\n|---|---|---|\n"
        for action in actions:
            default, meaning = default_and_meaning(action, command)
            offered = f" ({', '.join(map(str, action.choices))})" if action.choices else ""
            flags = ", ".join(f"`{flag}`" for flag in action.option_strings)
            yield f"| {flags} | {default} | {meaning}{offered} |\n"


def default_and_meaning(action: argparse.Action, command: str) -> tuple[str, str]:
    """Return what an option is where it is not given, and what it means, without that."""
    name, meaning = action.option_strings[0].removeprefix("--"), (action.help or "").strip()
    option = option_of(action)
    if option is not None:
        notes = "; ".join(note for note in (option.unit, option.range_text) if note)
        values = {each: getattr(preset(each).training, name, None) for each in PRESETS}
        default = option.default_text
        if command in ("train", "benchmark") and len(set(values.values())) > 1:
            default = ", ".join(f"{each}: {option.text_of(value)}" for each, value in values.items())
        return default, f"{option.help} ({notes})" if notes else option.help
    if action.required:
        return "required", meaning or _help_of_the_form(name, command)
    if action.default not in (None, argparse.SUPPRESS):
        return _plain(action.default), meaning.removeprefix(f"default: {action.default}, ")
    for pattern in IN_PARENTHESES if command in WITH_PARENTHESES else IN_HELP:
        found = re.search(pattern, meaning)
        if found:
            return found[1], meaning.replace(found[0], "") if "(" in found[0][:2] else meaning
    of_settings = _settings_default(name, command)
    if meaning == "" or meaning.startswith("("):  # the settings' own default
        meaning = _help_of_the_form(name, command)
    return of_settings, meaning


def _help_of_the_form(name: str, command: str) -> str:
    """Return what the GUI says of an option, of another command's where this one has no form."""
    forms = [HELP.get(command, {}), *HELP.values()]
    return next((form[name] for form in forms if name in form), "").rstrip(".")


def _settings_default(name: str, command: str) -> str:
    """Return the default of a field of the command's settings, by preset where these differ."""
    name = "n_sampling_steps" if name == "n_steps" else name
    if command in ("train", "benchmark"):
        values = {each: getattr(preset(each).training, name, None) for each in PRESETS}
        if len(set(values.values())) > 1:
            return ", ".join(f"{each}: {_plain(value)}" for each, value in values.items())
    found: list[str] = []
    for settings in SETTINGS.get(command, ()):
        if name in settings.__dataclass_fields__ and _plain(getattr(settings(), name)) not in found:
            found.append(_plain(getattr(settings(), name)))
    if len(found) > 1:
        return f"{found[0] or 'random'} (fibre), {found[1]} (alloy)"
    return found[0] if found else ""


def _upper(words: str) -> str:
    return words[:1].upper() + words[1:]


def _plain(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, (tuple, list, dict)):
        return " ".join(map(str, value)) or "none"
    return str(value)


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
    print(PATH)
