"""Reading files of unknown origin: regular files of limited size, JSON, folders without symbolic links."""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mcrpy_diffusion.errors import InputError

MAX_JSON_BYTES = 2**26
_MAX_DEPTH = 50  # of JSON; files of this package have 5 levels


def open_regular(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a regular file for reading; a pipe or a device could block forever.

    Raises
    ------
    InputError
        If it is not a regular file.
    OSError
        If it cannot be opened.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise InputError(f"{os.fspath(path)!r} must be a regular file")
    return open(path, "rb")


def read_bytes(path: str | os.PathLike[str], *, at_most: int = MAX_JSON_BYTES) -> bytes:
    """Read a file of limited size; raises as `open_regular`, and InputError for a larger file."""
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        if size > at_most:
            raise InputError(f"{os.fspath(path)!r} must have at most {at_most} bytes, got {size}")
        return stream.read(size)  # a larger argument would allocate as much


def parse_json(raw: bytes | str) -> Any:
    """Parse JSON in which no key is repeated.

    Raises
    ------
    ValueError
        If it is not JSON, a key is repeated (readers use different values), or it is nested too deeply.
    """
    try:
        value = json.loads(raw if isinstance(raw, str) else raw.decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    layer, depth = [value], 0
    while layer := [part for each in layer if isinstance(each, (dict, list)) for part in _parts(each)]:
        depth += 1
        if depth > _MAX_DEPTH:
            raise ValueError("it is nested too deeply")
    return value


def read_json(path: str | os.PathLike[str], *, at_most: int = MAX_JSON_BYTES) -> Any:
    """Read a JSON file; raises as `read_bytes` and `parse_json`."""
    return parse_json(read_bytes(path, at_most=at_most))


def reject_symlinks(*paths: Path) -> None:
    """Raise InputError if a path is a symbolic link, which could point outside its folder, or a pipe or device."""
    for path in paths:
        if path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir()):
            kind = "a link" if path.is_symlink() else "a pipe or a device"
            raise InputError(f"{str(path)!r} must be a file or a folder, got {kind}")


def _parts(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {key[:100]!r} is repeated")
        values[key] = value
    return values
