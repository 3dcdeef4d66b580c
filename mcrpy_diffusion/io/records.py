"""Typed records as JSON: the annotations of a dataclass are checked when a record is read."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from mcrpy_diffusion.errors import InputError

R = TypeVar("R", bound="Record")

LARGEST = 1e15
Number = Annotated[float, -LARGEST, LARGEST]  # type, lowest and highest value
Share = Annotated[float, 0, 1]
Index = Annotated[int, 0, LARGEST]
Count = Annotated[int, 1, LARGEST]
Interval = tuple[Number, Number]

_JSON_TYPES: dict[type, tuple[Any, str]] = {
    str: (str, "text"),
    bool: (bool, "true or false"),
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    list: ((list, tuple), "a list"),
    tuple: ((list, tuple), "a list"),
    dict: (Mapping, "a dictionary"),
}
_MAX_DEPTH, _MAX_PARTS = 50, 1_000_000


class Record:
    """Base of frozen dataclasses that are stored as JSON objects.

    A field that is None is left out of the JSON if None is its default, and is `null` there if it has no default.
    """

    skips_unknown: ClassVar[bool] = False
    """Whether `from_dict` ignores unknown keys instead of raising InputError."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary for `json.dumps`."""
        values = ((f, getattr(self, f.name)) for f in _fields(self))
        return {f.name: _plain(value) for f, value in values if value is not None or f.default is not None}

    @classmethod
    def from_dict(cls: type[R], values: Any, *, name: str | None = None) -> R:
        """Rebuild from the result of `to_dict`, or from JSON of an unknown source.

        Parameters
        ----------
        values : dict
        name : str, optional
            Name in messages; by default that of the class.

        Raises
        ------
        InputError
            If a key is missing or unknown, or a value is of another type or out of range.
        """
        name = name or cls.__name__
        if not isinstance(values, Mapping):
            raise _wrong(name, "a dictionary", values)
        known = {f.name: f for f in _fields(cls)}
        required = [k for k, f in known.items() if f.default is f.default_factory is dataclasses.MISSING]
        missing = [k for k in required if k not in values]
        if missing:
            raise InputError(f"{name} must have {', '.join(missing)}")
        unknown = [k for k in values if k not in known]
        if unknown and not cls.skips_unknown:
            raise InputError(f"{name} must have no other keys than {', '.join(known)}, got {unknown[0]!r:.100}")
        hints = typing.get_type_hints(cls, include_extras=True)
        return cls(**{k: _read(hints[k], values[k], f"{name}.{k}") for k in known if k in values})

    @classmethod
    def empty(cls: type[R], **given: Any) -> R:
        """Return a record whose other fields are None."""
        return cls(**{f.name: None for f in _fields(cls)} | given)

    def subset(self, kind: type[R], **given: Any) -> R:
        """Return a record of a class with a part of these fields, also in nested records, and the fields `given`."""
        hints = typing.get_type_hints(kind)
        names = [f.name for f in _fields(kind) if f.name not in given]
        return kind(**{name: _subset(hints[name], getattr(self, name)) for name in names}, **given)


def check_plain(value: Any, name: str) -> None:
    """Check a value for printing: finite numbers, flags, None, and text without control characters.

    Parameters
    ----------
    value : object
        Lists and dictionaries are searched.
    name : str
        Name of the value in the message.

    Raises
    ------
    InputError
        If it has other content, is too large or nested too deep.
    """
    layer = [value]
    for _ in range(_MAX_DEPTH):
        parts: list[Any] = []
        for each in layer:
            if isinstance(each, dict):
                parts += [*each, *each.values()]
            elif isinstance(each, (list, tuple)):
                parts += each
            elif isinstance(each, str):
                if not each.isprintable():
                    raise _wrong(name, "text of one line without control characters", each)
            elif each is not None and not (isinstance(each, (int, float)) and abs(each) < math.inf):
                raise _wrong(name, "text or finite numbers", each)
        if not parts:
            return
        if len(parts) > _MAX_PARTS:
            break
        layer = parts
    raise InputError(f"{name} must have at most {_MAX_PARTS} values and {_MAX_DEPTH} levels")


def _fields(record: Any) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(record)


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else value


def _subset(kind: Any, value: Any) -> Any:
    return value.subset(kind) if isinstance(value, Record) and _is_record(kind) else value


def _read(hint: Any, value: Any, name: str) -> Any:
    """Return a value of JSON as the type `hint`; raise InputError if it has another type or is out of range."""
    kind, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind is Annotated:
        return _in_range(_read(parts[0], value, name), hint.__metadata__, name)
    if kind in (types.UnionType, typing.Union):  # X | None, or records that differ in their keys
        if value is None and type(None) in parts:
            return None
        kinds = [part for part in parts if part is not type(None)]
        if len(kinds) > 1 and isinstance(value, Mapping):
            kinds.sort(key=lambda kind: -len(value.keys() & {f.name for f in _fields(kind)}))
        return _read(kinds[0], value, name)
    if _is_record(kind):
        return kind.from_dict(value, name=name)
    allowed, text = _JSON_TYPES[kind]
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(name, text, value)
    if kind is str:
        check_plain(value, name)
    if kind is dict:
        return {_read(parts[0], k, f"a key of {name}"): _read(parts[1], v, f"{name}.{k:.50}") for k, v in value.items()}
    if kind is tuple and parts[-1] is not Ellipsis:
        if len(value) != len(parts):
            raise _wrong(name, f"a list of {len(parts)} values", value)
        return tuple(_read(part, each, name) for part, each in zip(parts, value))
    return kind(_read(parts[0], each, name) for each in value) if kind in (tuple, list) else value


def _in_range(value: Any, limits: tuple[Any, ...], name: str) -> Any:
    """Check a text against a pattern, or a number against its lowest and highest value."""
    if isinstance(value, str):
        if not re.fullmatch(limits[0], value):
            raise _wrong(name, f"text like {limits[0]}", value)
    elif not limits[0] <= value <= limits[1]:  # also refuses NaN
        raise _wrong(name, f"between {limits[0]:g} and {limits[1]:g}", value)
    return value


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Record)


def _wrong(name: str, allowed: str, value: Any) -> InputError:
    return InputError(f"{name} must be {allowed}, got {value!r:.100}")
