"""Many images in one .npy file that is mapped into memory; the operating system reads the images that are used."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import write_atomically
from mcrpy_diffusion.io.untrusted import open_regular, reject_symlinks


def write_images(path: Path, images: Iterable[np.ndarray], *, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Write images (I, J) of one type as an array of the shape (N, I, J), without holding all in memory."""

    def write(stream: BinaryIO) -> None:
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        npy_format.write_array_header_1_0(stream, header)
        for image in images:
            stream.write(image.tobytes())

    write_atomically(path, write)


def map_images(path: Path) -> np.ndarray:
    """Return the images (N, I, J) of a file as a read-only memory map; raise InputError if it is damaged."""
    reject_symlinks(path)
    try:
        open_regular(path).close()
        images = npy_format.open_memmap(path, mode="r")
        if images.ndim != 3 or images.dtype.kind not in "biuf":
            raise ValueError("not images")
    except InputError:
        raise
    except Exception as error:  # damaged files raise many kinds
        raise InputError(f"{str(path)!r} is damaged; delete it, and it will be written again") from error
    return images
