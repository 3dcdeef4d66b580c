"""The nearest images: brute-force twins, planted copies, the moves that bring pairs together."""

from __future__ import annotations

import itertools
from dataclasses import fields

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics import nearest_images as module
from mcrpy_diffusion.metrics.copying import nearest_distance
from mcrpy_diffusion.metrics.nearest_images import (
    TRANSFORMATIONS,
    aligned_references,
    closest_pairs,
    local_error,
    nearest_images,
)

EVERY = tuple(TRANSFORMATIONS)


def _images(n: int, shape: tuple[int, int] = (6, 6), *, kind: int, seed: int) -> np.ndarray:
    """Grey values (kind 0), or so many phases."""
    rng = np.random.default_rng(seed)
    return rng.random((n, *shape)) if kind == 0 else rng.integers(kind, size=(n, *shape)).astype(np.uint8)


def _blobs(n: int, seed: int) -> np.ndarray:
    """Periodic two-phase structures of 32 x 32."""
    noise = np.random.default_rng(seed).standard_normal((n, 32, 32))
    return (gaussian_filter(noise, (0, 2, 2), mode="wrap") > 0.03).astype(np.uint8)


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean((a - b) ** 2) if a.dtype.kind == "f" else np.mean(a != b))


def _by_hand(name: str, x: np.ndarray) -> np.ndarray:
    """The transformations pixel by pixel."""
    n, m = x.shape
    place = {
        "identity": lambda i, j: (i, j),
        "rotate_180": lambda i, j: (n - 1 - i, m - 1 - j),
        "flip_rows": lambda i, j: (n - 1 - i, j),
        "flip_columns": lambda i, j: (i, m - 1 - j),
        "rotate_90": lambda i, j: (j, m - 1 - i),
        "rotate_270": lambda i, j: (n - 1 - j, i),
        "transpose": lambda i, j: (j, i),
        "anti_transpose": lambda i, j: (n - 1 - j, m - 1 - i),
    }[name]
    shape = (m, n) if name in EVERY[4:] else (n, m)
    return np.array([[x[place(i, j)] for j in range(shape[1])] for i in range(shape[0])])


def test_transformations_are_the_eight_of_the_square():
    x = np.arange(12).reshape(3, 4)
    results = {name: f(x) for name, f in TRANSFORMATIONS.items()}
    for name, result in results.items():
        np.testing.assert_array_equal(result, _by_hand(name, x))
        np.testing.assert_array_equal(TRANSFORMATIONS[name](np.stack([x, x + 20]))[1], result + 20)
    np.testing.assert_array_equal(np.array([[0, 1], [2, 3]])[::-1].T, [[2, 0], [3, 1]])  # clockwise, in other words
    np.testing.assert_array_equal(TRANSFORMATIONS["rotate_90"](np.array([[0, 1], [2, 3]])), [[1, 3], [0, 2]])
    assert len({(r.shape, r.tobytes()) for r in results.values()}) == 8


