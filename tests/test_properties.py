"""Conductivity and tortuosity factor: closed forms, percolation, and their comparison between sets."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.evaluate import evaluate
from mcrpy_diffusion.evaluation.properties import structures_for_mean
from mcrpy_diffusion.evaluation.results import Evaluation
from mcrpy_diffusion.metrics.conductivity import effective_conductivity, percolating
from mcrpy_diffusion.reports.console import console_table
from mcrpy_diffusion.reports.report import write_report

pytest.importorskip("taufactor")


def bars(*widths: int, extent: tuple[int, int] = (10, 12)) -> np.ndarray:
    """Structures with a bar of each width along the rows' axis."""
    images = np.zeros((len(widths), *extent), dtype=np.uint8)
    for image, width in zip(images, widths):
        image[:, :width] = 1
    return images


def test_a_bar_conducts_its_share_along_and_nothing_across() -> None:
    found = effective_conductivity(bars(3, 0, 12), phase=1)
    np.testing.assert_allclose(found, [[3 / 12, 0], [0, 0], [1, 1]], atol=1e-3)
    np.testing.assert_allclose(effective_conductivity(bars(3), phase=0), [[9 / 12, 0]], atol=1e-3)


def test_a_constriction_is_a_resistance_in_series() -> None:
    """All columns in one half, a third of them in the other: close to 1 / (1/2 + 3/2), below by the constriction."""
    image = np.zeros((1, 24, 6), dtype=np.uint8)
    image[0, :12] = 1
    image[0, 12:, :2] = 1
    (value,) = effective_conductivity(image, phase=1)[:, 0]
    assert 0.8 * 0.5 < value < 0.5


def test_a_channel_through_a_volume() -> None:
    volume = np.zeros((1, 8, 8, 8), dtype=np.uint8)
    volume[0, :, 2:4, 1:5] = 1
    np.testing.assert_allclose(effective_conductivity(volume, phase=1), [[8 / 64, 0, 0]], atol=1e-3)


def test_pixels_that_touch_at_corners_or_end_blindly_do_not_conduct() -> None:
    image = np.array([[1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0], [1, 0, 1, 1]])
    assert percolating(image == 1).astype(int).tolist() == [[0, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
    assert not percolating(np.eye(4, dtype=bool)).any()


def test_sets_are_compared_by_both_properties(tmp_path) -> None:
    rng = np.random.default_rng(0)
    original, generated = bars(*rng.integers(2, 8, 30)), bars(*rng.integers(7, 12, 20))
    found = evaluate(original, generated, n_phases=2, periodic=False, properties=True)
    phase = found.properties["1"]
    means = original.mean(axis=(1, 2)) / 2  # of both axes: nothing flows across
    assert phase.conductivity.original == pytest.approx(means.mean(), rel=1e-2)
    assert phase.conductivity.difference == pytest.approx((generated.mean() - original.mean()) / 2, rel=2e-2)
    assert phase.conductivity.p_value < 0.01
    assert phase.conductivity.wasserstein > phase.conductivity.wasserstein_floor_95
    assert phase.tortuosity_factor.original == pytest.approx(2, rel=1e-2)
    assert phase.percolating == {"original": 0.5, "generated": 0.5}
    expected = (1.96 * means.std(ddof=1) / (0.01 * means.mean())) ** 2
    assert phase.conductivity.n_for_1_percent["original"] == pytest.approx(expected, rel=0.02)
    assert Evaluation.from_dict(found.to_dict()) == found
    assert "conductivity, phase 1" in console_table(found, {}, full=True)
    files = write_report(tmp_path, name="bars", metrics=found, original=original, generated=generated)
    assert "tortuosity factor, phase 1" in files[0].read_text(encoding="utf-8")


def test_the_number_of_structures_for_a_mean() -> None:
    values = np.random.default_rng(1).normal(1, 0.1, 4000)
    assert structures_for_mean(values) == pytest.approx((1.96 * 0.1 / 0.01) ** 2, rel=0.1)
    assert structures_for_mean(np.zeros(5)) is None
    assert structures_for_mean(np.ones(5)) == 1


def test_without_taufactor_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name, *more):
        if name == "taufactor":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(InputError, match="pip install"):
        effective_conductivity(bars(3), phase=1)
