"""What all settings share: JSON in and out, and checks that name the value given and the values allowed."""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
import typing
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from mcrpy_diffusion.errors import InputError

S = TypeVar("S", bound="Settings")


@dataclass(frozen=True)
class Settings:
    """Base of all settings: JSON in and out, checks that name the value given and the values allowed."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that `json.dumps` takes (tuples become lists)."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls: type[S], values: dict[str, Any]) -> S:
        """Make the settings from a dictionary.

        Raises
        ------
        InputError
            If a key is not a field of these settings, or a value is out of range.
        """
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"unknown {cls.__name__} {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        given = {k: _as_tuple(v) for k, v in values.items()}
        hints = typing.get_type_hints(cls)
        for name, value in given.items():
            if not _is_of(value, hints[name]):
                kind = getattr(hints[name], "__name__", "") if isinstance(hints[name], type) else str(hints[name])
                raise InputError(f"{name} is {str(value)[:100]!r}; allowed is {kind}")
        return cls(**given)

    def replace(self: S, **changes: Any) -> S:
        """Return a copy with some fields changed; `None` values are left as they are."""
        return self.from_dict({**self.to_dict(), **{k: v for k, v in changes.items() if v is not None}})

    def _at_least(self, low: float, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or math.isnan(value) or value < low:
                raise InputError(f"{name} is {value!r}; allowed is a number of at least {low}")

    def _between(self, low: float, high: float, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or math.isnan(value) or not low <= value <= high:
                raise InputError(f"{name} is {value!r}; allowed is {low} to {high}")

    def _one_of(self, allowed: tuple[str, ...], *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(f"{name} is {value!r}; allowed are {', '.join(allowed)}")


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a value is of a field's type; whole numbers are floats too, truth values are no numbers."""
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is_of(each, typing.get_args(hint)[0]) for each in value)
    if typing.get_origin(hint) is dict:
        key, item = typing.get_args(hint)
        return isinstance(value, dict) and all(_is_of(k, key) and _is_of(v, item) for k, v in value.items())
    if typing.get_args(hint):  # X | None
        return any(_is_of(value, each) for each in typing.get_args(hint))
    if hint in (int, float):
        return isinstance(value, numbers.Integral if hint is int else numbers.Real) and not isinstance(value, bool)
    return isinstance(value, hint)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
