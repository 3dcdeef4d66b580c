"""A stack of layers of two phases whose thickness scatters."""

from __future__ import annotations

import numpy as np

from mcrpy_diffusion.errors import InputError


def layer_stack(
    extent: tuple[int, int, int], *, period: float, variation: float, volume_fraction: float, axis: int, seed: int
) -> np.ndarray:
    """Make a periodic stack of alternating layers with gamma-distributed thickness.

    Parameters
    ----------
    extent : (int, int, int)
        Planes, rows, columns.
    period : float
        Mean thickness of two layers together, in voxels.
    variation : float
        Standard deviation of the thickness of a phase's layers over its mean, above 0; 1 for exponential ones.
    volume_fraction : float
        Share of phase 1, exact but for the voxels.
    axis : {0, 1, 2}
        The axis across the layers.
    seed : int

    Returns
    -------
    (I, J, K) uint8

    Raises
    ------
    InputError
        If the extent along the axis is below a period.
    """
    if axis not in (0, 1, 2):
        raise InputError(f"axis must be 0, 1 or 2, got {axis!r}")
    n = extent[axis]
    if n < period:
        raise InputError(f"the extent along the axis must be at least one period of {period} voxels, got {n}")
    generator = np.random.default_rng(seed)
    n_pairs = round(n / period)
    thickness = generator.gamma(variation**-2, size=(n_pairs, 2))
    thickness *= n * np.array([volume_fraction, 1 - volume_fraction]) / thickness.sum(axis=0)
    positions = (np.arange(n) - generator.random() * n) % n
    phase = np.searchsorted(np.cumsum(thickness), positions, side="right")
    line = (phase % 2 == 0).astype(np.uint8)
    return np.broadcast_to(np.expand_dims(line, [k for k in range(3) if k != axis]), extent).copy()


def exponential_layers_s2(r: np.ndarray, *, period: float, volume_fraction: float) -> np.ndarray:
    """Return S2 across layers of exponential thickness (`variation` 1): phi^2 + phi (1 - phi) exp(-r / xi).

    Notes
    -----
    1 / xi is the sum of the inverse mean thicknesses of the two phases (a random telegraph signal).
    """
    phi = volume_fraction
    return phi**2 + phi * (1 - phi) * np.exp(-np.asarray(r, dtype=np.float64) / (period * phi * (1 - phi)))
