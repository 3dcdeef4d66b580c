"""Atomic writing of files: to a temporary name in the same folder, which is then renamed."""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from mcrpy_diffusion.errors import InputError

Write = Callable[[BinaryIO], Any]
"""Writes the content of a file into an open binary file."""


def write_atomically(path: str | os.PathLike[str], write: Write) -> None:
    """Call `write` with an open binary file, and rename it to `path` once it is complete and on disk."""
    with _temporary(Path(path), write) as temporary:
        os.replace(temporary, path)


def write_if_absent(path: str | os.PathLike[str], write: Write) -> bool:
    """Write a file like `write_atomically`, unless a file of that name with the same content exists.

    Returns
    -------
    bool
        Whether it was written.

    Raises
    ------
    InputError
        If the file that exists has another content.
    """
    with _temporary(Path(path), write) as temporary:
        if not os.path.exists(path):
            os.replace(temporary, path)
            return True
        if not filecmp.cmp(temporary, path, shallow=False):
            raise InputError(f"{os.fspath(path)!r} exists with another content; delete it or give another folder")
        return False


@contextlib.contextmanager
def _temporary(path: Path, write: Write) -> Iterator[str]:
    """Yield the name of a complete file in the folder of `path`, which is deleted if it is not renamed."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        os.close(handle)
        with open(temporary, "wb") as file:  # with its name, which tifffile asks for
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        yield temporary
    finally:
        Path(temporary).unlink(missing_ok=True)


def write_file(path: str | os.PathLike[str], content: bytes | str) -> None:
    """Write bytes, or text as UTF-8."""
    data = content.encode() if isinstance(content, str) else content
    write_atomically(path, lambda file: file.write(data))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a value as indented JSON."""
    write_file(path, json.dumps(value, indent=2, sort_keys=False, allow_nan=False) + "\n")


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create a folder if necessary; raise InputError if it cannot be written to."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise InputError(f"{path} must be a writable folder ({error.strerror}); give another one") from error
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
