"""TIFF of one page a plane, with the size of a pixel where ImageJ (Fiji) and its like look for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import Write

_UNITS = (("mm", 1e-3), ("um", 1e-6), ("nm", 1e-9))


def contents(path: Path, structure: np.ndarray, pixel_size: float | None) -> dict[Path, Write]:
    """Return the content of a .tif file: phases in 8 or 16 bits, or grey values as 32-bit floats.

    Raises
    ------
    InputError
        If there are more phases than 16 bits can number.
    """
    if structure.dtype == np.uint32:
        raise InputError(f"{str(path)!r} must have at most {2**16} phases, got {int(structure.max()) + 1}")
    return {path: lambda file: _write(file, structure, pixel_size)}


def _write(file: BinaryIO, structure: np.ndarray, pixel_size: float | None) -> None:
    import tifffile

    metadata: dict[str, Any] = {"axes": "ZYX"[-structure.ndim :]}
    metadata |= {"min": float(structure.min()), "max": float(structure.max())}  # of the display
    resolution = None
    if pixel_size is not None:
        metadata["unit"], metres = next((each for each in _UNITS if pixel_size >= each[1]), _UNITS[-1])
        size = pixel_size / metres
        resolution = (1 / size, 1 / size)  # pixels per unit
        if structure.ndim == 3:
            metadata["spacing"] = size
    tifffile.imwrite(file, structure, imagej=True, photometric="minisblack", resolution=resolution, metadata=metadata)