@pytest.mark.parametrize("kind", [0, 2, 3])
@pytest.mark.parametrize("shifts", [True, False])
@pytest.mark.parametrize("transformations", [("identity",), ("flip_rows", "identity"), EVERY])
@pytest.mark.parametrize("block", [1024, 4])
def test_pairs_are_the_brute_force_ones(kind, shifts, transformations, block, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_IMAGES", block)
    monkeypatch.setattr(module, "_BLOCK_PIXELS", 36 * block)
    images, references = _images(7, kind=kind, seed=0), _images(9, kind=kind, seed=1)
    moves = [(t, s) for t in transformations for s in (np.ndindex(6, 6) if shifts else [(0, 0)])]
    moved = {(t, s): np.stack([np.roll(_by_hand(t, y), s, (0, 1)) for y in references]) for t, s in moves}
    brute = np.array([[[_difference(x, y) for y in moved[move]] for move in moves] for x in images])
    pairs = nearest_images(images, references, shifts=shifts, transformations=transformations)
    nearest = brute.min(axis=1)
    np.testing.assert_array_equal(pairs.image, np.arange(7))
    np.testing.assert_array_equal(pairs.reference, nearest.argmin(axis=1))
    np.testing.assert_allclose(pairs.distance, nearest.min(axis=1), rtol=1e-12, atol=1e-14)
    first = [moves[brute[i, :, r].argmin()] for i, r in enumerate(pairs.reference)]
    assert [(str(t), tuple(s)) for t, s in zip(pairs.transformation, pairs.shift)] == first
    aligned = aligned_references(pairs, references)
    np.testing.assert_array_equal(aligned, [moved[move][r] for move, r in zip(first, pairs.reference)])
    error = local_error(pairs, images, references)
    np.testing.assert_allclose(error.mean(axis=(1, 2)), pairs.distance, rtol=1e-12, atol=1e-14)
    assert ((error == 0) == (aligned == images)).all()


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("point_reflection", [True, False])
@pytest.mark.parametrize("kind", [0, 2, 4])
def test_distances_are_those_without_torch(periodic, point_reflection, kind):
    images, references = _images(20, (16, 11), kind=kind, seed=0), _images(33, (16, 11), kind=kind, seed=1)
    names = ("identity", "rotate_180") if point_reflection else ("identity",)
    pairs = nearest_images(images, references, shifts=periodic, transformations=names)
    distance, index = nearest_distance(images, references, periodic=periodic, point_reflection=point_reflection)
    np.testing.assert_allclose(pairs.distance, distance, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(pairs.reference, index)


def test_planted_copies_are_found():
    """One plain, one shifted, one turned and shifted: each found where it is looked for, and only there."""
    images, references = _blobs(30, seed=0), _blobs(50, seed=1)
    images[4] = references[17]
    images[9] = np.roll(references[23], (5, -3), (0, 1))
    images[21] = np.roll(np.rot90(references[31]), (30, 8), (0, 1))
    images[21, 3, 7] ^= 1
    plain = nearest_images(images, references, shifts=False)
    assert (closest_pairs(plain, 1).image, closest_pairs(plain, 1).reference) == (4, 17)
    assert np.sort(plain.distance)[1] > 0.1
    shifted = closest_pairs(nearest_images(images, references, shifts=True), 3)
    np.testing.assert_array_equal(shifted.image[:2], [4, 9])
    np.testing.assert_array_equal(shifted.reference[:2], [17, 23])
    np.testing.assert_array_equal(shifted.shift[:2], [[0, 0], [5, 29]])
    assert shifted.distance[2] > 0.1
    found = closest_pairs(nearest_images(images, references, shifts=True, transformations=EVERY), 4)
    np.testing.assert_array_equal(found.image[:3], [4, 9, 21])
    assert (found.reference[2], found.transformation[2], *found.shift[2]) == (31, "rotate_90", 30, 8)
    np.testing.assert_allclose(found.distance[:3], [0, 0, 1 / 1024], rtol=1e-12)
    assert found.distance[3] > 0.1
    error = local_error(found, images, references)
    assert np.argwhere(error[2]).tolist() == [[3, 7]]
    assert error[:2].sum() == 0


def test_threads_change_nothing():
    images, references = _images(40, (16, 12), kind=2, seed=0), _images(50, (16, 12), kind=2, seed=1)
    before = torch.get_num_threads()
    found = []
    try:
        for n_threads in (1, 3):
            torch.set_num_threads(n_threads)
            found.append(nearest_images(images, references, shifts=True, transformations=EVERY[:2]))
            assert torch.get_num_threads() == n_threads
    finally:
        torch.set_num_threads(before)
    for field in fields(found[0]):
        np.testing.assert_array_equal(*(getattr(pairs, field.name) for pairs in found))


def test_first_of_equal_references_and_of_equal_pairs():
    references = np.repeat(_images(1, (16, 16), kind=2, seed=0), 5, axis=0)
    images = np.concatenate([1 - references[:1], references[:2]])
    pairs = nearest_images(images, references, shifts=True, transformations=EVERY)
    np.testing.assert_array_equal(pairs.reference, 0)
    np.testing.assert_array_equal(closest_pairs(pairs, 2).image, [1, 2])
    assert len(closest_pairs(pairs, 99).image) == 3


def test_single_precision_is_exact_for_large_images():
    rng = np.random.default_rng(0)
    references = (rng.random((3, 256, 256)) < 0.97).astype(np.uint8)
    images = np.roll(references, (100, 31), (1, 2))
    images[:, 7, 9] ^= 1
    pairs = nearest_images(images, references, shifts=True)
    np.testing.assert_array_equal(pairs.distance, 1 / 256**2)
    np.testing.assert_array_equal(pairs.shift, np.tile([100, 31], (3, 1)))
    assert nearest_images(images, images, shifts=False).distance.max() == 0


def test_no_image():
    pairs = nearest_images(np.zeros((0, 4, 4), int), np.zeros((2, 4, 4), int), shifts=True)
    assert [len(v) for v in (pairs.image, pairs.distance, pairs.transformation, pairs.shift)] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("images", "references", "transformations", "words"),
    [
        ((1, 4, 4), (1, 4, 5), ("identity",), "need 1 or more of these"),
        ((1, 4, 4), (0, 4, 4), ("identity",), "there are 0 references"),
        ((1, 4, 5), (1, 4, 5), ("identity", "rotate_90"), "square for rotate_90, got 4 x 5"),
        ((1, 4, 4), (1, 4, 4), ("turn",), "transformations must be"),
        ((1, 4, 4), (1, 4, 4), (), "transformations must be"),
    ],
)
def test_sets_that_do_not_fit(images, references, transformations, words):
    with pytest.raises(InputError, match=words):
        nearest_images(np.zeros(images, int), np.zeros(references, int), shifts=True, transformations=transformations)


def test_closest_pairs_needs_a_number():
    pairs = nearest_images(np.zeros((1, 4, 4), int), np.zeros((2, 4, 4), int), shifts=True)
    with pytest.raises(InputError, match="n_pairs must be .* got 0"):
        closest_pairs(pairs, 0)


def test_every_transformation_keeps_what_its_place_says():
    """The first four keep every extent; the first two the pixels' pairs."""
    x = np.zeros((2, 3))
    assert [TRANSFORMATIONS[name](x).shape == (2, 3) for name in EVERY] == [True] * 4 + [False] * 4
    assert list(itertools.islice(EVERY, 2)) == ["identity", "rotate_180"]
