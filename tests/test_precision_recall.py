"""Precision, recall, density, coverage: a brute-force twin, identities, expected values, scatter, memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics import precision_recall as module
from mcrpy_diffusion.metrics.frechet_distance import random_halves
from mcrpy_diffusion.metrics.precision_recall import MEASURES, PrecisionRecall, precision_recall


def normal(n: int, d: int = 5, *, seed: int, shift: float = 0.0) -> np.ndarray:
    return shift + np.random.default_rng(seed).normal(size=(n, d))


def values(found: PrecisionRecall) -> list[float]:
    return [getattr(found, name) for name in MEASURES]


def brute_force(real: np.ndarray, generated: np.ndarray, k: int) -> list[float]:
    """The four definitions, one distance at a time."""

    def reach(features: np.ndarray) -> list[float]:
        return [
            sorted(np.linalg.norm(a - b) for j, b in enumerate(features) if j != i)[k - 1]
            for i, a in enumerate(features)
        ]

    of_real, of_generated = reach(real), reach(generated)
    n, m = len(real), len(generated)
    distance = [[np.linalg.norm(x - y) for y in generated] for x in real]
    near_real = [[distance[i][j] <= of_real[i] for j in range(m)] for i in range(n)]
    near_generated = [[distance[i][j] <= of_generated[j] for j in range(m)] for i in range(n)]
    return [
        sum(any(near_real[i][j] for i in range(n)) for j in range(m)) / m,
        sum(any(near_generated[i][j] for j in range(m)) for i in range(n)) / n,
        sum(map(sum, near_real)) / (k * m),
        sum(map(any, near_real)) / n,
    ]


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("block", [1, 40, 10**6])
def test_they_are_their_definitions(monkeypatch: pytest.MonkeyPatch, k: int, block: int) -> None:
    monkeypatch.setattr(module, "_BLOCK_PAIRS", block)
    real, generated = normal(23, seed=0), normal(31, seed=1, shift=0.4)
    expected = brute_force(real, generated, k)
    assert 0 < min(expected) < 1
    found = precision_recall(real, generated, k=k)
    assert values(found) == pytest.approx(expected, rel=1e-12)
    assert found.intervals == {}


def test_a_line_by_hand() -> None:
    """Real 0, 1, 3 with k = 1: reach 1, 1, 2. Generated 2, 4, 9: reach 2, 2, 5."""
    found = precision_recall(np.array([[0.0], [1], [3]]), np.array([[2.0], [4], [9]]), k=1)
    assert found.precision == pytest.approx(2 / 3)  # 2 and 4
    assert found.recall == 1  # 0 by 2, 1 by 2, 3 by 2
    assert found.density == pytest.approx(3 / 3)  # 2 near 1 and 3, 4 near 3
    assert found.coverage == pytest.approx(2 / 3)  # 1 and 3


def test_a_set_against_itself() -> None:
    images = 1e4 + normal(60, 200, seed=2)
    found = precision_recall(images, images[::-1].copy())
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert found.density == pytest.approx(4 / 3)  # each ball holds its centre and the 3 nearest


def test_images_that_are_all_alike_reach_one_another() -> None:
    same = np.tile(np.random.default_rng(3).normal(size=300) * 1e3, (12, 1))
    assert values(precision_recall(same, same[:7])) == [1, 1, 4, 1]


def test_far_sets_have_nothing_in_common() -> None:
    assert values(precision_recall(normal(30, seed=4), normal(20, seed=5, shift=100))) == [0, 0, 0, 0]


def test_a_part_of_the_real_images_is_precise_but_lacks_recall() -> None:
    """Of two far clusters only one is generated."""
    one, other = normal(40, seed=6), normal(40, seed=7, shift=50)
    found = precision_recall(np.concatenate([one, other]), one)
    assert (found.precision, found.recall, found.coverage) == (1, 0.5, 0.5)
    found = precision_recall(one, np.concatenate([one, other]))
    assert (found.precision, found.recall, found.coverage) == (0.5, 1, 1)


def test_an_outlier_raises_precision_but_not_density() -> None:
    """Naeem et al.: the large ball of one real outlier makes precision 1, density stays far below."""
    real = np.concatenate([normal(50, seed=8), [[60.0] * 5]])
    found = precision_recall(real, normal(30, seed=9, shift=30))
    assert found.precision == 1
    assert found.density == pytest.approx(1 / 3)


@pytest.mark.parametrize(("n", "m"), [(20, 20), (30, 12)])
def test_expected_density_and_coverage_of_equal_distributions(n: int, m: int) -> None:
    """Naeem et al., lemmas 1 and 2: 1 and 1 - (N-1)...(N-k) / ((M+N-1)...(M+N-k)), whatever the distribution."""
    k, pairs = 3, [(normal(n, 4, seed=i), normal(m, 4, seed=10_000 + i)) for i in range(400)]
    found = np.array([values(precision_recall(x, y, k=k, device="cpu")) for x, y in pairs])
    expected = 1 - np.prod([(n - i) / (m + n - i) for i in range(1, k + 1)])
    error = found.std(axis=0) / 400**0.5
    assert abs(found[:, 2].mean() - 1) < 4 * error[2]
    assert abs(found[:, 3].mean() - expected) < 4 * error[3]
    assert error[3] < 0.01


def test_resampled_values_are_those_of_the_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    real, generated = normal(40, seed=10), normal(35, seed=11, shift=0.3)
    kept: list[np.ndarray] = []
    monkeypatch.setattr(module, "centred_interval", lambda resampled, *_, **__: kept.append(resampled))
    precision_recall(real, generated, n_resamples=4, seed=7)
    halves = zip(random_halves(40, 4, 7), random_halves(35, 4, 8))
    expected = [brute_force(real[rows], generated[columns], 3) for rows, columns in halves]
    np.testing.assert_allclose(np.transpose(kept), expected, rtol=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_intervals_are_as_wide_as_new_sets_scatter(shift: float) -> None:
    pairs = [(normal(150, 6, seed=i), normal(150, 6, seed=10_000 + i, shift=shift)) for i in range(200)]
    found = np.array([values(precision_recall(x, y)) for x, y in pairs])
    widths = np.subtract(*np.percentile(found, (97.5, 2.5), axis=0))
    resampled = [precision_recall(x, y, n_resamples=100, seed=i) for i, (x, y) in enumerate(pairs[:12])]
    for k, name in enumerate(MEASURES):
        intervals = [r.intervals[name] for r in resampled]
        mean_width = np.mean([high - low for low, high in intervals])
        assert 0.85 < mean_width / widths[k] < 1.5
        for r, (low, high) in zip(resampled, intervals):
            assert low <= getattr(r, name) <= high


def test_intervals_depend_on_the_seed_alone_and_stay_in_range() -> None:
    real, generated = normal(30, seed=12), normal(30, seed=13)
    first = precision_recall(real, generated, n_resamples=20, seed=1)
    assert first == precision_recall(real, generated, n_resamples=20, seed=1)
    assert first.intervals != precision_recall(real, generated, n_resamples=20, seed=2).intervals
    itself = precision_recall(real, real, n_resamples=20)
    assert itself.intervals["precision"][1] == itself.intervals["recall"][1] == 1


def test_too_few_images_have_no_intervals() -> None:
    assert precision_recall(normal(4, seed=0), normal(9, seed=1)).intervals == {}
    with pytest.raises(InputError, match="at least 8 images of each set, got 7 and 9"):
        precision_recall(normal(7, seed=0), normal(9, seed=1), n_resamples=5)


def test_memory_does_not_grow_with_the_number_of_pairs() -> None:
    """All distances of 12,000 to 12,000 images would take 1.1 GiB."""
    code = """
import resource
import numpy as np
import torch
from mcrpy_diffusion.metrics.precision_recall import precision_recall

def run(n):
    x = np.random.default_rng(n).normal(size=(n, 2))
    precision_recall(x, x + 0.1, n_resamples=2, device="cpu")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

print(run(500), run(12_000))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    assert after - before < 250  # MiB


@pytest.mark.parametrize(
    ("real", "generated", "k", "words"),
    [
        (normal(3, seed=0), normal(9, seed=0), 3, "at least 4 images"),
        (normal(9, seed=0), normal(3, seed=0), 3, "at least 4 images"),
        (normal(9, seed=0), normal(9, 4, seed=0), 3, "(9, 4)"),
        (normal(9, seed=0), normal(9, seed=0), 0, "at least 1"),
        (normal(9, seed=0), np.full((9, 5), np.inf), 3, "finite"),
    ],
)
def test_features_that_cannot_be_compared(real: np.ndarray, generated: np.ndarray, k: int, words: str) -> None:
    with pytest.raises(InputError) as caught:
        precision_recall(real, generated, k=k)
    assert words in str(caught.value)
