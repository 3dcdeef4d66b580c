"""Interfaces, clusters, chords, directions and grains of sets: structures whose figures are known by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.evaluate import evaluate
from mcrpy_diffusion.evaluation.grains import compare_grains
from mcrpy_diffusion.evaluation.results import Evaluation, GrainCounts
from mcrpy_diffusion.evaluation.shapes import compare_chords, compare_interfaces
from mcrpy_diffusion.metrics.grains import compare_distributions, measure_grains
from mcrpy_diffusion.metrics.spatial_statistics import discrepancy, lineal_path


def squares(sizes: list[int], *, extent: tuple[int, int] = (16, 16), n: int = 6) -> np.ndarray:
    """Structures of n, each a row of squares of phase 1 of these sizes; none touches another or an edge."""
    images = np.zeros((n, *extent), dtype=np.uint8)
    column = 1
    for size in sizes:
        images[:, 1 : 1 + size, column : column + size] = 1
        column += size + 2
    return images


def noise(n: int, *, seed: int, extent: tuple[int, int] = (16, 16)) -> np.ndarray:
    return (np.random.default_rng(seed).random((n, *extent)) < 0.5).astype(np.uint8)


@pytest.mark.parametrize("periodic", [True, False])
def test_shapes_of_squares_by_hand(periodic: bool) -> None:
    made = squares([3, 5])
    made[:, 3, 7] = 0  # a hole in the second square, whose columns are 6 to 10
    sets = {"original": squares([4]), "generated": made}
    found = compare_interfaces(sets, phase=1, periodic=periodic)
    per = 10_000 / 256
    assert (found["number_of_clusters"].original, found["number_of_clusters"].generated) == (per, 2 * per)
    assert (found["euler_number"].original, found["euler_number"].generated) == (per, per)
    assert found["euler_number"].difference == 0
    assert found["specific_surface"].difference > 0
    chords = compare_chords(sets, phase=1, periodic=periodic)
    assert chords.original_mean_length == pytest.approx(4)
    if periodic:  # in each direction 3 chords of 3, 4 of 5, and around the hole one of 1 and of 3
        assert chords.generated_mean_length == pytest.approx((3 * 3 + 4 * 5 + 1 + 3) / 9)
        counts = {3: 4, 5: 4, 1: 1, 4: -4}
        assert chords.discrepancy_percent == pytest.approx(100 * sum(map(abs, counts.values())) / 4)


def test_counts_of_a_larger_original_are_those_of_its_pieces() -> None:
    large = np.tile(squares([4], n=1)[0], (2, 3))[None]
    large = np.pad(large, ((0, 0), (0, 5), (0, 9)))  # what is left over does not count
    assert large.shape[1:] == (37, 57)
    found = compare_interfaces({"original": large, "generated": squares([4])}, phase=1, periodic=False)
    assert found["number_of_clusters"].difference == 0
    cut = large.copy()
    cut[:, 12:20, 4:28] = 1  # a block over the edges of four pieces: in the upper two a cluster of its own
    found = compare_interfaces({"original": cut, "generated": squares([4])}, phase=1, periodic=False)
    assert found["number_of_clusters"].original == pytest.approx(10_000 / 256 * 8 / 6)


def test_directions_tell_turned_structures_apart() -> None:
    stripes = np.zeros((5, 16, 16), dtype=np.uint8)
    stripes[:, ::4] = stripes[:, 1::4] = 1  # 2 of 4 rows
    metrics = evaluate(stripes, stripes.swapaxes(1, 2).copy(), n_phases=2, periodic=True, held_out=stripes)
    for measure in ("two_point_correlation", "lineal_path"):
        found = getattr(metrics, measure)
        assert found.discrepancy_percent == pytest.approx(0, abs=1e-9)  # the average does not see it
        percent = {name: values.discrepancy_percent for name, values in found.directions.items()}
        assert percent["diagonal"] == percent["antidiagonal"] == 0
        assert min(percent["down"], percent["across"]) > 20
        anisotropy = found.anisotropy_percent
        assert anisotropy.original == pytest.approx(anisotropy.generated)
        assert anisotropy.original > 50
        assert anisotropy.floor == pytest.approx(0, abs=1e-9)
    down, across = (lineal_path(s, phase=1, periodic=True, max_length=7)[0] for s in (stripes[0], stripes[0].T))
    assert metrics.lineal_path.directions["down"].discrepancy_percent == discrepancy(down, across)


def test_grains_by_hand() -> None:
    """Grains are the squares: areas 9 and 25 against 16; diameters 2 sqrt(area / pi)."""
    sets = {"original": squares([4]), "generated": squares([3, 5]), "held_out": squares([3, 5])}
    for images in sets.values():
        images[:, :, 0] = images[:, 0] = 0
        images[:, 12:, :] = images[:, :, 13:] = 0
    grains = compare_grains({k: 1 - v for k, v in sets.items()}, boundary_phase=1, periodic=True)
    assert grains.n_grains == GrainCounts(original=6, generated=12, held_out=12)
    unit = 2 / np.pi**0.5
    diameter = grains.diameter
    assert diameter.original == pytest.approx(4 * unit)
    assert (diameter.generated, diameter.generated_std) == (pytest.approx(4 * unit), pytest.approx(unit))
    assert diameter.difference == pytest.approx(0)
    assert diameter.wasserstein == pytest.approx(unit)
    assert diameter.kolmogorov_smirnov == pytest.approx(0.5)
    assert (diameter.wasserstein_floor, diameter.kolmogorov_smirnov_floor) == (0, pytest.approx(0))
    assert diameter.held_out_wasserstein == pytest.approx(0, abs=1e-12)
    assert diameter.held_out_kolmogorov_smirnov == pytest.approx(0, abs=1e-12)
    histogram = diameter.histogram
    assert (histogram.edges[0], histogram.edges[-1]) == (pytest.approx(3 * unit), pytest.approx(5 * unit))
    assert (histogram.generated[0], histogram.generated[-1]) == pytest.approx((0.5, 0.5))
    assert grains.aspect_ratio.original == pytest.approx(1)
    assert grains.aspect_ratio.wasserstein == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("periodic", [True, False])
def test_grain_floor_is_that_of_the_structures_drawn(periodic: bool) -> None:
    """A brute-force twin: both sets of drawn structures stacked, and measured anew."""
    original, generated = noise(7, seed=0), noise(4, seed=1)
    options: dict[str, Any] = {"boundary_phase": 1, "periodic": periodic}
    found = compare_grains({"original": original, "generated": generated}, **options)
    rng, floors = np.random.default_rng(0), []
    others, originals = (rng.integers(7, size=(200, n)) for n in (4, 7))
    for chosen in zip(originals, others):
        first, second = (measure_grains(original[each], **options) for each in chosen)
        weights = {"first_weights": first.weight, "second_weights": second.weight}
        floors.append(compare_distributions(first.diameter, second.diameter, **weights))
    for name in ("wasserstein", "kolmogorov_smirnov"):
        assert getattr(found.diameter, f"{name}_floor") == pytest.approx(np.mean([getattr(f, name) for f in floors]))


def test_grains_that_there_are_not() -> None:
    images = noise(5, seed=2)
    assert evaluate(images, images, n_phases=2, periodic=True).grains is None
    with pytest.raises(InputError, match="boundary_phase must be a phase .*0, 1.*got 2"):
        evaluate(images, images, n_phases=2, periodic=True, boundary_phase=2)
    whole = np.ones_like(images)
    metrics = evaluate(images, whole, n_phases=2, periodic=True, boundary_phase=1)
    assert metrics.grains.reason == "no whole grain lies in the generated structures"
    assert metrics.grains.diameter is None
    assert Evaluation.from_dict(json.loads(json.dumps(metrics.to_dict(), allow_nan=False))) == metrics
