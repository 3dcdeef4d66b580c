"""The models that come with the package still draw structures with the statistics that their cards state."""

from __future__ import annotations

import numpy as np
import pytest

from mcrpy_diffusion.metrics.arrays import areas
from mcrpy_diffusion.metrics.spatial_statistics import (
    default_max_distance,
    discrepancy,
    lineal_path,
    radial_average,
    two_point_correlation,
)
from mcrpy_diffusion.models import pretrained
from mcrpy_diffusion.models.model import load_model

N_STRUCTURES = 8
N_RESAMPLES = 2000
CONFIDENCE = 0.999  # of each bound; twelve are checked


def curves_of(structures: np.ndarray, phase: int, periodic: bool) -> dict[str, np.ndarray]:
    """Return S2 and L of each structure over the distance, as `evaluate` does: L along rows and columns."""
    last = default_max_distance(structures.shape[1:])
    s2 = two_point_correlation(structures, phase=phase, periodic=periodic)
    path = lineal_path(structures, phase=phase, periodic=periodic, max_length=last)
    return {
        "two_point_correlation": radial_average(s2, max_distance=last),
        "lineal_path": path[:, :2].mean(axis=1),
    }


def scatter_of_the_mean(curves: np.ndarray, original: np.ndarray) -> float:
    """Return a bound on 100 * area abs(mean of M curves - their expectation) / area under the original.

    By the bootstrap: the scatter of the mean of M resampled curves about the mean of the M, whose variance is
    (M - 1) / M of that of the mean itself.
    """
    n = len(curves)
    chosen = np.random.default_rng(0).integers(n, size=(N_RESAMPLES, n))
    means = curves[chosen].mean(axis=1)
    errors = 100 * areas(np.abs(means - curves.mean(axis=0))) / areas(original)
    return float(np.quantile(errors, CONFIDENCE) * np.sqrt(n / (n - 1)))


@pytest.mark.slow
@pytest.mark.parametrize("name", pretrained.names())
def test_discrepancies_are_those_of_the_card_within_the_scatter_of_structures(name: str) -> None:
    """eps(original, mean of M) <= eps(original, expectation) + scatter of the mean of M, by the triangle inequality.

    The card has a 95 % interval of the first, measured with 1,000 structures.
    """
    model = load_model(name)
    card = model.info.card
    assert card is not None
    structures = model.sample(N_STRUCTURES, seed=1000)
    phase = card.figures.volume_fraction.phase
    stated = card.statistics.curves.phases[str(phase)]
    for measure, curves in curves_of(structures, phase, model.info.periodic).items():
        original = np.array(getattr(stated, measure).original.mean)
        scatter = scatter_of_the_mean(curves, original)
        found = discrepancy(original, curves.mean(axis=0))
        largest = getattr(card.figures, measure).interval_percent[1]
        assert found <= largest + scatter, f"{measure}: {found:.2f} % is above {largest:.2f} + {scatter:.2f} %"
