"""Input of Abaqus and CalculiX: one C3D8 (volume) or CPS4 (image) element a pixel. Lengths are in metres.

Element sets PHASE_0, PHASE_1 ... and VOXELS (all); node sets X_MIN, X_MAX ... Z_MAX of the faces (edges) and NODES; a
section for each phase, whose material has its name and is defined where the file is included.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import Write
from mcrpy_diffusion.io.structure_files.slabs import slabs

_IDS_PER_LINE = 16  # Abaqus allows no more
_LINES_AT_ONCE = 2**14  # of text that is made in memory
_CORNERS = ((0, 0), (1, 0), (1, 1), (0, 1))  # of a pixel, counter-clockwise


def contents(path: Path, structure: np.ndarray, pixel_size: float | None) -> dict[Path, Write]:
    """Return the content of an .inp file.

    Raises
    ------
    InputError
        If the structure has grey values.
    """
    if structure.dtype.kind == "f":
        raise InputError(f"{str(path)!r} must be of phases, got grey values")

    def write(file: BinaryIO) -> None:
        for text in _parts(path.name, structure, 1.0 if pixel_size is None else pixel_size):
            file.write(text.encode())

    return {path: write}


def _parts(name: str, structure: np.ndarray, spacing: float) -> Iterator[str]:
    phases = np.unique(structure).tolist()
    names = " ... ".join(f"PHASE_{p}" for p in sorted({phases[0], phases[-1]}))
    yield f"** Voxel mesh in metres. Define the materials {names}, then\n** *INCLUDE, INPUT={name}\n"
    yield "*NODE, NSET=NODES\n"
    yield from _nodes(structure.shape, spacing)
    for p in phases:
        yield f"*ELEMENT, TYPE={'C3D8' if structure.ndim == 3 else 'CPS4'}, ELSET=PHASE_{p}\n"
        yield from _elements(structure, p)
    yield "*ELSET, ELSET=VOXELS\n" + "".join(f"PHASE_{p}\n" for p in phases)
    for axis, letter in enumerate("XYZ"[: structure.ndim]):
        for side, index in (("MIN", 0), ("MAX", structure.shape[axis])):
            yield f"*NSET, NSET={letter}_{side}\n{_id_lines(_face(structure.shape, axis, index))}"
    thickness = "" if structure.ndim == 3 else f"{spacing!r},\n"
    for p in phases:
        yield f"*SOLID SECTION, ELSET=PHASE_{p}, MATERIAL=PHASE_{p}\n{thickness}"


def _nodes(shape: tuple[int, ...], spacing: float) -> Iterator[str]:
    """Yield the lines of the nodes, x fastest, numbered from 1."""
    x, *others = [[f"{i * spacing:.9g}" for i in range(n + 1)] for n in shape]
    number = 1
    for z in [f", {each}" for each in others[1]] if len(others) == 2 else [""]:
        for y in others[0]:
            yield "".join(f"{n}, {each}, {y}{z}\n" for n, each in enumerate(x, number))
            number += len(x)


def _elements(structure: np.ndarray, phase: int) -> Iterator[str]:
    """Yield the lines of the elements of a phase, numbered from 1 over all pixels, x fastest."""
    (n_i, n_j), volume = structure.shape[:2], structure.ndim == 3
    di, dj, dk = _strides(structure.shape)
    corners = [i * di + j * dj for i, j in _CORNERS]
    corners = [corner + k * dk for k in ((0, 1) if volume else (0,)) for corner in corners]
    line = ", ".join(["%d"] * (1 + len(corners))) + "\n"
    first = 0
    for slab in slabs(structure, structure.dtype.str):
        found = first + np.flatnonzero(slab == phase)
        first += len(slab)
        for pixels in np.array_split(found, len(found) // _LINES_AT_ONCE + 1):
            i, j, k = pixels % n_i, pixels // n_i % n_j, pixels // (n_i * n_j)
            table = 1 + np.stack([pixels, *(i * di + j * dj + k * dk + corner for corner in corners)], axis=1)
            yield (line * len(table)) % tuple(table.ravel().tolist())


def _face(shape: tuple[int, ...], axis: int, index: int) -> np.ndarray:
    """Return the numbers of the nodes at an index of an axis, in ascending order."""
    steps = [stride * np.arange(n + 1) for n, stride in zip(shape, _strides(shape))]
    steps[axis] = steps[axis][[index]]
    return np.sort(1 + sum(np.ix_(*steps)), axis=None)


def _strides(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the difference of the numbers of neighbouring nodes along each axis."""
    return 1, shape[0] + 1, (shape[0] + 1) * (shape[1] + 1)


def _id_lines(ids: np.ndarray) -> str:
    rows = [ids[start : start + _IDS_PER_LINE].tolist() for start in range(0, len(ids), _IDS_PER_LINE)]
    return "".join(", ".join(map(str, row)) + "\n" for row in rows)
