"""PNG of a 2D structure: phases as the indices of a palette from black to white, or 16-bit grey values."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import Write

_INCH = 0.0254  # metres
_MAX_PIXELS_PER_METRE = 2**31 - 1  # of the chunk pHYs


def contents(path: Path, structure: np.ndarray, pixel_size: float | None) -> dict[Path, Write]:
    """Return the content of a .png file.

    Raises
    ------
    InputError
        If the structure is 3D, has more than 256 phases, or grey values out of the range 0 to 1.
    """
    if structure.ndim != 2:
        raise InputError(f"{str(path)!r} must be of a 2D structure, got a volume; write a .tif")
    if structure.dtype.itemsize > 1 and structure.dtype.kind == "u":
        raise InputError(f"{str(path)!r} must have at most 256 phases, got {int(structure.max()) + 1}; write a .tif")
    if structure.min() < 0 or (structure.dtype.kind == "f" and structure.max() > 1):
        raise InputError(f"{str(path)!r} must have grey values from 0 to 1, got others; write a .tif")
    return {path: lambda file: _write(file, structure, pixel_size)}


def _write(file: BinaryIO, structure: np.ndarray, pixel_size: float | None) -> None:
    from PIL import Image

    options: dict[str, Any] = {}
    if pixel_size is not None and 1 <= round(1 / pixel_size) <= _MAX_PIXELS_PER_METRE:
        options["dpi"] = (_INCH / pixel_size,) * 2
    if structure.dtype.kind == "f":
        image = Image.fromarray(np.rint(structure * 65535).astype(np.uint16))
    else:
        image = Image.fromarray(structure).convert("P")
        greys = np.rint(np.linspace(0, 255, max(2, int(structure.max()) + 1))).astype(np.uint8)
        image.putpalette(np.repeat(greys, 3).tobytes())
    image.save(file, format="PNG", **options)
