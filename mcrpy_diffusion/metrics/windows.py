"""How many independent structures the crops of micrographs are worth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def independent_windows(sizes: Sequence[tuple[int, ...]], extent: tuple[int, ...]) -> float:
    """Return the number of independent windows in micrographs, of which all crops are drawn.

    Parameters
    ----------
    sizes : sequence of tuples of int
        Rows and columns of each micrograph, each at least `extent`; at least one.
    extent : tuple of int
        Rows and columns of a crop.

    Returns
    -------
    float
        From 1, for a single crop position, to the area in units of the crop's area.

    Notes
    -----
    The mean of a quantity over all crops weighs each pixel by the number of crops that cover it, w. If the quantity is
    uncorrelated beyond the size of a crop, the variance of that mean is that of one crop divided by
    (sum w)^2 / (sum w^2) / area of a crop. Pixels near edges weigh less, so that the number is below the ratio of the
    areas: 96 x 128 pixels have 8.3 windows of 32 x 32, not 12. See C. Lantuejoul, "Ergodicity and integral range",
    Journal of Microscopy 161 (1991) 387, doi:10.1111/j.1365-2818.1991.tb03099.x.
    """
    positions = np.array([np.prod([a - n + 1 for a, n in zip(size, extent)]) for size in sizes], dtype=np.float64)
    windows = np.array([np.prod([_along(a, n) for a, n in zip(size, extent)]) for size in sizes])
    return float(positions.sum() ** 2 / (positions**2 / windows).sum())


def _along(length: int, extent: int) -> float:
    """Return the number of independent windows along one axis."""
    weight = np.convolve(np.ones(length - extent + 1), np.ones(extent))
    return float(weight.sum() ** 2 / (weight @ weight) / extent)
