"""Differences, intervals and floors of one measure: closed forms, and how often an interval holds the truth."""

from __future__ import annotations

import numpy as np
import pytest

from mcrpy_diffusion.evaluation.sets import compare_curves, compare_scalars


def test_scalars_by_hand() -> None:
    sets = {"original": np.array([1.0, 3.0]), "generated": np.array([4.0, 4.0, 7.0]), "held_out": np.array([4.0])}
    found = compare_scalars(sets, phase=1)
    assert (found.original, found.generated, found.held_out) == (2, 5, 4)
    assert (found.original_std, found.held_out_std) == (1, 0)
    assert (found.difference, found.held_out_difference) == (3, 1)
    assert found.interval is None  # too few
    # means of 3 and of 2 draws from {1, 3}: 1 + 2 i / 3 and 1 + k, binomial
    likely = np.outer([1, 3, 3, 1], [1, 2, 1]) / 32
    apart = np.abs(np.arange(4)[:, None] * 2 / 3 - np.arange(3))
    assert found.floor == pytest.approx(float((likely * apart).sum()), abs=4 * 0.6 / 200**0.5)


@pytest.mark.parametrize(("n", "m"), [(64, 1000), (500, 500), (1000, 20)])
def test_floors_are_what_independent_real_sets_are_apart(n: int, m: int) -> None:
    """Two sets of normal numbers: their means differ by sqrt(2 / pi) sqrt(1 / n + 1 / m) on average."""
    rng = np.random.default_rng(2)
    floors = [
        compare_scalars({"original": rng.normal(size=n), "generated": rng.normal(size=m)}, phase=1).floor
        for _ in range(20)
    ]
    expected = (2 / np.pi) ** 0.5 * (1 / n + 1 / m) ** 0.5
    assert np.mean(floors) == pytest.approx(expected, rel=0.08)  # type: ignore[arg-type]


@pytest.mark.parametrize(("n", "m"), [(200, 30), (40, 40)])
def test_intervals_hold_the_true_difference_mostly(n: int, m: int) -> None:
    """95 % of the intervals of normal numbers hold the true difference: of 200 at least 180 and at most 199."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        found = compare_scalars({"original": rng.normal(size=n), "generated": 0.7 + rng.normal(size=m)}, phase=1)
        held += found.interval[0] < 0.7 < found.interval[1]  # type: ignore[index, operator]
    assert 180 <= held <= 199


def test_intervals_of_curves_follow_those_of_their_height() -> None:
    """Flat curves of height h: eq. (23) is 100 abs(h - 1); its standard deviation 100 times that of the mean."""
    rng = np.random.default_rng(1)
    heights = rng.normal(1.5, 0.2, size=100)
    found = compare_curves({"original": np.ones((50, 4)), "generated": heights[:, None] * np.ones(4)})
    low, high = found.difference_interval_percent  # type: ignore[misc]
    assert found.discrepancy_percent == pytest.approx(100 * (heights.mean() - 1))
    assert found.difference_percent == pytest.approx(found.discrepancy_percent)
    assert low < found.difference_percent < high  # type: ignore[operator]
    assert high - low == pytest.approx(2 * 1.96 * 100 * heights.std() / 10, rel=0.2)
    assert found.floor_percent == found.floor_95_percent == 0
    assert found.interval_percent == (found.discrepancy_percent,) * 2


def test_curves_without_the_phase_are_none() -> None:
    curves = {"original": np.zeros((5, 4)), "generated": np.ones((5, 4))}
    assert set(vars(compare_curves(curves)).values()) == {None}
