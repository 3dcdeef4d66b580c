"""Voronoi foam: the walls of a polycrystal of Poisson-Voronoi cells. Phase 1 is the walls.

References
----------
A. Okabe et al., Spatial Tessellations (2000), table 5.5.1: a Poisson-Voronoi tessellation of rho cells per volume has
cell boundaries of 2.9098 rho^(1/3) per volume.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from mcrpy_diffusion.errors import InputError

BOUNDARY_AREA = 2.9098
"""Area of the boundaries per volume, times the cell size (the cube root of a cell's mean volume)."""

_FIRST_NEIGHBOURS = 8
_BLOCK_VOXELS = 2**15
_SMALLEST = 3  # cells along each axis: a cell is then not its own neighbour


def voronoi_foam(extent: tuple[int, int, int], *, cell_size: float, wall_thickness: float, seed: int) -> np.ndarray:
    """Make the walls between the Voronoi cells of random points in a periodic box.

    Parameters
    ----------
    extent : (int, int, int)
        Planes, rows, columns, at least 3 cells each.
    cell_size : float
        Cube root of the mean volume of a cell, in voxels.
    wall_thickness : float
        In voxels, everywhere the same; sections cut it obliquely.
    seed : int

    Returns
    -------
    (I, J, K) uint8

    Raises
    ------
    InputError
        If the extent has too few cells.
    """
    if min(extent) < _SMALLEST * cell_size:
        raise InputError(f"the extent must be at least {_SMALLEST} cells of {cell_size} voxels, got {extent}")
    size = np.array(extent, dtype=np.float64)
    n_cells = round(float(np.prod(size)) / cell_size**3)
    points = np.random.default_rng(seed).random((n_cells, 3)) * size
    tree = cKDTree(points, boxsize=size)
    voxels = np.indices(extent).reshape(3, -1).T.astype(np.float64)
    blocks = (voxels[k : k + _BLOCK_VOXELS] for k in range(0, len(voxels), _BLOCK_VOXELS))
    walls = [_near_boundary(block, tree, points, size, wall_thickness) for block in blocks]
    return np.concatenate(walls).reshape(extent).astype(np.uint8)


def _near_boundary(
    voxels: np.ndarray, tree: cKDTree, points: np.ndarray, size: np.ndarray, thickness: float
) -> np.ndarray:
    """Return which voxels (P, 3) are nearer to the boundary of their cell than half of a wall.

    Notes
    -----
    In the cell of point i, the boundary with the cell of point j is at the distance (d_j^2 - d_i^2) / (2 |p_j - p_i|),
    which is below half of the thickness w only if d_j < d_i + w. Voxels that have more such points than were looked
    for are looked at again.
    """
    near = np.zeros(len(voxels), dtype=bool)
    open_voxels, k = np.arange(len(voxels)), _FIRST_NEIGHBOURS
    while len(open_voxels):
        k = min(k, len(points))
        distance, index = tree.query(voxels[open_voxels], k=k)
        offset = points[index] - voxels[open_voxels, None]
        offset -= size * np.rint(offset / size)
        between = np.linalg.norm(offset[:, 1:] - offset[:, :1], axis=2)
        gap = (distance[:, 1:] ** 2 - distance[:, :1] ** 2) / (2 * between)
        near[open_voxels] = gap.min(axis=1) < thickness / 2
        complete = (distance[:, -1] >= distance[:, 0] + thickness) | (k == len(points))
        open_voxels, k = open_voxels[~complete], 2 * k
    return near
