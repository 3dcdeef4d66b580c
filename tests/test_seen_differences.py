"""The measures tell real structures from noise of the same volume fraction, and not from other real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mcrpy_diffusion.metrics.chords import chord_density, specific_surface
from mcrpy_diffusion.metrics.clusters import euler_number, number_of_clusters, two_point_cluster_function
from mcrpy_diffusion.metrics.spatial_statistics import lineal_path, radial_average, two_point_correlation

MATERIALS = ("carbonate", "ceramics", "copolymer")  # eight crops of pmma hold too few particles


def _measures(images: np.ndarray) -> dict[str, np.ndarray]:
    """Each measure as one row per image."""
    options = {"phase": 1, "periodic": False}
    return {
        "two-point correlation": radial_average(two_point_correlation(images, **options), max_distance=20),
        "cluster function": radial_average(two_point_cluster_function(images, **options), max_distance=20),
        "lineal path": lineal_path(images, **options, max_length=20)[:, :2].mean(axis=1),
        "chords": chord_density(images, **options, max_length=20)[:, :2].mean(axis=1),
        "specific surface": specific_surface(images, **options)[:, None],
        "clusters": number_of_clusters(images, **options)[:, None],
        "Euler number": euler_number(images, **options)[:, None],
    }


def _t(difference: np.ndarray, variance: np.ndarray) -> float:
    """Largest mean difference in its standard errors."""
    return float(np.max(np.abs(difference) / np.sqrt(np.maximum(variance, 1e-30))))


@pytest.mark.parametrize("material", MATERIALS)
def test_noise_is_far_and_other_crops_are_near(microstructures: Path, material: str) -> None:
    phases = np.rint(np.load(microstructures / f"{material}_256.npy")).astype(np.uint8)
    crops = phases.reshape(4, 64, 4, 64).swapaxes(1, 2).reshape(16, 64, 64)
    rng = np.random.default_rng(0)
    chosen = rng.permutation(16)
    real, held_out = _measures(crops[chosen[:8]]), _measures(crops[chosen[8:]])
    noise = _measures(rng.permuted(crops[chosen[:8]].reshape(8, -1), axis=1).reshape(8, 64, 64))
    for name, values in real.items():
        other, without = held_out[name], values - noise[name]
        unseen = _t(values.mean(axis=0) - other.mean(axis=0), (values.var(axis=0) + other.var(axis=0)) / 7)
        assert unseen < 5, name
        assert _t(without.mean(axis=0), without.var(axis=0) / 7) > 6, name
