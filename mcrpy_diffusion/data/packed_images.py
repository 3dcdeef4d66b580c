"""Many images in one .npy file, read as they are asked for."""

from __future__ import annotations

import os
from math import prod
from pathlib import Path
from typing import Any, final

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.untrusted import open_regular, reject_symlinks


@final
class PackedImages:
    """Images (N, I, J) in one .npy file, read as they are asked for: none stays in memory.

    Parameters
    ----------
    path : path
        As `Dataset.images` writes it.

    Attributes
    ----------
    shape : (int, int, int)
    dtype : numpy.dtype

    Raises
    ------
    InputError
        If the file is not whole.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        reject_symlinks(self._path)
        self._stream = open_regular(self._path)
        try:
            np.lib.format.read_magic(self._stream)
            shape, _, self.dtype = np.lib.format.read_array_header_1_0(self._stream)
            self._start = self._stream.tell()
            self._n_bytes = prod(shape[1:]) * self.dtype.itemsize
            whole = os.fstat(self._stream.fileno()).st_size == self._start + shape[0] * self._n_bytes
            whole = whole and len(shape) == 3 and self.dtype.kind in "biuf"
        except (ValueError, IndexError, TypeError):
            whole = False
        if not whole:
            self._stream.close()
            raise InputError(f"{str(path)!r} is damaged; delete it, it is made anew")
        self.shape: tuple[int, ...] = shape

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Return one image (I, J) of an integer, else the images (n, I, J) of a slice or an array (n,) of integers."""
        chosen = np.arange(len(self))[rows]
        raw = np.empty((chosen.size, self._n_bytes), dtype=np.uint8)
        for image, row in zip(raw, chosen.ravel().tolist()):
            self._read(memoryview(image), self._start + row * self._n_bytes)
        return raw.view(self.dtype).reshape(*chosen.shape, *self.shape[1:])

    def _read(self, left: memoryview, offset: int) -> None:
        while len(left):
            n = os.preadv(self._stream.fileno(), [left], offset)
            if n == 0:
                raise InputError(f"{str(self._path)!r} has become shorter; start again")
            left, offset = left[n:], offset + n

    def __reduce__(self) -> tuple[type[PackedImages], tuple[Path]]:
        return PackedImages, (self._path,)
