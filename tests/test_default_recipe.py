"""The default recipe (log odds, self-conditioning, likelihood loss, EMA) learns a data set that is known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest

import mcrpy_diffusion
from mcrpy_diffusion.metrics.spatial_statistics import DIRECTIONS_2D, discrepancy, lineal_path, two_point_correlation
from mcrpy_diffusion.models.model import Model

EXTENT = 8
PATTERNS = np.stack([np.tile(np.roll([0, 0, 1, 1] * 2, s), (EXTENT, 1)) for s in range(4)])
"""Stripes of two columns: all that crops of them can be."""
ENTROPY = math.log(len(PATTERNS)) / EXTENT**2  # nats per pixel: any code of the patterns takes as many
SMALL = {"channels": 16, "channel_multipliers": (1, 2), "batch_size": 16, "warmup_steps": 10, "learning_rate": 2e-3}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, np.ndarray]:
    """A small network trained on stripes by the preset's recipe, and its losses."""
    folder = tmp_path_factory.mktemp("stripes")
    micrograph = np.tile([0, 0, 1, 1], (40, 10)).astype(np.uint8)
    sizes = {"extent_x": EXTENT, "extent_y": EXTENT, "n_training_samples": 64}
    dataset = mcrpy_diffusion.make_dataset(micrograph, folder / "data", **sizes)
    losses: list[float] = []
    model = mcrpy_diffusion.train_model(
        dataset, folder / "run", n_training_steps=200, on_step=lambda step, loss: losses.append(loss), **SMALL
    )
    recipe = model.info.settings
    assert (recipe.prediction, recipe.loss, recipe.self_condition) == ("log_odds", "likelihood", True)
    return model, np.array(losses)


def test_the_bound_falls_from_one_bit_per_pixel_towards_the_entropy(trained: tuple[Model, np.ndarray]) -> None:
    """Pixels taken one by one cost ln 2 each, as both phases are as frequent; a whole pattern costs ln 4."""
    losses = trained[1]
    n = 50
    last = losses[-n:].mean()
    error = losses[-n:].std() / math.sqrt(n)
    assert losses[:5].mean() > math.log(2) / 2
    assert last + 3 * error > ENTROPY  # the loss bounds it from above
    assert last < math.log(2) / 5


def test_samples_are_the_patterns_with_their_statistics(trained: tuple[Model, np.ndarray]) -> None:
    samples = trained[0].sample(64)
    distances = (samples[:, None] != PATTERNS).mean(axis=(2, 3))
    assert distances.min(axis=1).mean() < 0.03  # of pixels that know nothing of each other: .37
    assert set(distances.argmin(axis=1)) == {0, 1, 2, 3}
    for statistic in (two_point_correlation, lineal_path):
        made, exact = (statistic(s, phase=1, periodic=True).mean(axis=0) for s in (samples, PATTERNS))
        along = 0 if statistic is two_point_correlation else DIRECTIONS_2D.index((0, 1))
        assert discrepancy(exact[along], made[along]) < 10
