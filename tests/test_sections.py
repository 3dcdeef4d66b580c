"""Sections of volumes, isolated pixels and percolation: brute-force twins and structures that are known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.chords import DIRECTIONS_13
from mcrpy_diffusion.metrics.clusters import CONNECTIVITIES, isolated_share
from mcrpy_diffusion.metrics.directions import curves_along, step_lengths
from mcrpy_diffusion.metrics.percolation import percolating_share
from mcrpy_diffusion.metrics.sections import (
    DIAGONAL_PLANES,
    diagonal_sections,
    is_whole,
    slice_fractions,
    slices,
)
from mcrpy_diffusion.metrics.spatial_statistics import (
    FACE_DIAGONALS,
    SPACE_DIAGONALS,
    lineal_path,
    two_point_correlation,
)

SHAPES = [(4, 5, 6), (5, 5, 4), (3, 3, 3), (6, 4), (5, 7)]


def random_phases(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(3, size=shape, p=[0.35, 0.45, 0.2])


def _neighbours(x: tuple[int, ...], shape: tuple[int, ...], open_axes: set[int], full: bool) -> set[tuple[int, ...]]:
    found = set()
    for step in itertools.product((-1, 0, 1), repeat=len(shape)):
        if not any(step) or (not full and sum(map(abs, step)) > 1):
            continue
        y = [p + d for p, d in zip(x, step)]
        if all(k not in open_axes or 0 <= p < n for k, (p, n) in enumerate(zip(y, shape))):
            found.add(tuple(p % n for p, n in zip(y, shape)))
    return found


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(("shape", "connectivity"), [(s, c) for s in SHAPES for c in CONNECTIVITIES[len(s)]])
def test_percolating_share_is_that_of_a_search_from_the_first_face(
    shape: tuple[int, ...], connectivity: int, periodic: bool
) -> None:
    n_dims, full = len(shape), connectivity in (8, 26)
    structures = random_phases((5, *shape))
    share = percolating_share(structures, phase=1, periodic=periodic, connectivity=connectivity, n_dims=n_dims)
    for structure, own in zip(structures, share):
        inside = {x for x in np.ndindex(shape) if structure[x] == 1}
        for axis in range(n_dims):
            open_axes = {axis} if periodic else set(range(n_dims))
            connecting, seen = 0, set()
            for start in inside:
                if start in seen:
                    continue
                cluster, front = {start}, [start]
                while front:
                    new = (_neighbours(front.pop(), shape, open_axes, full) & inside) - cluster
                    cluster |= new
                    front += new
                seen |= cluster
                if {0, shape[axis] - 1} <= {x[axis] for x in cluster}:
                    connecting += len(cluster)
            assert own[axis] == pytest.approx(connecting / len(inside))


def test_a_rod_connects_its_two_faces_alone() -> None:
    volume = np.zeros((6, 6, 6), dtype=np.uint8)
    volume[:, 2, 3] = 1
    volume[1, 5, 5] = 1  # a voxel beside it
    share = percolating_share(np.stack([volume, 0 * volume]), phase=1, periodic=True)
    np.testing.assert_allclose(share, [[6 / 7, 0, 0], [0, 0, 0]])
    volume[2] = volume[3] = 0
    assert percolating_share(volume, phase=1, periodic=True)[0] == 0  # not joined across the edge between the faces


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_isolated_pixels_have_no_neighbour(shape: tuple[int, ...], periodic: bool) -> None:
    structures = random_phases((4, *shape), seed=1)
    share = isolated_share(structures, phase=2, periodic=periodic, n_dims=len(shape))
    counted = [x for x in np.ndindex(shape) if periodic or all(0 < p < n - 1 for p, n in zip(x, shape))]
    for structure, own in zip(structures, share):
        alone = [
            x
            for x in counted
            if structure[x] == 2 and all(structure[y] != 2 for y in _neighbours(x, shape, set(), False))
        ]
        assert own == pytest.approx(len(alone) / len(counted))


def test_slices_and_their_fractions() -> None:
    volumes = random_phases((2, 3, 4, 5), seed=2)
    for axis in range(3):
        for volume, found, fractions in zip(
            volumes, slices(volumes, axis=axis), slice_fractions(volumes, phase=1, axis=axis)
        ):
            for k in range(volume.shape[axis]):
                np.testing.assert_array_equal(found[k], np.take(volume, k, axis=axis))
                assert fractions[k] == (found[k] == 1).mean()
    with pytest.raises(InputError, match="axis must be"):
        slices(volumes, axis=3)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(("first", "second", "sign"), DIAGONAL_PLANES)
def test_diagonal_sections_hold_the_voxels_on_their_plane(first: int, second: int, sign: int, periodic: bool) -> None:
    """Voxels are numbered: neighbours in a section are a step of the diagonal, or of the third axis, apart."""
    shape = (6, 6, 6)
    numbered = np.arange(216).reshape(shape)
    (third,) = {0, 1, 2} - {first, second}
    found = diagonal_sections(numbered, axes=(first, second), sign=sign, periodic=periodic)
    assert found.shape == ((6, 6, 6) if periodic else (4, 6, 3))
    assert is_whole(shape, axes=(first, second), periodic=periodic) == periodic
    if periodic:
        assert set(found.ravel().tolist()) == set(range(216))
    at = np.stack(np.unravel_index(found, shape))
    assert periodic or (np.abs(np.diff(at, axis=3)) <= 1).all()  # no section goes across an edge
    along, down = np.diff(at, axis=3) % 6, np.diff(at, axis=2)
    step = np.zeros(3, dtype=int)
    step[first], step[second] = 1, sign % 6
    assert (along == step[:, None, None, None]).all()
    assert (down[third] == 1).all()
    assert (down[[first, second]] == 0).all()


def test_s2_of_diagonal_sections_is_that_along_the_diagonals_of_the_volume() -> None:
    volume = random_phases((8, 8, 6), seed=3)
    sections = diagonal_sections(volume, axes=(0, 1), sign=1, periodic=True)
    across = two_point_correlation(sections, phase=1, periodic=True).mean(axis=0)
    map = two_point_correlation(volume, phase=1, periodic=True, n_dims=3)
    steps = ((1, 1, 0), (1, 1, 1), (0, 0, 1))
    expected = curves_along(map, directions=steps, max_steps=3, n_dims=3)
    np.testing.assert_allclose(curves_along(across, directions=((0, 1), (1, 1), (1, 0)), max_steps=3), expected)


@pytest.mark.parametrize(("axes", "sign"), [((0, 0), 1), ((0, 3), 1), ((0, 1), 2)])
def test_planes_that_there_are_not(axes: tuple[int, int], sign: int) -> None:
    with pytest.raises(InputError, match="two of 0, 1, 2"):
        diagonal_sections(np.zeros((4, 4, 4)), axes=axes, sign=sign, periodic=True)


def test_diagonal_steps_of_s2_and_lineal_path_by_brute_force() -> None:
    volume = random_phases((6, 6, 6), seed=4)
    inside = volume == 1
    map = two_point_correlation(volume, phase=1, periodic=True, n_dims=3)
    steps = (*FACE_DIAGONALS, *SPACE_DIAGONALS)
    s2 = curves_along(map, directions=steps, max_steps=2, n_dims=3)
    path = lineal_path(volume, phase=1, periodic=True, max_length=2, n_dims=3, directions=steps)
    for step, of_pair, of_path in zip(steps, s2, path):
        moved = [np.roll(inside, [-r * d for d in step], axis=(0, 1, 2)) for r in range(3)]
        np.testing.assert_allclose(of_pair, [(inside & each).mean() for each in moved])
        np.testing.assert_allclose(of_path, [np.logical_and.reduce(moved[: r + 1]).mean() for r in range(3)])
    np.testing.assert_allclose(step_lengths(DIRECTIONS_13), np.sqrt([1] * 3 + [2] * 6 + [3] * 4))
