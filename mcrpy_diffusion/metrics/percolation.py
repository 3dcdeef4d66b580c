"""Percolation of a phase: how much of it connects two opposite faces, along each axis."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mcrpy_diffusion.metrics.arrays import indicator_of
from mcrpy_diffusion.metrics.clusters import edge_pairs, is_full, join_pieces, label_pieces


def percolating_share(
    phases: np.ndarray, *, phase: int, periodic: bool, connectivity: int | None = None, n_dims: int = 3
) -> np.ndarray:
    """Compute the share of a phase in clusters that connect both faces of the structure, along each axis.

    Parameters
    ----------
    phases : (..., I, J, K) integer or bool
        Phases; the last `n_dims` axes are space.
    phase : int
        The phase that connects.
    periodic : bool
        Whether clusters are connected across the edges of the other axes. Across the edge between the two faces they
        never are: a cluster has to reach from one face to the other.
    connectivity : {4, 8} in 2D, {6, 26} in 3D, optional
        Number of neighbours of a pixel; if None, 4 or 6.
    n_dims : {2, 3}
        Number of axes of space.

    Returns
    -------
    (..., n_dims) float64 in [0, 1]
        For paths along the first axis, the second, and so on; 0 where the phase is absent.
    """
    indicator, batch_shape = indicator_of(phases, phase, n_dims)
    full = is_full(connectivity, n_dims)
    share = np.zeros((len(indicator), n_dims))
    for structure, own in zip(indicator, share):
        total = np.count_nonzero(structure)
        for axis, clusters in enumerate(_open_clusters(structure[None], full, periodic) if total else ()):
            both = np.intersect1d(clusters.take(0, axis=axis), clusters.take(-1, axis=axis))
            own[axis] = np.count_nonzero(np.isin(clusters, both[both > 0])) / total
    return share.reshape(*batch_shape, n_dims)


def _open_clusters(structure: np.ndarray, full: bool, periodic: bool) -> Iterator[np.ndarray]:
    """Yield the labels of the clusters of a structure (1, I, J, K) for each axis whose two faces are not joined."""
    labels, n_pieces = label_pieces(structure, full)
    a, b, winding = edge_pairs(labels, full) if periodic else (np.empty(0, int), np.empty(0, int), None)
    for axis in range(structure.ndim - 1):
        within = np.zeros(len(a), dtype=bool) if winding is None else winding[:, axis] == 0
        yield join_pieces(n_pieces, a[within], b[within])[labels[0]]
