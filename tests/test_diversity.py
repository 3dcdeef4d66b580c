"""Mean distance to the nearest neighbour: brute force over all smaller sets, copies, shifts."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.copying import distance_matrix, nearest_distance
from mcrpy_diffusion.metrics.diversity import mean_nearest_distance


def random_distances(n, seed=0):
    half = np.triu(np.random.default_rng(seed).random((n, n)), 1)
    return half + half.T


def brute_force(distances, n):
    nearest = []
    for chosen in combinations(range(len(distances)), n):
        part = distances[np.ix_(chosen, chosen)] + np.diag(np.full(n, np.inf))
        nearest.append(part.min(axis=1).mean())
    return np.mean(nearest)


@pytest.mark.parametrize("n", [2, 3, 5, 7])
def test_it_is_the_mean_over_all_sets_of_a_size(n):
    distances = random_distances(7)
    assert mean_nearest_distance(distances, n) == pytest.approx(brute_force(distances, n), rel=1e-12)


def test_all_of_them_by_default():
    distances = random_distances(6)
    assert mean_nearest_distance(distances) == pytest.approx(brute_force(distances, 6), rel=1e-12)


def test_shifted_copies_have_no_diversity():
    image = (np.random.default_rng(1).random((8, 6)) < 0.4).astype(np.uint8)
    copies = np.stack([image, np.roll(image, (3, 2), (0, 1)), image[::-1, ::-1]])
    assert mean_nearest_distance(distance_matrix(copies, copies, periodic=True)) == 0
    assert mean_nearest_distance(distance_matrix(copies, copies, periodic=False, point_reflection=False)) > 0


def test_the_matrix_holds_the_nearest_distances():
    rng = np.random.default_rng(2)
    images, references = ((rng.random((n, 8, 6)) < 0.4).astype(np.uint8) for n in (3, 5))
    distances = distance_matrix(images, references, periodic=True)
    nearest, index = nearest_distance(images, references, periodic=True)
    assert distances.shape == (3, 5)
    np.testing.assert_array_equal(distances[np.arange(3), index], nearest)


@pytest.mark.parametrize(("n_all", "n"), [(1, None), (4, 1), (4, 5)])
def test_sets_without_neighbours_are_refused(n_all, n):
    with pytest.raises(InputError, match="between 2 and"):
        mean_nearest_distance(random_distances(n_all), n)
