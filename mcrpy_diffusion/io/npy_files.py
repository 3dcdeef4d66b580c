"""Reading .npy and .npz files of strangers: numbers only, and no memory before the header is known to be true.

`numpy.load` takes the memory that a header claims before it looks whether the file holds as much, and unpacks the
members of an archive whole. Here the claim is checked first, and objects (which are pickles) are refused.
"""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Callable
from math import prod
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

from mcrpy_diffusion.errors import InputError, one_line
from mcrpy_diffusion.io.untrusted import open_regular

MAX_BYTES = 2**32
"""The most that one array may take, whatever the size of its file: files can be sparse."""

_MAX_HEADER_BYTES = 10_000  # what numpy itself accepts
_MAX_AXES = 8
_LEAST_COMPRESSED = 1 / 1040  # deflate makes no byte less than this of one

Check = Callable[[tuple[int, ...], np.dtype], None]
"""Called with shape and type before the values are read; raises InputError where they are not wanted."""


class Budget:
    """How much more may be read of many files, each of which may be innocent alone.

    Parameters
    ----------
    kind : str
        What they are, in the message.
    n_bytes : int
    """

    def __init__(self, kind: str, n_bytes: int = MAX_BYTES) -> None:
        self._kind, self._n_bytes, self._left = kind, n_bytes, n_bytes

    def take(self, name: str, n_bytes: int) -> None:
        """Raise InputError where that many bytes more become too many."""
        self._left -= n_bytes
        if self._left < 0:
            raise InputError(
                f"with {name!r} the {self._kind} take more than {self._n_bytes / 2**30:.3g} GiB; give fewer at once"
            )


def load_npy(path: str | os.PathLike[str], *, check: Check | None = None) -> np.ndarray:
    """Read a .npy file.

    Parameters
    ----------
    path : path
    check : callable, optional
        Called with shape and type before the values are read.

    Returns
    -------
    array of bool, integers or floats of up to 64 bits
        In native byte order, C-contiguous, and the caller's own.

    Raises
    ------
    InputError
        If the file cannot be read, is cut short, or holds anything else, such as pickled objects.
    """
    shown = repr(os.fspath(path))
    try:
        with open_regular(path) as stream:
            return read_npy(stream, shown, os.fstat(stream.fileno()).st_size, check=check)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{shown} cannot be read ({error.strerror or error})") from error
    except Exception as error:  # broken files raise many kinds
        raise InputError(f"{shown} is not a valid .npy file: {one_line(error)}") from error


def read_npy(stream: IO[bytes], shown: str, n_bytes: int, *, check: Check | None = None) -> np.ndarray:
    """Read one array from a stream; see `load_npy`.

    Parameters
    ----------
    stream : binary stream at the array's beginning
    shown : str
        The file's name in messages.
    n_bytes : int
        What the stream holds: nothing is read where the header claims more.
    check : callable, optional

    Raises
    ------
    InputError
        As `load_npy`; what numpy's header reader raises passes through.
    """
    version = npy_format.read_magic(stream)
    length_format = {(1, 0): "<H", (2, 0): "<I"}.get(version)
    if length_format is None:
        raise InputError(f"{shown} is a .npy file of version {version}; allowed are 1.0 and 2.0, plain arrays")
    length_bytes = stream.read(struct.calcsize(length_format))
    (header_length,) = struct.unpack(length_format, length_bytes)
    if header_length > _MAX_HEADER_BYTES:
        raise InputError(f"{shown} has a header of {header_length} bytes; allowed are {_MAX_HEADER_BYTES}")
    header = _Prefixed(length_bytes + stream.read(header_length))
    read_header = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, fortran_order, dtype = read_header(header)
    check_type(dtype, shown)
    if check is not None:
        check(shape, dtype)
    if len(shape) > _MAX_AXES or any(n < 0 for n in shape):
        raise InputError(f"{shown} has the shape {shape}; allowed are up to {_MAX_AXES} axes of at least 0")
    wanted = prod(shape) * dtype.itemsize
    if wanted > MAX_BYTES:
        raise InputError(f"{shown} claims {' x '.join(map(str, shape))} numbers; allowed are {MAX_BYTES} bytes in all")
    held = n_bytes - npy_format.MAGIC_LEN - len(length_bytes) - header_length
    if held < wanted:
        raise InputError(f"{shown} ends early: {held} of {wanted} bytes are there; write the file again")
    raw = np.empty(wanted, dtype=np.uint8)
    _fill(stream, raw.data, shown)
    values = raw.view(dtype).reshape(shape, order="F" if fortran_order else "C")
    return np.ascontiguousarray(values, dtype=dtype.newbyteorder("=")).reshape(shape)


def archive_members(stream: IO[bytes], shown: str) -> dict[str, Callable[..., np.ndarray]]:
    """Return the arrays of a .npz file by name, each as a function that reads it while the stream is open.

    The functions take `check` as `load_npy` does, and raise InputError as it does, also where a member claims more
    than its compressed bytes can hold. What `zipfile` raises on a broken archive passes through.
    """
    archive = zipfile.ZipFile(stream)
    members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
    return {info.filename.removesuffix(".npy"): _reader(archive, info, shown) for info in members}


def _reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo, shown: str) -> Callable[..., np.ndarray]:
    def read(check: Check | None = None) -> np.ndarray:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{shown} is packed in a way that numpy does not use; write it with numpy.savez")
        stored = info.compress_type == zipfile.ZIP_STORED
        if info.compress_size < (1.0 if stored else _LEAST_COMPRESSED) * info.file_size - 100:
            raise InputError(f"{shown} claims {info.file_size} bytes in {info.compress_size} compressed ones")
        with archive.open(info) as member:
            return read_npy(member, shown, info.file_size, check=check)

    return read


def check_type(dtype: np.dtype, shown: str) -> None:
    """Raise InputError where an array's type is not one of plain numbers."""
    if dtype.hasobject:
        raise InputError(f"{shown} holds Python objects, which could run code when read; allowed are numbers")
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise InputError(f"{shown} holds {dtype}; allowed are integers, bool and floats of up to 64 bits")


def _fill(stream: IO[Any], left: memoryview, shown: str) -> None:
    n_wanted = len(left)
    while len(left):
        part = stream.read(min(len(left), 2**24))
        if not part:
            raise InputError(
                f"{shown} ends early: {n_wanted - len(left)} of {n_wanted} bytes are there; write the file again"
            )
        left[: len(part)] = part
        left = left[len(part) :]


class _Prefixed:
    """The bytes of a header as the stream that numpy's header readers want."""

    def __init__(self, data: bytes) -> None:
        self._data, self._position = data, 0

    def read(self, size: int) -> bytes:
        part = self._data[self._position : self._position + size]
        self._position += len(part)
        return part
