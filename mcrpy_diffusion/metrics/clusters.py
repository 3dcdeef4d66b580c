"""Clusters of a phase: labels, their number, the Euler number, the two-point cluster function.

Two pixels of a phase are connected if they share an edge (2D: 4 neighbours) or a face (3D: 6), or, with full
connectivity, if they share a corner too (8 and 26). If pixels of a phase are connected by faces, those around it are
connected by corners, and the other way round.

References
----------
S. Torquato, Random Heterogeneous Materials (2002), section 2.4. The labels of one image are those of
`scipy.ndimage.label`.
"""

from __future__ import annotations

from functools import reduce
from itertools import product
from math import prod

import numpy as np
from scipy.ndimage import generate_binary_structure, label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.arrays import Autocorrelation, blocks, indicator_of

CONNECTIVITIES = {2: (4, 8), 3: (6, 26)}
"""Numbers of neighbours of a pixel by number of axes: those that share a face, and those that share a corner too."""

_SMALL_CLUSTER = 40  # pixels up to which pairs are counted one by one


def label_clusters(
    phases: np.ndarray, *, phase: int, periodic: bool, connectivity: int | None = None, n_dims: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Number the clusters of a phase.

    Parameters
    ----------
    phases : (..., I, J) integer or bool
        Phases; the last `n_dims` axes are space.
    phase : int
        The phase whose clusters are wanted.
    periodic : bool
        Whether clusters are connected across the edges.
    connectivity : {4, 8} in 2D, {6, 26} in 3D, optional
        Number of neighbours of a pixel; if None, 4 or 6.
    n_dims : {2, 3}
        Number of axes of space.

    Returns
    -------
    labels : (..., I, J) int64
        0 outside the phase, else the number of the pixel's cluster, from 1 in each structure.
    n_clusters : (...) int64
        Number of clusters of each structure.
    """
    indicator, batch_shape = indicator_of(phases, phase, n_dims)
    labels, first = _label_all(indicator, periodic, is_full(connectivity, n_dims))
    own = labels - first[:-1].reshape(-1, *[1] * n_dims)
    return np.where(indicator, own, 0).reshape(np.shape(phases)), np.diff(first).reshape(batch_shape)


def number_of_clusters(
    phases: np.ndarray, *, phase: int, periodic: bool, connectivity: int | None = None, n_dims: int = 2
) -> np.ndarray:
    """Count the clusters of a phase in each structure, (...) int64; parameters as for `label_clusters`."""
    return label_clusters(phases, phase=phase, periodic=periodic, connectivity=connectivity, n_dims=n_dims)[1]


def isolated_share(phases: np.ndarray, *, phase: int, periodic: bool, n_dims: int = 2) -> np.ndarray:
    """Compute the share of pixels of a phase none of whose 4 (2D) or 6 (3D) neighbours is of the phase.

    Parameters
    ----------
    phases : (..., I, J) integer or bool
        Phases; the last `n_dims` axes are space.
    phase : int
        The phase of the isolated pixels.
    periodic : bool
        Whether pixels are neighbours across the edges. If not, pixels at the edges are left out, as neighbours of
        theirs are unknown.
    n_dims : {2, 3}
        Number of axes of space.

    Returns
    -------
    (...) float64 in [0, 1]
        Isolated pixels over all pixels (if not periodic, over those inside).
    """
    indicator, batch_shape = indicator_of(phases, phase, n_dims)
    alone = indicator.copy()
    for axis in range(1, n_dims + 1):
        for step in (1, -1):
            alone &= ~np.roll(indicator, step, axis=axis)
    if not periodic:
        alone = alone[(slice(None), *[slice(1, -1)] * n_dims)]
    counted = max(prod(alone.shape[1:]), 1)
    return (np.count_nonzero(alone, axis=tuple(range(1, n_dims + 1))) / counted).reshape(batch_shape)


def euler_number(
    phases: np.ndarray, *, phase: int, periodic: bool, connectivity: int | None = None, n_dims: int = 2
) -> np.ndarray:
    """Count clusters minus holes (2D), or clusters minus tunnels plus cavities (3D), of a phase.

    Parameters
    ----------
    phases : (..., I, J) integer or bool
        Phases; the last `n_dims` axes are space.
    phase : int
        The phase whose Euler number is wanted.
    periodic : bool
        Whether the structure continues across its edges (it then lies on a torus); if not, outside is another phase.
    connectivity : {4, 8} in 2D, {6, 26} in 3D, optional
        Number of neighbours of a pixel; if None, 4 or 6.
    n_dims : {2, 3}
        Number of axes of space.

    Returns
    -------
    (...) int64

    Notes
    -----
    The alternating sum over the cells of the pixel lattice. With 4 or 6 neighbours: pixels, minus pairs of them, plus
    full squares of four, minus full cubes of eight. With 8 or 26 neighbours: corners, minus edges, plus faces, minus
    volumes of the closed pixels. On a torus, with n axes: chi_full(other phases) = (-1)^(n-1) chi_faces(phase).
    """
    indicator, batch_shape = indicator_of(phases, phase, n_dims)
    full = is_full(connectivity, n_dims)
    if not periodic:
        indicator = np.pad(indicator, [(0, 0), *[(1, 0)] * n_dims])  # what is rolled across an edge is outside
    combine = np.logical_or if full else np.logical_and
    number = np.zeros(len(indicator), dtype=np.int64)
    for directions in product((False, True), repeat=n_dims):
        chosen = [axis for axis, wanted in enumerate(directions, start=1) if wanted]
        cells = reduce(lambda cells, axis: combine(cells, np.roll(cells, -1, axis=axis)), chosen, indicator)
        sign = (-1) ** (n_dims - len(chosen) if full else len(chosen))
        number += sign * np.count_nonzero(cells, axis=tuple(range(1, n_dims + 1)))
    return number.reshape(batch_shape)


def two_point_cluster_function(
    phases: np.ndarray, *, phase: int, periodic: bool, connectivity: int | None = None, n_dims: int = 2
) -> np.ndarray:
    r"""Compute C2, the probability that two pixels a shift apart lie in the same cluster of a phase, for every shift.

    Parameters
    ----------
    phases : (..., I, J) integer or bool
        Phases; the last `n_dims` axes are space.
    phase : int
        The phase whose clusters are meant.
    periodic : bool
        Whether shifts go across the edges, and clusters are connected across them.
    connectivity : {4, 8} in 2D, {6, 26} in 3D, optional
        Number of neighbours of a pixel; if None, 4 or 6.
    n_dims : {2, 3}
        Number of axes of space.

    Returns
    -------
    (..., I, J) if periodic, else (..., 2 I - 1, 2 J - 1), float64 in [0, 1]
        A map as that of `two_point_correlation`, which it never exceeds; equal to it if there is one cluster.

    Notes
    -----
    :math:`C_2(d) = \frac{1}{n(d)} \sum_c \sum_x 1_c(x) 1_c(x + d)`, the sum of the autocorrelations of all clusters c,
    taken by FFT, or for small clusters pair by pair, and exact, being counts.
    """
    indicator, batch_shape = indicator_of(phases, phase, n_dims)
    labels, first = _label_all(indicator, periodic, is_full(connectivity, n_dims))
    sizes = np.bincount(labels.ravel(), minlength=1)
    sizes[0] = 0  # what is outside the phase
    pairs = Autocorrelation(indicator.shape[1:], periodic=periodic)
    result = np.empty((len(indicator), *pairs.size))
    for block in blocks(len(indicator), pairs.n_pixels):
        counts = _count_small(labels[block], sizes, pairs.size)
        for own, total in zip(labels[block], counts):
            for number in np.unique(own[sizes[own] > _SMALL_CLUSTER]):
                total += pairs.counts(pairs.power(own[None] == number))[0].astype(np.int64)
        result[block] = counts / pairs.n_pairs
    return result.reshape(*batch_shape, *pairs.size)


def _count_small(labels: np.ndarray, sizes: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Count the pairs of pixels in the same small cluster by shift, (N, size), pair by pair."""
    at = np.stack(np.nonzero((sizes[labels] > 0) & (sizes[labels] <= _SMALL_CLUSTER)))
    number = labels[tuple(at)]
    order = np.argsort(number, kind="stable")
    at, number = at[:, order], number[order]
    found, shape = [np.empty(0, dtype=np.int64)], (len(labels), *size)
    first, k = np.arange(len(number)), 0  # the first pixels of pairs that are k pixels apart in this order
    while len(first):
        shift = (at[1:, first + k] - at[1:, first]) % np.array(size)[:, None]
        for d in (shift, -shift % np.array(size)[:, None]) if k else (shift,):
            found.append(np.ravel_multi_index((at[0, first], *d), shape))
        k += 1
        first = first[first + k < len(number)]
        first = first[number[first] == number[first + k]]
    return np.bincount(np.concatenate(found), minlength=prod(shape)).reshape(shape)


def is_full(connectivity: int | None, n_dims: int) -> bool:
    """Return whether pixels that share a corner are connected; refuse other numbers of neighbours."""
    faces, full = CONNECTIVITIES[n_dims]
    if connectivity not in (None, faces, full):
        raise InputError(f"connectivity must be {faces} or {full} in {n_dims} dimensions, got {connectivity!r}")
    return connectivity == full


def _label_all(indicator: np.ndarray, periodic: bool, full: bool) -> tuple[np.ndarray, np.ndarray]:
    """Number the clusters of all images through: labels (N, I, J) from 1, and those before each image (N + 1,)."""
    labels, n_pieces = label_pieces(indicator, full)
    if periodic:
        labels = join_pieces(n_pieces, *edge_pairs(labels, full)[:2])[labels]
    largest = np.maximum.accumulate(labels.max(axis=tuple(range(1, labels.ndim)), initial=0))
    return labels, np.concatenate([[0], largest])


def label_pieces(indicator: np.ndarray, full: bool) -> tuple[np.ndarray, int]:
    """Number the connected pieces of all images (N, I, J) through, not across edges; return the labels and how many."""
    n_dims = indicator.ndim - 1
    within = generate_binary_structure(n_dims, n_dims if full else 1)
    between = np.zeros_like(within)
    labels, n_pieces = label(indicator, structure=np.stack([between, within, between]))
    return labels.astype(np.int64), n_pieces


def edge_pairs(labels: np.ndarray, full: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the pieces that meet across the edges of periodic images.

    Parameters
    ----------
    labels : (N, I, J)
        Numbers of pieces, 0 outside.
    full : bool
        Whether pixels that share a corner are connected.

    Returns
    -------
    a, b : (P,) int64
        Numbers of two pieces that meet.
    winding : (P, n_dims) int64
        Across which edges: b lies so many extents further.
    """
    n_dims = labels.ndim - 1
    extent = np.array(labels.shape[1:])
    found = []
    for step in product((-1, 0, 1), repeat=n_dims):
        if next((d for d in step if d), 0) <= 0 or (not full and sum(map(abs, step)) > 1):
            continue
        neighbour = np.roll(labels, [-d for d in step], axis=range(1, n_dims + 1))
        windings = [(np.arange(n) + d) // n for n, d in zip(extent, step)]
        crossing = sum(np.ix_(*map(np.abs, windings))) > 0
        at = np.nonzero(crossing & (labels > 0) & (neighbour > 0))
        winding = [w[i] for w, i in zip(windings, at[1:])]
        found.append(np.unique(np.column_stack([labels[at], neighbour[at], *winding]), axis=0))
    rows = np.concatenate(found)
    return rows[:, 0], rows[:, 1], rows[:, 2:]


def join_pieces(n_pieces: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the number of the cluster of each piece (n_pieces + 1,), in the order of the pieces; 0 stays 0."""
    joined = coo_array((np.ones(len(a)), (a, b)), shape=(n_pieces + 1, n_pieces + 1))
    number = connected_components(joined, directed=False)[1]
    _, first, inverse = np.unique(number, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]
