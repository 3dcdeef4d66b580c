"""Distances to the nearest real image: brute-force twins, and copies that must be found."""

from __future__ import annotations

import numpy as np
import pytest

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics import copying
from mcrpy_diffusion.metrics.copying import nearest_crop_distance, nearest_distance


def _images(n: int, shape: tuple[int, ...] = (6, 5), *, kind: int, seed: int) -> np.ndarray:
    """Grey values (kind 0), or so many phases."""
    rng = np.random.default_rng(seed)
    return rng.random((n, *shape)) if kind == 0 else rng.integers(kind, size=(n, *shape)).astype(np.uint8)


def _difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean((a - b) ** 2) if a.dtype.kind == "f" else np.mean(a != b))


def _versions(image: np.ndarray, *, periodic: bool, point_reflection: bool) -> list[np.ndarray]:
    versions = [image, image[::-1, ::-1]] if point_reflection else [image]
    if periodic:
        versions = [np.roll(v, shift, (0, 1)) for v in versions for shift in np.ndindex(image.shape)]
    return versions


@pytest.mark.parametrize("kind", [0, 2, 3, 5])
@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("point_reflection", [True, False])
@pytest.mark.parametrize("block", [2**18, 70])
def test_nearest_distance_is_the_brute_force_one(kind, periodic, point_reflection, block, monkeypatch):
    monkeypatch.setattr(copying, "_BLOCK_PIXELS", block)
    images, references = _images(7, kind=kind, seed=0), _images(9, kind=kind, seed=1)
    brute = np.array(
        [
            [
                min(_difference(x, v) for v in _versions(y, periodic=periodic, point_reflection=point_reflection))
                for y in references
            ]
            for x in images
        ]
    )
    distance, index = nearest_distance(images, references, periodic=periodic, point_reflection=point_reflection)
    assert distance.dtype == np.float64
    np.testing.assert_allclose(distance, brute.min(axis=1), rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(index, brute.argmin(axis=1))


@pytest.mark.parametrize("kind", [0, 2, 3])
@pytest.mark.parametrize("point_reflection", [True, False])
@pytest.mark.parametrize("shapes", [[(9, 11)], [(6, 5), (8, 20)]])
def test_nearest_crop_distance_is_the_brute_force_one(kind, point_reflection, shapes):
    images = _images(7, kind=kind, seed=0)
    micrographs = [_images(1, shape, kind=kind, seed=k)[0] for k, shape in enumerate(shapes, start=1)]
    crops = [m[i : i + 6, j : j + 5] for m in micrographs for i in range(m.shape[0] - 5) for j in range(m.shape[1] - 4)]
    versions = [v for c in crops for v in _versions(c, periodic=False, point_reflection=point_reflection)]
    brute = [min(_difference(x, v) for v in versions) for x in images]
    distance = nearest_crop_distance(images, micrographs, point_reflection=point_reflection)
    np.testing.assert_allclose(distance, brute, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", [0, 2, 3])
def test_a_large_micrograph_is_searched_everywhere(kind):
    """Larger than one tile of the search, copies at its corners and across the tiles' seams."""
    micrograph = _images(1, (600, 530), kind=kind, seed=0)[0]
    corners = [(0, 0), (570, 0), (0, 506), (570, 506), (226, 232), (227, 233), (240, 240), (453, 465), (454, 466)]
    images = np.array([micrograph[i : i + 30, j : j + 24] for i, j in corners])
    images[0] = images[0][::-1, ::-1]
    np.testing.assert_allclose(nearest_crop_distance(images, [micrograph]), 0, atol=1e-12)
    images[:, 3, 4] = 1 - images[:, 3, 4].clip(0, 1)
    expected = [_difference(x, micrograph[i : i + 30, j : j + 24]) for x, (i, j) in zip(images, corners, strict=True)]
    expected[0] = _difference(images[0], micrograph[29::-1, 23::-1])
    np.testing.assert_allclose(nearest_crop_distance(images, [micrograph]), expected, atol=1e-12)


def test_shifted_and_turned_copies_are_found():
    references = _images(20, (16, 16), kind=2, seed=0)
    copy = np.roll(references[13], (5, -3), (0, 1))[::-1, ::-1]
    distance, index = nearest_distance(copy[None], references, periodic=True)
    assert (distance[0], index[0]) == (0, 13)
    assert nearest_distance(copy[None], references, periodic=True, point_reflection=False)[0][0] > 0.2
    assert nearest_distance(copy[None], references, periodic=False)[0][0] > 0.2


def test_first_of_equal_references():
    references = np.repeat(_images(1, (16, 16), kind=2, seed=0), 5, axis=0)
    assert nearest_distance(references[:1], references, periodic=True)[1][0] == 0


def test_labels_are_not_numbers():
    """Phase 2 is as far from phase 0 as phase 1 is."""
    zeros = np.zeros((1, 4, 4), dtype=np.uint8)
    image = np.where(np.arange(16).reshape(1, 4, 4) < 4, 2, np.where(np.arange(16).reshape(1, 4, 4) < 6, 1, 0))
    assert nearest_distance(image, zeros, periodic=True)[0][0] == 6 / 16
    two = np.where(image == 2, 7, 0)  # two phases need not be 0 and 1
    assert nearest_distance(two, zeros, periodic=True)[0][0] == 4 / 16
    assert nearest_crop_distance(zeros, [zeros[0]])[0] == 0


def test_single_precision_transforms_are_exact_for_large_images():
    rng = np.random.default_rng(0)
    images = (rng.random((3, 256, 256)) < 0.97).astype(np.uint8)
    changed = np.roll(images, (100, 31), (1, 2))
    changed[:, 7, 9] ^= 1
    distance, index = nearest_distance(changed, images, periodic=True)
    np.testing.assert_array_equal(distance, 1 / 256**2)
    np.testing.assert_array_equal(index, [0, 1, 2])


@pytest.mark.parametrize(
    ("images", "references", "words"),
    [
        (np.zeros((1, 4, 4), int), np.zeros((1, 4, 5), int), "same extent"),
        (np.zeros((1, 4, 4), int), np.zeros((0, 4, 4), int), "same extent"),
        (np.zeros((4, 4), int), np.zeros((1, 4, 4), int), "images must be sets"),
        (np.zeros((1, 4, 4), int), np.zeros((1, 4, 4), float), "got both"),
    ],
)
def test_sets_that_do_not_fit(images, references, words):
    with pytest.raises(InputError, match=words):
        nearest_distance(images, references, periodic=True)


def test_micrographs_that_do_not_fit():
    with pytest.raises(InputError, match="as large as the images"):
        nearest_crop_distance(np.zeros((1, 4, 4), int), [np.zeros((9, 3), int)])
    with pytest.raises(InputError, match="images must be sets"):
        nearest_crop_distance(np.zeros((1, 4, 4), int), [])
