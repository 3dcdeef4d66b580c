"""Write docs/options.md, the options of all commands, from their parsers: `python docs/make_options.py`.

tests/test_documentation.py fails where the file is not what this makes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from mcrpy_diffusion.commands.mcrpy_options import (
    add_diffusion_options,
    add_image_options,
    add_plugin_options,
    mcrpy_options_used,
)
from mcrpy_diffusion.commands.options import option_of, preset_in_force
from mcrpy_diffusion.commands.parser import make_parser
from mcrpy_diffusion.settings import PRESETS, Option, preset

PATH = Path(__file__).with_name("options.md")
HEAD = """# Options

All options of all commands, made from their parsers by `python docs/make_options.py`. MCRpy's own options, which
`mcrpy_match`, `mcrpy_reconstruct` and `mcrpy_characterize` take too, are listed by `-h`. Where the presets differ, the
default is that of the preset in use; `-h` shows its values, for example `mcrpy_diffusion train --preset small -h`.
With `--model`, the sampler and its number of steps are the model's.
"""
FROM_PRESET = {
    "match": ("generation", "training", "sampling"),
    "reconstruct": ("generation", "training", "sampling"),
    "train": ("training",),
    "benchmark": ("generation", "training"),
}
"""Which settings of a preset a command starts from."""


def parser_with_ours(command: str) -> argparse.ArgumentParser:
    """Return a parser with what this package adds to a command of MCRpy's."""
    parser = argparse.ArgumentParser(add_help=False)
    if command == "characterize":
        add_plugin_options(parser, all_plugins=False)
        add_image_options(parser)
    else:
        add_diffusion_options(parser, command, preset_in_force([]))
        add_plugin_options(parser)
    return parser


def text() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for command in ("match", "reconstruct", "characterize"):
        parts.append(f"\n## mcrpy_{command}\n")
        if command != "characterize":
            used = ", ".join(f"`{name}`" for name in mcrpy_options_used(command))
            parts.append(f"\nWith `--method diffusion` these options of MCRpy are used too: {used}.\n")
        parts.extend(tables(parser_with_ours(command), command))
    for command, parser in make_parser().commands.items():
        parts.append(f"\n## mcrpy_diffusion {command}\n\n{parser.description}\n")
        parts.extend(tables(parser, command))
    return "".join(parts)


def tables(parser: argparse.ArgumentParser, command: str) -> Iterator[str]:
    """Yield a table for each group of a parser's options."""
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.option_strings and not isinstance(a, argparse._HelpAction)]
        shown = [a for a in actions if a.help != argparse.SUPPRESS]
        if not shown:
            continue
        title = "" if group.title in ("options", "optional arguments") else f"\n### {_upper(group.title or '')}\n"
        yield f"{title}\n| option | default | range | meaning |\n|---|---|---|---|\n"
        for action in shown:
            option = option_of(action) or Option(action.dest, str, help=action.help or "")
            flags = ", ".join(f"`{flag}`" for flag in action.option_strings)
            default = "required" if action.required else default_text(option, command)
            choices = ", ".join(map(str, action.choices or ()))
            allowed = " ".join(part for part in (choices or option.range_text, option.unit) if part)
            yield f"| {flags} | {default} | {allowed} | {option.help} |\n"


def default_text(option: Option, command: str) -> str:
    """Return the default of an option, by preset where these differ."""
    for part in FROM_PRESET.get(command, ()):
        values = {name: getattr(getattr(preset(name), part), option.name, None) for name in PRESETS}
        if len(set(values.values())) > 1:
            return ", ".join(f"{name}: {option.text_of(value)}" for name, value in values.items())
    return option.default_text


def _upper(words: str) -> str:
    return words[:1].upper() + words[1:]


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
    print(PATH)
