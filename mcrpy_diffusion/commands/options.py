"""Options in argparse parsers: of settings, from their fields, and all others, described in the same way."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mcrpy_diffusion.settings import PRESET, PRESETS, Option, Preset, Settings, options_of, preset

METAVARS: dict[type, str] = {int: "N", float: "X", str: "NAME"}


def add_option(parser: Any, option: Option, *aliases: str, hidden: bool = False, **arguments: Any) -> argparse.Action:
    """Add an option to a parser or a group; what is not given on the command line is `None` after parsing.

    Parameters
    ----------
    parser : ArgumentParser or a group of one
    option : Option
        Name, type, choices, and the parts of the help text.
    *aliases : str
        Further flags, such as "--n_samples".
    hidden : bool
        Whether help texts leave the option out.
    **arguments
        For `add_argument`, in place of those that follow from the option.

    Returns
    -------
    argparse.Action
        `option_of` returns its option.
    """
    given: dict[str, Any] = {"default": None, "help": help_text(option).replace("%", "%%")}
    if option.type is bool:
        given["action"] = argparse.BooleanOptionalAction
    else:
        given["type"] = option.type
        if option.choices:
            given["choices"] = option.choices
        if option.is_list or not option.choices:
            given["metavar"] = METAVARS[option.type]
        if option.is_list:
            given["nargs"] = "*"
        if option.is_mapping:
            given.update(action=_StorePair, nargs=2, type=None, metavar=("NAME", METAVARS[option.type]))
    given.update(arguments)
    if given.get("action") in ("store_true", "store_false"):
        given.pop("type", None)
    if hidden:
        given["help"] = argparse.SUPPRESS
    action: argparse.Action = parser.add_argument(f"--{option.name}", *aliases, **given)
    setattr(action, "option", option)  # noqa: B010  argparse's class has no such attribute
    return action


def option_of(action: argparse.Action) -> Option | None:
    """Return the option that an action was made from, or `None` if argparse or MCRpy made it."""
    found: Option | None = getattr(action, "option", None)
    return found


def add_settings(
    parser: argparse.ArgumentParser,
    settings: Settings,
    *,
    only: Iterable[str] | None = None,
    leave_out: Iterable[str] = (),
    rename: Mapping[str, str] | None = None,
    aliases: Mapping[str, str] | None = None,
    if_none: Mapping[str, str] | None = None,
    group: Any = None,
) -> list[argparse.Action]:
    """Add an option for each field of settings, whose values are the defaults that help texts show.

    Parameters
    ----------
    parser : ArgumentParser
    settings : Settings
        The values in force if nothing is given, such as those of a preset.
    only, leave_out : iterable of str
        Names of the fields to add (default: all), and of fields to leave out.
    rename : mapping
        Name of a field -> name of its option.
    aliases : mapping
        Name of a field -> a second name.
    if_none : mapping
        Name of a field -> what decides its value, in place of the value in `settings`.
    group : argparse group, optional
        Where the options go; default: groups by the fields' `group`.

    Returns
    -------
    list of argparse.Action
        They store nothing but what is given; former names of fields are hidden options.
    """
    rename, aliases, if_none = rename or {}, aliases or {}, if_none or {}
    former = {name: old for old, name in settings.RENAMED.items()}
    added = []
    for option in options_of(type(settings)):
        name = option.name
        if (only is not None and name not in only) or name in leave_out:
            continue
        default = None if name in if_none else getattr(settings, name)
        shown = replace(option, name=rename.get(name, name), default=default, if_none=if_none.get(name, option.if_none))
        target = _group(parser, option.group or "settings") if group is None else group
        added.append(add_option(target, shown, *([f"--{aliases[name]}"] if name in aliases else [])))
        if name in former:
            add_option(target, replace(shown, name=former[name]), hidden=True, dest=shown.name)
    return added


def preset_in_force(arguments: Sequence[str]) -> Preset:
    """Return the preset that a command line names, the default one if it names none that exists."""
    name = PRESET.default
    for word, following in zip(arguments, [*arguments[1:], ""]):
        flag, _, value = word.partition("=")
        if flag == f"--{PRESET.name}":
            name = value or following
    return preset(name if name in PRESETS else PRESET.default)


def shared_option(name: str, kinds: Mapping[str, type[Settings]]) -> Option:
    """Return one option for a field that several kinds of settings have, with the defaults of each."""
    found = {kind: option for kind, settings in kinds.items() for option in options_of(settings) if option.name == name}
    (first, *others) = found.values()
    default = ", ".join(f"{kind}: {option.default_text}" for kind, option in found.items())
    shared = replace(first, default=None, if_none=default)
    if all((option.help, option.range_text) == (first.help, first.range_text) for option in others):
        return shared
    text = "; ".join(f"{kind}: {option.help} ({option.range_text})" for kind, option in found.items())
    return replace(shared, help=text, low=None, high=None)


def check_values(parser: argparse.ArgumentParser, values: Mapping[str, Any]) -> None:
    """Raise InputError where a value given is out of its option's range."""
    for action in parser._actions:
        option, value = option_of(action), values.get(action.dest)
        if option is not None and value is not None:
            option.check(tuple(value) if option.is_list else value)


def fields_of(settings: type[Settings]) -> list[str]:
    """Return the names of the fields of a settings class."""
    return [option.name for option in options_of(settings)]


def help_text(option: Option) -> str:
    """Return the help of an option with its unit, range and default in parentheses."""
    notes = [option.unit, option.range_text]
    if option.is_list and option.choices:
        notes.append(f"out of {', '.join(option.choices)}")
    if option.default_text:
        notes.append(f"default: {option.default_text}")
    together = "; ".join(note for note in notes if note)
    return f"{option.help} ({together})" if together else option.help


class _StorePair(argparse.Action):
    """Collects `--option NAME VALUE` into a dictionary."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        option = option_of(self)
        assert option is not None
        name, text = values
        try:
            value = option.type(text)
        except ValueError:
            raise argparse.ArgumentError(self, f"invalid {option.type.__name__} value: {text!r}") from None
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest) or {}), name: value})


def _group(parser: argparse.ArgumentParser, title: str) -> Any:
    """Return the parser's group of that title, a new one if there is none."""
    found = next((each for each in parser._action_groups if each.title == title), None)
    return parser.add_argument_group(title) if found is None else found
