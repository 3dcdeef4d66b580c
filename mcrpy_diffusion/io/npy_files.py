"""Reading .npy and .npz files of unknown origin: arrays of numbers, checked before memory is allocated.

numpy's own functions read the header. The size that it states is compared with the size of the file, and pickled
objects are rejected.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from math import prod

import numpy as np
from numpy.lib import format as npy_format

from mcrpy_diffusion.errors import InputError, one_line
from mcrpy_diffusion.io.untrusted import open_regular

MAX_BYTES = 2**32
"""Size limit of one array, whatever the size of its file: files can be sparse."""

_HEADER_BYTES = 2**14  # numpy accepts headers of up to 10,000 bytes
_READ_HEADER = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
_MAX_COMPRESSION = 1040  # of deflate, the method that numpy uses

Check = Callable[[tuple[int, ...], np.dtype], None]
"""Called with shape and type before the values are read; raises InputError where they cannot be used."""


class Budget:
    """Size limit of several files together.

    Parameters
    ----------
    kind : str
        What the files hold, for the message.
    n_bytes : int
    """

    def __init__(self, kind: str, n_bytes: int = MAX_BYTES) -> None:
        self._kind, self._n_bytes, self._left = kind, n_bytes, n_bytes

    def take(self, name: str, n_bytes: int) -> None:
        """Count the bytes of one more array; raise InputError where the limit is exceeded."""
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
        In native byte order, C-contiguous, with memory of its own.

    Raises
    ------
    InputError
        If the file cannot be read, is truncated, or holds anything else, such as pickled objects.
    """
    shown = repr(os.fspath(path))
    try:
        with open_regular(path) as stream:
            return read_npy(stream, shown, os.fstat(stream.fileno()).st_size, check=check)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{shown} cannot be read: {one_line(error)}") from error
    except Exception as error:  # broken files raise many kinds
        raise InputError(f"{shown} is not a valid .npy file: {one_line(error)}") from error


def read_npy(stream: io.BufferedIOBase, shown: str, n_bytes: int, *, check: Check | None = None) -> np.ndarray:
    """Read an array from a stream that holds `n_bytes`; see `load_npy`.

    Parameters
    ----------
    stream : seekable binary stream at the array's beginning
    shown : str
        The file's name in messages.
    n_bytes : int
    check : callable, optional

    Raises
    ------
    InputError
        As `load_npy`. Errors of numpy's header reader pass through.
    """
    header = io.BytesIO(stream.read(_HEADER_BYTES))  # of a length that is not the file's claim
    version = npy_format.read_magic(header)
    if version not in _READ_HEADER:
        raise InputError(f"{shown} must be a .npy file of version 1.0 or 2.0, got {version[0]}.{version[1]}")
    shape, fortran_order, dtype = _READ_HEADER[version](header)
    check_type(dtype, shown)
    if check is not None:
        check(shape, dtype)
    size, n_held = prod(shape) * dtype.itemsize, n_bytes - header.tell()
    if not 0 <= size <= min(MAX_BYTES, n_held):
        limit = f"{MAX_BYTES} bytes at most" if size > MAX_BYTES else f"the file holds {n_held}"
        raise InputError(f"{shown} claims {size} bytes of shape {str(shape)[:100]}, but {limit}; write the file again")
    stream.seek(header.tell())
    raw = np.empty(size, dtype=np.uint8)
    if stream.readinto(raw.data) != size:
        raise InputError(f"{shown} is truncated; write the file again")
    values = raw.view(dtype).reshape(shape, order="F" if fortran_order else "C")
    return np.ascontiguousarray(values, dtype=dtype.newbyteorder("=")).reshape(shape)


def archive_members(stream: io.BufferedIOBase, shown: str) -> dict[str, Callable[..., np.ndarray]]:
    """Return the arrays of a .npz file by name, each as a function that reads it while the stream is open.

    The functions take `check` and raise InputError as `load_npy` does. The errors of `zipfile` pass through.
    """
    archive = zipfile.ZipFile(stream)
    members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
    return {info.filename.removesuffix(".npy"): _reader(archive, info, shown) for info in members}


def _reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo, shown: str) -> Callable[..., np.ndarray]:
    def read(check: Check | None = None) -> np.ndarray:
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{shown} must be stored or deflated, as by numpy.savez, got another compression")
        if info.file_size > _MAX_COMPRESSION * info.compress_size + 100:
            raise InputError(f"{shown} claims {info.file_size} bytes in {info.compress_size} compressed ones")
        with archive.open(info) as member:
            return read_npy(member, shown, info.file_size, check=check)  # type: ignore[arg-type]  # zipfile's readers are such

    return read


def check_type(dtype: np.dtype, shown: str) -> None:
    """Raise InputError where an array's type is not one of plain numbers."""
    if dtype.hasobject:
        raise InputError(f"{shown} holds Python objects, which can run code when read; give an array of numbers")
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise InputError(f"{shown} must hold integers, bool or floats of up to 64 bits, got {dtype}")
