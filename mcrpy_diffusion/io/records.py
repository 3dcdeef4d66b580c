"""Typed records to JSON and back: the annotations of a dataclass are what is checked when one is read."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar

from mcrpy_diffusion.errors import InputError

R = TypeVar("R", bound="Record")


@dataclass(frozen=True)
class Between:
    """The range of a number, for `Annotated`; both ends belong to it."""

    low: float
    high: float


LARGEST = 1e15
Number = Annotated[float, Between(-LARGEST, LARGEST)]
Share = Annotated[float, Between(0, 1)]
Index = Annotated[int, Between(0, LARGEST)]
Count = Annotated[int, Between(1, LARGEST)]
Interval = tuple[Number, Number]

_MAX_DEPTH, _MAX_PARTS = 50, 1_000_000


class Record:
    """Base of frozen dataclasses that are stored as JSON objects.

    A field whose default is None is left out of the JSON where it is None; a field without a default that may be None
    is `null` there.
    """

    skips_unknown: ClassVar[bool] = False
    """Whether `from_dict` ignores keys that are no fields, instead of refusing them."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that `json.dumps` takes."""
        values = ((f, getattr(self, f.name)) for f in _fields(self))
        return {f.name: _plain(value) for f, value in values if value is not None or f.default is not None}

    @classmethod
    def from_dict(cls: type[R], values: Any, *, name: str | None = None) -> R:
        """Rebuild from what `to_dict` returned, or from JSON of an unknown source.

        Parameters
        ----------
        values : dict
        name : str, optional
            What it is called in messages; by default the class.

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

    def subset(self, kind: type[R], **given: Any) -> R:
        """Return a record of another class, of whose fields this one has all but those given; nested records too."""
        hints = typing.get_type_hints(kind)
        names = [f.name for f in _fields(kind) if f.name not in given]
        return kind(**{name: _subset(hints[name], getattr(self, name)) for name in names}, **given)


def check_plain(value: Any, name: str) -> None:
    """Check what is printed or written as it is: finite numbers, flags, None, and text without control characters.

    Parameters
    ----------
    value : object
        Lists and dictionaries are searched.
    name : str
        What the value is called in the message.

    Raises
    ------
    InputError
        If it holds anything else, or is too large or nested too deep.
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


def _subset(hint: Any, value: Any) -> Any:
    """Return a value, if it is a record that of the class which the type `hint` names."""
    kinds = [each for each in (hint, *typing.get_args(hint)) if _is_record(each)]
    return value.subset(kinds[0]) if isinstance(value, Record) and kinds and type(value) not in kinds else value


def _read(hint: Any, value: Any, name: str) -> Any:
    """Return a value of JSON as the type `hint` says; raise InputError where it is none."""
    kind, parts = typing.get_origin(hint), typing.get_args(hint)
    if kind is Annotated:
        return _in_range(_read(parts[0], value, name), parts[1], name)
    if kind in (types.UnionType, typing.Union):
        return _read_union(parts, value, name)
    if kind is tuple and parts[-1] is not Ellipsis:
        if not isinstance(value, (list, tuple)) or len(value) != len(parts):
            raise _wrong(name, f"a list of {len(parts)} values", value)
        return tuple(_read(part, each, name) for part, each in zip(parts, value))
    if kind in (tuple, list):
        if not isinstance(value, (list, tuple)):
            raise _wrong(name, "a list", value)
        return kind(_read(parts[0], each, name) for each in value)
    if kind is dict:
        if not isinstance(value, Mapping):
            raise _wrong(name, "a dictionary", value)
        return {_read(parts[0], k, f"a key of {name}"): _read(parts[1], v, f"{name}.{k:.50}") for k, v in value.items()}
    if _is_record(hint):
        return hint.from_dict(value, name=name)
    return _read_scalar(hint, value, name)


def _read_union(kinds: tuple[Any, ...], value: Any, name: str) -> Any:
    """Read X | None, or one of several records, which their keys tell apart."""
    if value is None and type(None) in kinds:
        return None
    left = [kind for kind in kinds if kind is not type(None)]
    if len(left) > 1 and isinstance(value, Mapping):
        left.sort(key=lambda kind: -len(value.keys() & {f.name for f in _fields(kind)}))
    return _read(left[0], value, name)


def _read_scalar(kind: type, value: Any, name: str) -> Any:
    if kind is str:
        if not isinstance(value, str):
            raise _wrong(name, "text", value)
        check_plain(value, name)
    elif kind is bool:
        if not isinstance(value, bool):
            raise _wrong(name, "true or false", value)
    elif not isinstance(value, (int,) if kind is int else (int, float)) or isinstance(value, bool):
        raise _wrong(name, "a whole number" if kind is int else "a number", value)
    return value


def _in_range(value: Any, limits: Between | str, name: str) -> Any:
    if isinstance(limits, str):
        if not re.fullmatch(limits, value):
            raise _wrong(name, f"text like {limits}", value)
    elif not limits.low <= value <= limits.high:  # NaN neither
        raise _wrong(name, f"between {limits.low:g} and {limits.high:g}", value)
    return value


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Record)


def _wrong(name: str, allowed: str, value: Any) -> InputError:
    return InputError(f"{name} must be {allowed}, got {value!r:.100}")
