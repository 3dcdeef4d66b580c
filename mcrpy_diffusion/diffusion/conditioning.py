"""Volume fractions that condition the network: their distribution over the training images, and draws from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

N_KEPT = 256
GOLDEN_RATIO = (1 + 5**0.5) / 2
SMALLEST_SPREAD = 0.01  # where all images have nearly the same fraction


def condition_table(fractions: np.ndarray, n_kept: int = N_KEPT) -> list[list[float]]:
    """Sort volume fractions (N, C) by the first phase and thin them out evenly to at most `n_kept` rows."""
    ordered = fractions[np.lexsort(fractions.T[::-1])]
    n = min(len(ordered), n_kept)
    chosen = ((np.arange(n) + 0.5) * len(ordered) / n).astype(int)
    return [[round(float(v), 8) for v in row] for row in ordered[chosen]]


def normalise(fractions: Tensor, table: Sequence[Sequence[float]]) -> Tensor:
    """Give volume fractions (N, C) in units of their spread over the table, float32; as they are without a table."""
    if not table:
        return fractions.float()
    known = torch.tensor(table, dtype=torch.float64)
    return ((fractions - known.mean(0)) / known.std(0, correction=0).clamp(min=SMALLEST_SPREAD)).float()


def nearest(fractions: Tensor, table: Sequence[Sequence[float]]) -> Tensor:
    """Return the volume fractions (N, C) within the range of the table that are nearest to the given ones.

    A network that is conditioned on fractions outside its training range makes structures with isolated pixels.
    """
    known = torch.tensor(table, dtype=torch.float64)
    return fractions.double().clamp(known.amin(0), known.amax(0))


def spread(low: Sequence[float], high: Sequence[float], n: int = N_KEPT) -> list[list[float]]:
    """Make a table of volume fractions (n, C) that lie evenly on the line from `low` to `high`."""
    steps = [(k + 0.5) / n for k in range(n)]
    return [[a + (b - a) * step for a, b in zip(low, high, strict=True)] for step in steps]


def draw(seeds: Sequence[int], table: Sequence[Sequence[float]], *, area_ratio: float = 1.0) -> Tensor:
    """Draw volume fractions (N, C), float64, from the table, one row per seed.

    Seed s takes the quantile frac(1/2 + s / golden ratio): consecutive seeds spread evenly over the distribution, so
    that the mean over a set scatters less than that of independent draws.

    Parameters
    ----------
    area_ratio : float
        Area of the window over that of the training images; deviations from the mean shrink with its square root.
    """
    known = torch.tensor(table, dtype=torch.float64)
    chosen = known[[int((0.5 + seed / GOLDEN_RATIO) % 1.0 * len(known)) for seed in seeds]]
    return known.mean(0) + (chosen - known.mean(0)) / area_ratio**0.5
