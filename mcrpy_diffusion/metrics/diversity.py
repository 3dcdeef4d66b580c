"""How different the structures of a set are from each other."""

from __future__ import annotations

from math import comb

import numpy as np

from mcrpy_diffusion.errors import InputError


def mean_nearest_distance(distances: np.ndarray, n_images: int | None = None) -> float:
    """Return the mean distance from a structure to the nearest other one of its set, or of smaller sets drawn from it.

    Parameters
    ----------
    distances : (N, N)
        Distances between all structures, such as `copying.distance_matrix` returns; the diagonal does not count.
    n_images : int, optional
        Size of the sets, 2 to N, drawn without replacement; all N by default. The nearest of many is nearer than the
        nearest of few, so sets of different sizes are compared in the same number.

    Returns
    -------
    float
        Expected value over all such sets.

    Raises
    ------
    InputError
        If there are less than two structures, or `n_images` is out of range.

    Notes
    -----
    Of the N - 1 others of a structure, n - 1 are drawn. The k-th nearest of all (k = 1, 2, ...) is the nearest of those
    drawn with the probability C(N - 1 - k, n - 2) / C(N - 1, n - 1).
    """
    n_all = len(distances)
    n = n_all if n_images is None else n_images
    if n_all < 2 or not 2 <= n <= n_all:
        raise InputError(f"the size of a set must be between 2 and {n_all} structures, got {n}")
    others = np.sort(distances[~np.eye(n_all, dtype=bool)].reshape(n_all, n_all - 1), axis=1)
    probability = np.array([comb(n_all - 1 - k, n - 2) / comb(n_all - 1, n - 1) for k in range(1, n_all)])
    return float((others @ probability).mean())
