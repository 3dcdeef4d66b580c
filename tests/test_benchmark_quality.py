"""What a perfect generator would get in the benchmark: means over sets of real crops, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from test_benchmark import plan_of
from test_pipeline import blobs

from mcrpy_diffusion.benchmark import quality
from mcrpy_diffusion.benchmark.quality import FLOOR_SEED, RealSets, real_quality
from mcrpy_diffusion.data.crops import random_crops
from mcrpy_diffusion.evaluation.statistics import set_statistics
from mcrpy_diffusion.metrics.spatial_statistics import discrepancy

N_SETS = 3


@pytest.fixture
def real(tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "N_FLOOR_SETS", N_SETS)
    monkeypatch.setattr(quality, "N_CROPS", 200)
    np.save(tmp_path / "r.npy", blobs((64, 48)))
    return RealSets.of(plan_of(tmp_path / "r.npy", tmp_path / "out"))


def test_real_crops_get_the_mean_over_sets_of_them(real):
    found = real_quality(5, real)
    fractions, eps = [], []
    original, held_out = (set_statistics(s, phase=1, periodic=False) for s in (real.original, real.held_out))
    for k in range(N_SETS):
        crops = random_crops([real.part], 5, extent=(16, 16), seed=real.seed + FLOOR_SEED + k)
        fractions.append([abs(crops.mean() - each.volume_fraction.mean()) for each in (original, held_out)])
        mean = set_statistics(crops, phase=1, periodic=False).lineal_path.mean(axis=0)
        eps.append([discrepancy(each.lineal_path.mean(axis=0), mean) for each in (original, held_out)])
    sides = ("seen", "held_out")
    assert [found["volume_fraction"][side] for side in sides] == pytest.approx(np.mean(fractions, axis=0))
    assert [found["eps_l_percent"][side] for side in sides] == pytest.approx(np.mean(eps, axis=0))
    assert found["frechet_distance"] is found["recall"] is found["copies"] is None  # no features, no method


def test_more_real_crops_are_nearer_to_the_original(real):
    few, many = (real_quality(n, real) for n in (4, 100))
    for measure in ("volume_fraction", "eps_s2_percent", "eps_l_percent"):
        assert many[measure]["seen"] < 0.5 * few[measure]["seen"]
