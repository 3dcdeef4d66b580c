"""The data-copying test: scipy's U test, its spread for equal sets, planted copies and far images."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from scipy.ndimage import gaussian_filter

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.chords import specific_surface
from mcrpy_diffusion.metrics.copying_score import (
    MIN_IN_CELL,
    chance_of_nearer,
    copying_score,
    copying_scores_by_cell,
    effective_number,
    partition,
)
from mcrpy_diffusion.metrics.nearest_images import nearest_images


def _blobs(n: int, seed: int, width: float = 2) -> np.ndarray:
    """Periodic two-phase structures of 32 x 32."""
    noise = np.random.default_rng(seed).standard_normal((n, 32, 32))
    blobs = gaussian_filter(noise, (0, width, width), mode="wrap")
    return (blobs > 0.3 * blobs.std()).astype(np.uint8)


def _distance(images: np.ndarray, training: np.ndarray, shifts: bool = False) -> np.ndarray:
    return nearest_images(images, training, shifts=shifts).distance


@pytest.mark.parametrize("levels", [5, 1000])
@pytest.mark.parametrize("sizes", [(40, 60), (7, 90), (1, 3)])
def test_score_is_that_of_scipy(levels, sizes):
    rng = np.random.default_rng(0)
    x, y = rng.integers(levels, size=sizes[0]) / 7, rng.integers(levels + 1, size=sizes[1]) / 7
    z = copying_score(x, y)
    test = scipy.stats.mannwhitneyu(x, y, method="asymptotic", use_continuity=False, alternative="less")
    assert scipy.stats.norm.cdf(z) == pytest.approx(test.pvalue, rel=1e-9)
    brute = sum((a > b) + 0.5 * (a == b) for a, b in itertools.product(x, y))
    assert np.sign(z) == np.sign(brute - len(x) * len(y) / 2)
    assert copying_score(y, x) == pytest.approx(-z, rel=1e-9)


def test_sign():
    """Nearer than unseen images: below 0."""
    near, far = np.linspace(0, 0.1, 50), np.linspace(0.2, 0.3, 50)
    assert copying_score(near, far) == pytest.approx(-50 * 50 / 2 / np.sqrt(50 * 50 * 101 / 12), rel=1e-12)
    assert copying_score(far, near) > 8
    assert copying_score(np.full(9, 0.2), np.full(5, 0.2)) == 0


def test_scores_of_equal_sets_are_standard_normal():
    rng = np.random.default_rng(0)
    single, together = [], []
    for _ in range(400):
        x, y = (np.rint(rng.gamma(5, 10, 300)) for _ in range(2))  # whole numbers of pixels
        cells = [rng.choice(4, size=300, p=[0.5, 0.3, 0.15, 0.05]) for _ in range(2)]
        single.append(copying_score(x, y))
        scores = copying_scores_by_cell(x, y, generated_cell=cells[0], held_out_cell=cells[1], n_cells=4)
        together.append(scores.z)
        assert abs(scores.average) < abs(scores.z)
    for z in (single, together):
        assert abs(np.mean(z)) < 3 / np.sqrt(400)
        assert 0.9 < np.std(z) < 1.1
        assert 0.92 < np.mean(np.abs(z) < 2) < 0.98


def test_real_images_are_no_copies_and_copies_are():
    training, held_out, real = (_blobs(200, seed=s) for s in range(3))
    unseen = _distance(held_out, training)
    assert abs(copying_score(_distance(real, training), unseen)) < 2
    copies = real.copy()
    copies[:60] = training[:60]
    assert copying_score(_distance(copies, training), unseen) < -4
    noisy = np.where(np.random.default_rng(0).random(real.shape) < 0.1, 1 - training, training)
    assert copying_score(_distance(noisy, training), unseen) < -15
    assert copying_score(_distance(1 - real, training), unseen) > 4


def test_shifted_copies_are_found_under_shifts_alone():
    training, held_out, real = (_blobs(100, seed=s) for s in range(3))
    rng = np.random.default_rng(0)
    copies = np.stack([np.roll(x, rng.integers(4, 28, size=2), (0, 1)) for x in training])
    assert abs(copying_score(_distance(copies, training), _distance(held_out, training))) < 3
    unseen = _distance(held_out, training, shifts=True)
    assert abs(copying_score(_distance(real, training, shifts=True), unseen)) < 2
    assert copying_score(_distance(copies, training, shifts=True), unseen) < -10


def test_copies_of_one_kind_show_in_its_cell():
    """Coarse structures are copied, fine ones come out too far: the whole looks better than its parts."""
    training, held_out, generated = (
        np.concatenate([_blobs(150, seed=s, width=1.5), _blobs(150, seed=s + 10, width=5)]) for s in range(3)
    )
    generated[150:200] = training[150:200]
    generated[:150] ^= (np.random.default_rng(0).random((150, 32, 32)) < 0.1).astype(np.uint8)
    surfaces = [specific_surface(images, phase=1, periodic=True) for images in (training, held_out, generated)]
    cells = partition(*surfaces, n_cells=2, seed=0)
    fine, coarse = (int(np.bincount(cells[0][part]).argmax()) for part in (slice(150), slice(150, 300)))
    assert fine != coarse
    distances = [_distance(images, training) for images in (generated, held_out)]
    scores = copying_scores_by_cell(*distances, generated_cell=cells[2], held_out_cell=cells[1], n_cells=2)
    assert scores.cell_z[fine] > 3
    assert scores.cell_z[coarse] < -3
    assert abs(scores.z) < min(abs(scores.cell_z))
    np.testing.assert_allclose(scores.n_generated, [150, 150], atol=5)


def test_average_and_score_by_hand():
    rng = np.random.default_rng(0)
    x, y = rng.random(100), rng.random(90)
    cell_x = np.repeat([0, 1, 2, 3], [30, 40, 25, 5])  # too few generated in cell 3
    cell_y = np.repeat([0, 1, 2, 3], [20, 30, 10, 30])  # too few held out in cell 2
    scores = copying_scores_by_cell(x, y, generated_cell=cell_x, held_out_cell=cell_y, n_cells=5)
    z = [copying_score(x[cell_x == k], y[cell_y == k]) for k in (0, 1)]
    np.testing.assert_allclose(scores.cell_z, [*z, np.nan, np.nan, np.nan], rtol=1e-14)
    assert scores.average == pytest.approx((20 * z[0] + 30 * z[1]) / 50, rel=1e-12)
    assert scores.z == pytest.approx((20 * z[0] + 30 * z[1]) / np.sqrt(20**2 + 30**2), rel=1e-12)
    np.testing.assert_array_equal(scores.n_held_out, [20, 30, 10, 30, 0])
    one = np.zeros(MIN_IN_CELL - 1, int)
    none = copying_scores_by_cell(one, one, generated_cell=one, held_out_cell=one, n_cells=1)
    assert np.isnan([none.z, none.average, *none.cell_z]).all()


def test_partition_is_a_fixed_point_of_lloyd():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [10, 0], [0, 10], [10, 10]])
    points = (centres[:, None] + rng.normal(size=(4, 50, 2))).reshape(200, 2)
    others = centres + rng.normal(size=(4, 2))
    cell, other = partition(points, others, n_cells=4, seed=1)
    assert all(len(np.unique(part)) == 1 for part in cell.reshape(4, 50))
    assert len(np.unique(cell)) == 4
    np.testing.assert_array_equal(other, cell[::50])
    points = rng.random((300, 1, 2))
    cell = partition(points, n_cells=5, seed=3)[0]
    means = np.stack([points[cell == k].mean(axis=0) for k in range(5)])
    squares = ((points[:, None] - means) ** 2).sum(axis=(2, 3))
    np.testing.assert_array_equal(cell, squares.argmin(axis=1))
    np.testing.assert_array_equal(cell, partition(points, n_cells=5, seed=3)[0])
    assert not np.array_equal(cell, partition(points, n_cells=5, seed=4)[0])


def test_partition_of_equal_images():
    same = np.ones((6, 4, 4))
    assert (partition(same, n_cells=3)[0] == 0).all()


def test_errors():
    x = np.ones(30)
    for bad in (np.ones((3, 3)), np.array([np.nan])):
        with pytest.raises(InputError, match="distances must be"):
            copying_score(bad, x)
    with pytest.raises(InputError, match="got 0 and 30"):
        copying_score(x[:0], x)
    for cell in (np.zeros(29, int), np.zeros(30), np.full(30, 2), np.full(30, -1)):
        with pytest.raises(InputError, match="between 0 and 1"):
            copying_scores_by_cell(x, x, generated_cell=cell, held_out_cell=np.zeros(30, int), n_cells=2)
    with pytest.raises(InputError, match="n_cells is 31"):
        partition(x, n_cells=31)
    with pytest.raises(InputError, match="must have 1 values"):
        partition(x, np.ones((30, 2)), n_cells=2)


@pytest.mark.parametrize("material", ["alloy", "carbonate", "ceramics", "composite", "copolymer", "pmma"])
def test_real_micrographs(microstructures, material):
    """Crops of one micrograph that do not overlap, dealt out to three sets: no copies. Copied crops are."""
    phases = np.rint(np.load(microstructures / f"{material}_256.npy")).astype(np.uint8)
    crops = phases.reshape(16, 16, 16, 16).swapaxes(1, 2).reshape(256, 16, 16)
    training, held_out, real = np.split(np.random.default_rng(0).permutation(crops), [128, 192])
    unseen = _distance(held_out, training)
    assert abs(copying_score(_distance(real, training), unseen)) < 2
    assert copying_score(_distance(training[:64], training), unseen) < -4


@pytest.mark.parametrize("n_windows", [5, 20])
def test_scores_of_overlapping_images_are_standard_normal_if_their_windows_count(n_windows):
    """Each window's distance is that of 30 crops: without the windows the score spreads several times as much."""
    rng, scores, plain = np.random.default_rng(0), [], []
    for _ in range(300):
        generated, real = rng.random(64), np.repeat(rng.random(n_windows), 30)
        scores.append(copying_score(generated, real, n_windows=n_windows))
        plain.append(copying_score(generated, real))
    assert np.std(scores) == pytest.approx(1, abs=0.15)
    assert np.std(plain) > 1.5
    assert effective_number(150, 5) == pytest.approx(1 / (1 / 5 + (1 - 1 / 5) / 150))


@pytest.mark.parametrize("k", range(5))
def test_chance_that_generated_images_are_nearer_than_any_real_one(k):
    """Over all orders of 4 generated and 3 real distances."""
    orders = [*itertools.combinations(range(7), 3)]  # the places of the real ones
    expected = sum(min(order) >= k for order in orders) / len(orders)
    assert chance_of_nearer(k, 4, 3) == pytest.approx(expected)
