"""Reading structures in two dimensions, and volumes, from folders of .npy files, data sets and images."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mcrpy_diffusion.data.micrograph import read_source
from mcrpy_diffusion.data.reading import Reading
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.npy_files import Budget, load_npy
from mcrpy_diffusion.io.untrusted import reject_symlinks
from mcrpy_diffusion.settings import ImageSettings, PixelSize


@dataclass(frozen=True, eq=False)
class StructureSet:
    """Structures of a folder or a file.

    Attributes
    ----------
    structures : list of (I, J) uint8 or float32
        Phases, or grey values in [0, 1].
    readings : list of Reading
        How they were read, if they are images.
    pixel_size : PixelSize or None
        As given, or as stated in the files.
    """

    structures: list[np.ndarray]
    readings: list[Reading] = field(default_factory=list)
    pixel_size: PixelSize | None = None


def read_structures(path: str | os.PathLike[str], settings: ImageSettings | None = None) -> list[np.ndarray]:
    """Read structures: the arrays of `read_set`, which raises likewise."""
    return read_set(path, settings).structures


def read_set(path: str | os.PathLike[str], settings: ImageSettings | None = None) -> StructureSet:
    """Read structures: arrays or images of a folder, of its subfolder `samples`, or of a file.

    Parameters
    ----------
    path : path
        A folder of .npy structures, in the order of their names and numbers; a data set; a folder or a file of images.
    settings : ImageSettings, optional
        How images are read. If any is given, .npy files are read as images too.

    Returns
    -------
    StructureSet

    Raises
    ------
    InputError
        If there are none, or a file has other content.
    """
    folder, settings = Path(path), settings or ImageSettings()
    if not folder.is_dir():
        return _images([folder], settings)
    files = _npy_files(folder)
    if not files or replace(settings, pixel_size=None) != ImageSettings():
        return _images(files or [folder], settings)
    budget = Budget("structures")
    return StructureSet([_read(file, budget, n_dims=2) for file in files])


def holds_volumes(path: str | os.PathLike[str]) -> bool:
    """Return whether the first .npy file of a folder, or the file given, is an array in three dimensions."""
    files = _npy_files(Path(path)) if Path(path).is_dir() else [Path(path)]
    return bool(files) and files[0].suffix == ".npy" and _n_dims(files[0]) == 3


def read_volumes(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the volumes of a folder, in the order of their names and numbers, or of one .npy file.

    Returns
    -------
    (N, I, J, K) uint8 or float32
        Phases, or grey values in [0, 1].

    Raises
    ------
    InputError
        If there are none, they differ in extent or kind, or a file has other content.
    """
    files = _npy_files(Path(path)) if Path(path).is_dir() else [Path(path)]
    if not files:
        raise InputError(f"{path} must have volumes as .npy files")
    budget = Budget("volumes")
    volumes = [_read(file, budget, n_dims=3) for file in files]
    if len({volume.shape for volume in volumes}) > 1:
        raise InputError(f"{path}: the volumes must have one extent, got {sorted({v.shape for v in volumes})}")
    if len({volume.dtype for volume in volumes}) > 1:
        raise InputError(f"{path}: the volumes must be all phases or all grey values, got both")
    return np.stack(volumes)


def _npy_files(folder: Path) -> list[Path]:
    """Return the .npy files of a folder, or of its subfolder `samples`, in the order of their names and numbers."""
    files = [*folder.glob("*.npy")]
    if not files or (folder / "dataset.json").exists():  # a data set may have packed images beside its samples
        reject_symlinks(folder / "samples")
        files = [*folder.glob("samples/*.npy")]
        reject_symlinks(*files)
    return sorted(files, key=lambda file: (len(file.name), file.name))


def _n_dims(file: Path) -> int:
    """Return the number of axes of an array by the header of its file."""
    found: list[int] = []

    def check(shape: tuple[int, ...], dtype: np.dtype) -> None:
        found.append(len(shape))
        raise InputError("the header is enough")

    with contextlib.suppress(InputError):
        load_npy(file, check=check)
    return found[0] if found else 0


def _images(paths: Sequence[Path], settings: ImageSettings) -> StructureSet:
    """Read images, of any number of phases."""
    found = read_source(paths, settings, several=True, any_phases=True)
    readings = [] if found[0].reading is None else [found[0].reading]
    return StructureSet([micrograph.phases for micrograph in found], readings, found[0].pixel_size)


def _read(file: Path, budget: Budget, *, n_dims: int) -> np.ndarray:
    def check(shape: tuple[int, ...], dtype: np.dtype) -> None:
        if len(shape) != n_dims or 0 in shape:
            wanted = "(I, J)" if n_dims == 2 else "(I, J, K)"
            raise InputError(f"{file} must have numbers of shape {wanted}, got {dtype} of shape {shape}")
        budget.take(str(file), math.prod(shape) * dtype.itemsize)

    structure = load_npy(file, check=check)
    grey = structure.dtype.kind == "f"
    low, high = structure.min(), structure.max()
    if not (0 <= low and high <= (1 if grey else 255)):
        kind = "grey values 0 to 1" if grey else "phases 0, 1, 2, ..."
        raise InputError(f"{file}: values must be {kind}, got {low} to {high}")
    return structure.astype(np.float32 if grey else np.uint8)
