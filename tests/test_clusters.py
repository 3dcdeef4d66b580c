"""Clusters: scipy's labels, a flood fill as twin, identities of the Euler number, the cluster function pair by pair."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.ndimage import generate_binary_structure, label

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics import arrays, clusters
from mcrpy_diffusion.metrics.clusters import (
    CONNECTIVITIES,
    euler_number,
    label_clusters,
    number_of_clusters,
    two_point_cluster_function,
)
from mcrpy_diffusion.metrics.spatial_statistics import two_point_correlation

SHAPES = [(5, 7), (6, 4), (1, 6), (2, 2), (9, 8), (3, 4, 5), (2, 3, 3)]
CASES = [(shape, c) for shape in SHAPES for c in CONNECTIVITIES[len(shape)]]


def _random_phases(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(3, size=shape, p=[0.3, 0.5, 0.2])


def _brute_clusters(indicator: np.ndarray, periodic: bool, full: bool) -> list[set[tuple[int, ...]]]:
    """Flood fill, in the order of the first pixel."""
    steps = [s for s in itertools.product((-1, 0, 1), repeat=indicator.ndim) if any(s)]
    steps = [s for s in steps if full or sum(map(abs, s)) == 1]
    left, found = {x for x in np.ndindex(indicator.shape) if indicator[x]}, []
    for start in np.ndindex(indicator.shape):
        if start not in left:
            continue
        left.remove(start)
        cluster, front = {start}, [start]
        while front:
            x = front.pop()
            for step in steps:
                y = tuple(p + d for p, d in zip(x, step))
                y = tuple(p % n for p, n in zip(y, indicator.shape)) if periodic else y
                if y in left:
                    left.remove(y)
                    cluster.add(y)
                    front.append(y)
        found.append(cluster)
    return found


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(("shape", "connectivity"), CASES)
def test_labels_are_those_of_a_flood_fill(shape, connectivity, periodic):
    phases = _random_phases((6, *shape))
    options = {"phase": 1, "periodic": periodic, "connectivity": connectivity, "n_dims": len(shape)}
    labels, counts = label_clusters(phases, **options)
    for image, own, count in zip(phases, labels, counts, strict=True):
        expected = np.zeros(shape, dtype=int)
        filled = _brute_clusters(image == 1, periodic, connectivity in (8, 26))
        for number, cluster in enumerate(filled, start=1):
            expected[tuple(np.array(list(cluster)).T)] = number
        np.testing.assert_array_equal(own, expected)
        assert count == len(filled)


@pytest.mark.parametrize(
    ("shape", "connectivity"), [((200, 150), 4), ((200, 150), 8), ((30, 20, 25), 6), ((9, 8, 7), 26)]
)
def test_labels_are_those_of_scipy(shape, connectivity):
    phases = np.random.default_rng(0).random(shape) < 0.4
    structure = generate_binary_structure(len(shape), len(shape) if connectivity in (8, 26) else 1)
    expected, count = label(phases, structure)
    options = {"phase": 1, "periodic": False, "connectivity": connectivity, "n_dims": len(shape)}
    labels, own_count = label_clusters(phases, **options)
    np.testing.assert_array_equal(labels, expected)
    assert own_count == number_of_clusters(phases, **options) == count


def test_four_or_eight_neighbours():
    diagonal = np.eye(4, dtype=int)
    assert number_of_clusters(diagonal, phase=1, periodic=False) == 4
    assert number_of_clusters(diagonal, phase=1, periodic=False, connectivity=8) == 1
    assert number_of_clusters(diagonal, phase=0, periodic=False) == 2
    assert number_of_clusters(diagonal, phase=0, periodic=False, connectivity=8) == 1
    corners = np.zeros((5, 5), int)
    corners[::4, ::4] = 1
    assert number_of_clusters(corners, phase=1, periodic=False) == 4
    assert number_of_clusters(corners, phase=1, periodic=True) == 1


@pytest.mark.parametrize("connectivity", [4, 8])
def test_euler_number_is_clusters_minus_holes(connectivity):
    """The holes: clusters of the rest, with the other connectivity, that do not reach the outside."""
    phases = np.random.default_rng(1).random((40, 15, 17)) < 0.55
    count = number_of_clusters(phases, phase=1, periodic=False, connectivity=connectivity)
    around = np.pad(phases, [(0, 0), (1, 1), (1, 1)])
    holes = number_of_clusters(around, phase=0, periodic=False, connectivity=12 - connectivity) - 1
    assert holes.max() > 2
    number = euler_number(phases, phase=1, periodic=False, connectivity=connectivity)
    np.testing.assert_array_equal(number, count - holes)


@pytest.mark.parametrize("shape", [(9, 7), (5, 6, 4)])
def test_euler_number_on_a_torus(shape):
    """The phase and the rest fill the torus, whose own Euler number is 0."""
    phases = np.random.default_rng(1).random((20, *shape)) < 0.5
    n = len(shape)
    faces, full = CONNECTIVITIES[n]
    of_phase = euler_number(phases, phase=1, periodic=True, connectivity=faces, n_dims=n)
    of_rest = euler_number(phases, phase=0, periodic=True, connectivity=full, n_dims=n)
    np.testing.assert_array_equal(of_rest, (-1) ** (n - 1) * of_phase)
    assert len(np.unique(of_phase)) > 3
    for connectivity in (faces, full):
        assert euler_number(np.ones(shape, int), phase=1, periodic=True, connectivity=connectivity, n_dims=n) == 0
        alone = np.zeros((20, *(m + 2 for m in shape)), int)  # nothing meets across the edges
        alone[(slice(None), *[slice(1, -1)] * n)] = phases
        options = {"phase": 1, "connectivity": connectivity, "n_dims": n}
        expected = euler_number(phases, periodic=False, **options)
        np.testing.assert_array_equal(euler_number(alone, periodic=True, **options), expected)


@pytest.mark.parametrize("connectivity", [6, 26])
def test_euler_number_of_solids(connectivity):
    """A ball 1, a hollow ball 2, a ring 0, a ring with two holes -1, two balls 2."""
    cube = np.zeros((7, 7, 7), int)
    cube[1:6, 1:6, 1:6] = 1
    hollow, ring, double, two = cube.copy(), cube.copy(), cube.copy(), cube.copy()
    hollow[3, 3, 3] = 0
    ring[:, 3, 3] = 0
    double[:, 2, 3] = double[:, 4, 3] = 0
    two[3] = 0
    solids = np.stack([cube, hollow, ring, double, two])
    number = euler_number(solids, phase=1, periodic=False, connectivity=connectivity, n_dims=3)
    np.testing.assert_array_equal(number, [1, 2, 0, -1, 2])


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(("shape", "connectivity"), CASES)
@pytest.mark.parametrize("small", [0, 3, 40])
def test_cluster_function_is_the_brute_force_one(shape, connectivity, periodic, small, monkeypatch):
    monkeypatch.setattr(clusters, "_SMALL_CLUSTER", small)
    phases = _random_phases((3, *shape), seed=2)
    options = {"phase": 1, "periodic": periodic, "n_dims": len(shape)}
    fast = two_point_cluster_function(phases, connectivity=connectivity, **options)
    for image, own in zip(phases, fast, strict=True):
        expected = np.zeros(own.shape)
        for cluster in _brute_clusters(image == 1, periodic, connectivity in (8, 26)):
            for x, y in itertools.product(cluster, repeat=2):
                expected[tuple((b - a) % n for a, b, n in zip(x, y, own.shape))] += 1
        for shift in np.ndindex(own.shape):
            d = [min(k, n - k) for k, n in zip(shift, own.shape)]
            expected[shift] /= np.prod(shape) if periodic else np.prod([n - k for n, k in zip(shape, d)])
        np.testing.assert_allclose(own, expected, rtol=1e-14, atol=0)
    assert (fast <= two_point_correlation(phases, **options)).all()


def test_cluster_function_of_stripes():
    """Width 3, period 5: the pairs in the same stripe, as for the lineal path. One cluster: S2."""
    stripes = np.tile(np.arange(20) % 5 < 3, (15, 1))
    cluster = two_point_cluster_function(stripes, phase=1, periodic=True)
    np.testing.assert_allclose(cluster[:, :5], np.tile([0.6, 0.4, 0.2, 0, 0], (15, 1)), rtol=1e-15)
    assert (cluster[:, 5:-2] == 0).all()
    whole = np.ones((4, 6), int)
    whole[1, 2] = 0
    for periodic in (True, False):
        own = two_point_cluster_function(whole, phase=1, periodic=periodic)
        np.testing.assert_array_equal(own, two_point_correlation(whole, phase=1, periodic=periodic))
        assert (two_point_cluster_function(whole, phase=5, periodic=periodic) == 0).all()


def test_leading_axes(monkeypatch):
    monkeypatch.setattr(arrays, "BLOCK_PIXELS", 4 * 30)  # two images in the last block, four before
    phases = _random_phases((2, 3, 6, 5))
    labels, counts = label_clusters(phases, phase=1, periodic=True)
    numbers = euler_number(phases, phase=1, periodic=True)
    function = two_point_cluster_function(phases, phase=1, periodic=True)
    assert labels.shape == function.shape == phases.shape
    for index in np.ndindex(2, 3):
        alone, count = label_clusters(phases[index], phase=1, periodic=True)
        np.testing.assert_array_equal(labels[index], alone)
        assert counts[index] == count == alone.max()
        assert numbers[index] == euler_number(phases[index], phase=1, periodic=True)
        expected = two_point_cluster_function(phases[index], phase=1, periodic=True)
        np.testing.assert_array_equal(function[index], expected)
    none = phases[:0]
    assert label_clusters(none, phase=1, periodic=True)[1].shape == (0, 3)
    assert euler_number(none, phase=1, periodic=False).shape == (0, 3)


def test_errors():
    with pytest.raises(InputError, match="connectivity must be 4 or 8 .* got 6"):
        number_of_clusters(np.ones((4, 4), int), phase=1, periodic=True, connectivity=6)
    with pytest.raises(InputError, match="connectivity must be 6 or 26 .* got 8"):
        euler_number(np.ones((4, 4, 4), int), phase=1, periodic=True, connectivity=8, n_dims=3)
    with pytest.raises(InputError, match="must be integers"):
        two_point_cluster_function(np.ones((4, 4)), phase=1, periodic=True)
