"""Spatial statistics of random structures: identities that hold for every shape, boundary and phase."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from test_spatial_statistics import _brute_lineal_path, _brute_two_point

from mcrpy_diffusion.metrics.directions import curves_along
from mcrpy_diffusion.metrics.spatial_statistics import (
    DIRECTIONS_2D,
    discrepancy,
    lineal_path,
    radial_average,
    two_point_correlation,
)

# The same examples in every run, and no bound of time: other work on the machine must not fail a test.
exact = settings(deadline=None, derandomize=True, max_examples=40, database=None)
structures = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=9), elements=st.integers(0, 2))
stacks = arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=4), elements=st.integers(0, 1))
phases_of = st.integers(0, 2)
shifts = st.tuples(st.integers(-9, 9), st.integers(-9, 9))


@exact
@given(st.one_of(structures, stacks), phases_of, st.booleans())
def test_fast_statistics_are_the_brute_force_ones(structure, phase, periodic):
    options = {"phase": phase, "periodic": periodic, "n_dims": structure.ndim}
    fast = two_point_correlation(structure, **options)
    np.testing.assert_array_equal(fast, _brute_two_point(structure, phase, periodic))
    last = min(structure.shape) - 1
    path = lineal_path(structure, max_length=last, **options)
    np.testing.assert_array_equal(path, _brute_lineal_path(structure, phase, periodic, last))


@exact
@given(structures, phases_of, st.booleans())
def test_at_zero_both_are_the_volume_fraction_and_a_segment_is_rarer_than_its_ends(structure, phase, periodic):
    last = min(structure.shape) // 2  # the map holds shifts up to half the extent
    s2 = two_point_correlation(structure, phase=phase, periodic=periodic)
    path = lineal_path(structure, phase=phase, periodic=periodic, max_length=last)
    fraction = (structure == phase).mean()
    np.testing.assert_allclose(s2[0, 0], fraction, rtol=1e-15)
    np.testing.assert_allclose(path[:, 0], fraction, rtol=1e-15)
    assert (path <= curves_along(s2, directions=DIRECTIONS_2D, max_steps=last) + 1e-15).all()
    if periodic:
        assert (np.diff(path, axis=-1) <= 0).all()
        np.testing.assert_allclose(s2.mean(), fraction**2, rtol=1e-12, atol=1e-15)


@exact
@given(structures, phases_of, shifts)
def test_periodic_statistics_ignore_shifts_and_half_turns(structure, phase, shift):
    options = {"phase": phase, "periodic": True}
    for moved in (np.roll(structure, shift, axis=(0, 1)), structure[::-1, ::-1]):
        for statistic in (two_point_correlation, lineal_path):
            np.testing.assert_array_equal(statistic(moved, **options), statistic(structure, **options))


@exact
@given(structures, phases_of, st.booleans())
def test_a_transposed_structure_has_transposed_statistics(structure, phase, periodic):
    options = {"phase": phase, "periodic": periodic}
    s2 = two_point_correlation(structure, **options)
    np.testing.assert_array_equal(two_point_correlation(structure.T, **options), s2.T)
    down, along, diagonal, other = lineal_path(structure, **options)
    np.testing.assert_array_equal(lineal_path(structure.T, **options), [along, down, diagonal, other])


@exact
@given(structures, st.permutations(range(3)), st.booleans())
def test_names_of_phases_do_not_matter(structure, names, periodic):
    renamed = np.array(names, dtype=np.uint8)[structure]
    for phase, name in enumerate(names):
        for statistic in (two_point_correlation, lineal_path):
            first = statistic(structure, phase=phase, periodic=periodic)
            np.testing.assert_array_equal(statistic(renamed, phase=name, periodic=periodic), first)


@exact
@given(st.lists(structures.map(lambda s: s[:2, :2]), min_size=1, max_size=5), phases_of, st.randoms())
def test_structures_of_a_batch_do_not_know_each_other(batch, phase, random):
    order = list(range(len(batch)))
    random.shuffle(order)
    stacked = np.stack(batch)
    for statistic in (two_point_correlation, lineal_path):
        found = statistic(stacked, phase=phase, periodic=False)
        np.testing.assert_array_equal(statistic(stacked[order], phase=phase, periodic=False), found[order])


@exact
@given(structures, phases_of, st.floats(0.1, 3.0))
def test_the_discrepancy_of_a_scaled_curve_is_its_scale(structure, phase, scale):
    curve = radial_average(two_point_correlation(structure, phase=phase, periodic=True), max_distance=1)
    if curve.any():
        assert discrepancy(curve, curve) == 0
        np.testing.assert_allclose(discrepancy(curve, scale * curve), 100 * abs(scale - 1), rtol=1e-9, atol=1e-9)
