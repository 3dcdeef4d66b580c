"""One source for an option: a dataclass field whose metadata hold help, unit, range and choices.

Checks, command line, forms and documentation are made from them. Settings are written to and read from JSON.
"""

from __future__ import annotations

import dataclasses
import json
import numbers
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from mcrpy_diffusion.errors import InputError

S = TypeVar("S", bound="Settings")

MAX_SEED = 2**40  # times a million, as in training, it is still an integer of 64 bits
KINDS: dict[type, tuple[Any, str]] = {
    bool: (bool, "true or false"),
    int: (numbers.Integral, "an integer"),
    float: (numbers.Real, "a number"),
    str: (str, "text"),
}
"""Type of an option -> what its values are instances of, and how a message calls it."""


@dataclass(frozen=True)
class Option:
    """An option of a command or a form, and the check of its value.

    Parameters
    ----------
    name : str
    type : type
        Of a single value: bool, int, float or str.
    default
        What holds if the option is not given.
    help : str
        What the option means, without unit, range, choices and default.
    unit : str
    low, high : float, optional
        Smallest and largest value.
    choices : tuple of str
        The values allowed; empty if any are.
    beginner : bool
        Whether a newcomer needs it.
    group : str
        Heading under which help and forms show it.
    if_none : str
        What a default of `None` stands for.
    is_list, is_mapping, is_optional : bool
        Whether the value is a tuple, or a dictionary by name, or may be `None`.
    """

    name: str
    type: type
    default: Any = None
    help: str = ""
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    beginner: bool = False
    group: str = ""
    if_none: str = ""
    is_list: bool = False
    is_mapping: bool = False
    is_optional: bool = False

    @property
    def range_text(self) -> str:
        """The range in words, such as "0 to 1" or "at least 8"."""
        if self.low is not None and self.high is not None:
            return f"{_number(self.low)} to {_number(self.high)}"
        if self.low is not None:
            return f"at least {_number(self.low)}"
        return "" if self.high is None else f"at most {_number(self.high)}"

    @property
    def default_text(self) -> str:
        """The default in words, as it would be typed; "" where there is none."""
        return self.text_of(self.default)

    def text_of(self, value: Any) -> str:
        """Return a value of this option as it would be typed."""
        if value is None:
            return self.if_none
        if isinstance(value, (tuple, list, dict)):
            return " ".join(map(str, value)) or "none"
        return str(value)

    def check(self, value: Any) -> None:
        """Raise InputError where a value is of another type, out of range or none of the choices."""
        if value is None and self.is_optional:
            return
        kind, words = KINDS[self.type]
        container: type | None = dict if self.is_mapping else tuple if self.is_list else None
        if container is not None and not isinstance(value, container):
            plural = "a mapping of names to values" if self.is_mapping else "a list"
            raise InputError(f"{self.name} must be {plural}, got {_short(value)}")
        of_each = f"each of {self.name}" if container else self.name
        values: Iterable[Any] = value.values() if self.is_mapping else value if self.is_list else (value,)
        for one in values:
            if not isinstance(one, kind) or (isinstance(one, bool) and self.type is not bool) or one != one:  # nan
                raise InputError(f"{of_each} must be {words}, got {_short(one)}")
            if self.choices and one not in self.choices:
                raise InputError(f"{of_each} must be one of {', '.join(self.choices)}, got {_short(one)}")
            if (self.low is not None and not one >= self.low) or (self.high is not None and not one <= self.high):
                both = self.low is not None and self.high is not None
                allowed = f"between {_number(self.low)} and {_number(self.high)}" if both else self.range_text
                raise InputError(f"{of_each} must be {allowed}, got {_short(one)}")


def option(
    default: Any,
    help: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    beginner: bool = False,
    group: str = "",
    if_none: str = "",
) -> Any:
    """Return a field of a settings class; the parameters are those of `Option`."""
    metadata = {
        "help": help,
        "unit": unit,
        "low": low,
        "high": high,
        "choices": choices,
        "beginner": beginner,
        "group": group,
        "if_none": if_none,
    }
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def option_like(settings: type[Settings], name: str) -> Any:
    """Return a field that means the same as one of another settings class."""
    (field,) = (each for each in dataclasses.fields(settings) if each.name == name)
    return option(_default(field), **field.metadata)


@dataclass(frozen=True)
class Settings:
    """Base of all settings: checks by the fields' metadata, JSON in and out."""

    RENAMED = dict[str, str]()  # former name of a field -> its name; without annotation, as it is no field

    def __post_init__(self) -> None:
        for each in options_of(type(self)):
            value = getattr(self, each.name)
            if isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, each.name, value)
            each.check(value)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that `json.dumps` takes (tuples become lists)."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls: type[S], values: dict[str, Any]) -> S:
        """Make the settings from a dictionary, whose keys may be former names.

        Raises
        ------
        InputError
            If a key is not a field of these settings, or a value is out of range.
        """
        values = cls.renamed(values)
        known = [f.name for f in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise InputError(f"unknown {cls.__name__} {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        return cls(**values)

    @classmethod
    def renamed(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Return the values under today's names; a former name gives way to today's."""
        former = {cls.RENAMED[name]: value for name, value in values.items() if name in cls.RENAMED}
        return {**former, **{name: value for name, value in values.items() if name not in cls.RENAMED}}

    def replace(self: S, **changes: Any) -> S:
        """Return a copy with some fields changed; `None` values are left as they are."""
        given = {name: value for name, value in changes.items() if value is not None}
        return self.from_dict({**self.to_dict(), **self.renamed(given)})


def options_of(settings: type[Settings]) -> tuple[Option, ...]:
    """Return an option for each field of a settings class, in their order."""
    hints = typing.get_type_hints(settings)
    return tuple(_option_of(field, hints[field.name]) for field in dataclasses.fields(settings))


def _option_of(field: dataclasses.Field[Any], hint: Any) -> Option:
    is_optional = isinstance(hint, types.UnionType)
    if is_optional:
        (hint,) = (each for each in typing.get_args(hint) if each is not types.NoneType)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    return Option(
        name=field.name,
        type=arguments[0] if origin is tuple else arguments[1] if origin is dict else hint,
        default=_default(field),
        is_list=origin is tuple,
        is_mapping=origin is dict,
        is_optional=is_optional,
        **field.metadata,
    )


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _number(value: float | None) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _short(value: Any) -> str:
    """The beginning of a value in a message; files of strangers may hold any."""
    return repr(value)[:100]
