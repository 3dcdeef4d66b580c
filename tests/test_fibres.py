"""Fibre composites: gaps, volume fraction, periodicity, and errors where the settings cannot be met."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials import fibres
from mcrpy_diffusion.materials.fibres import Body, make, place, rasterise, separated
from mcrpy_diffusion.settings import FibreSettings

SHIFTS = [(p, q) for p in (-1, 0, 1) for q in (-1, 0, 1)]


def outline(body, n=2000):
    """Points on the outline of a body, (n, 2): an oracle without support functions."""
    if body.shape == "rectangle":
        corners = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1), (1, 1)])
        t = np.linspace(0, 1, n // 4, endpoint=False)[:, None]
        unit = np.concatenate([p + t * (q - p) for p, q in itertools.pairwise(corners)])
    else:
        angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
        unit = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    c, s = math.cos(body.angle), math.sin(body.angle)
    return unit * [body.a, body.b] @ np.array([[c, s], [-s, c]]) + [body.row, body.column]


def outline_distance(one, other):
    """Distance of two bodies, 0 if they overlap; relative accuracy about 1e-3."""
    p, q = outline(one), outline(other)
    if fibres.contains(one, *q.T).any() or fibres.contains(other, *p.T).any():
        return 0.0
    if fibres.contains(one, np.array(other.row), np.array(other.column)):
        return 0.0
    return math.sqrt(min(((p - each) ** 2).sum(1).min() for each in q[::8]))


def is_separate_by_polynomial(one, other):
    """Whether two ellipses are disjoint: det(x A + B) has two different positive roots.

    W. Wang, J. Wang, M.-S. Kim, Comput. Aided Geom. Des. 18 (2001) 531.
    """

    def matrix(body):
        c, s = math.cos(body.angle), math.sin(body.angle)
        turn = np.array([[c, s], [-s, c]])
        to_unit = np.zeros((3, 3))
        to_unit[:2, :2] = np.diag([1 / body.a, 1 / body.b]) @ turn
        to_unit[:2, 2] = -to_unit[:2, :2] @ [body.row, body.column]
        to_unit[2, 2] = 1
        return to_unit.T @ np.diag([1.0, 1.0, -1.0]) @ to_unit

    first, second = matrix(one), matrix(other)
    x = np.array([-1.0, 0.0, 1.0, 2.0])
    roots = np.roots(np.polyfit(x, [np.linalg.det(v * first + second) for v in x], 3))
    return int(sum(abs(r.imag) < 1e-6 * abs(r) and r.real > 0 for r in roots)) == 2


def random_pair(generator, shape):
    a, b = generator.uniform(1, 4, 2), generator.uniform(0.3, 1, 2)
    angles, centres = generator.uniform(0, np.pi, 2), generator.uniform(-5, 5, (2, 2))
    return [Body(shape, *centres[k], a[k], a[k] * b[k], angles[k]) for k in range(2)]


@pytest.mark.parametrize("shape", ["ellipse", "rectangle"])
def test_gap_agrees_with_the_distance_of_outlines(shape):
    generator, n_free = np.random.default_rng(0), 0
    for _ in range(150):
        one, other = random_pair(generator, shape)
        offset, distance = (other.row - one.row, other.column - one.column), outline_distance(one, other)
        n_free += distance > 0
        if distance > 0.02:
            assert separated(one, other, offset, distance - 0.02)
        assert not separated(one, other, offset, distance + 0.02)
    assert 30 < n_free < 120


def test_overlap_of_ellipses_agrees_with_the_characteristic_polynomial():
    generator, answers = np.random.default_rng(1), []
    for _ in range(1000):
        one, other = random_pair(generator, "ellipse")
        answers.append(separated(one, other, (other.row - one.row, other.column - one.column), 0.0))
        assert answers[-1] == is_separate_by_polynomial(one, other)
    assert 200 < sum(answers) < 800


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        (Body("rectangle", 0, 0, 2, 1), Body("rectangle", 5, 0, 2, 1), 1.0),  # side to side
        (Body("rectangle", 0, 0, 2, 1), Body("rectangle", 7, 6, 2, 1), 5.0),  # corner to corner: 3, 4, 5
        (Body("rectangle", 0, 0, 2, 2), Body("rectangle", 0, 7, 2, 2, math.pi / 4), 5 - 2 * math.sqrt(2)),
        (Body("ellipse", 0, 0, 3, 1), Body("ellipse", 0, 4, 3, 1), 2.0),
        (Body("ellipse", 0, 0, 3, 1), Body("ellipse", 0, 6, 3, 1, math.pi / 2), 2.0),
        (Body("disc", 0, 0, 2, 2), Body("disc", 3, 4, 1, 1), 2.0),
    ],
)
def test_gaps_computed_by_hand(one, other, distance):
    offset = (other.row - one.row, other.column - one.column)
    assert separated(one, other, offset, distance - 1e-9)
    assert not separated(one, other, offset, distance + 1e-9)


@pytest.mark.parametrize(
    "settings",
    [
        FibreSettings(),
        FibreSettings(extent_x=48, extent_y=80, radius=3.0, min_gap=0.5),
        FibreSettings(radius_deviation=0.4),
        FibreSettings(periodic=False),
        FibreSettings(
            extent_x=24, extent_y=24, radius=4.0, volume_fraction=0.3
        ),  # fewer than three cells along an axis
    ],
)
def test_discs_keep_the_gap_to_all_images_of_all_others(settings):
    shifts = SHIFTS if settings.periodic else [(0, 0)]
    for seed in range(10):
        bodies = place(seed, settings)
        assert len(bodies) > 2
        for one, other in itertools.combinations(bodies, 2):
            gaps = [
                math.hypot(
                    one.row - other.row + p * settings.extent_x, one.column - other.column + q * settings.extent_y
                )
                - one.a
                - other.a
                for p, q in shifts
            ]
            assert min(gaps) >= settings.min_gap - 1e-9


@pytest.mark.parametrize("shape", ["ellipse", "rectangle"])
def test_elongated_bodies_keep_the_gap(shape):
    settings = FibreSettings(shape=shape, radius=4.0, aspect_ratio=2.5)
    bodies = place(3, settings)
    assert len(bodies) > 20
    for one, other in itertools.combinations(bodies, 2):
        for p, q in SHIFTS:
            moved = replace(other, row=other.row + p * 64, column=other.column + q * 64)
            if math.hypot(one.row - moved.row, one.column - moved.column) < one.outer + moved.outer + 2:
                assert outline_distance(one, moved) > settings.min_gap - 0.02


def test_pixels_of_different_fibres_are_not_adjacent():
    for settings in (FibreSettings(), FibreSettings(shape="ellipse"), FibreSettings(radius_deviation=0.3)):
        ids = np.zeros(settings.extent, dtype=int)
        for k, body in enumerate(place(0, settings), start=1):
            ids += k * rasterise([body], settings.extent, periodic=True)
        for axis in (0, 1):
            beside = np.roll(ids, 1, axis)
            assert ((ids == beside) | (ids == 0) | (beside == 0)).all()
        assert np.array_equal(ids > 0, make(0, settings))


@pytest.mark.parametrize("shape", ["disc", "ellipse", "rectangle"])
@pytest.mark.parametrize("periodic", [True, False])
def test_a_pixel_belongs_to_a_body_if_its_centre_does(shape, periodic):
    settings = FibreSettings(extent_x=40, extent_y=52, shape=shape, radius=4.0, periodic=periodic)
    bodies = place(1, settings)
    i, j = np.indices(settings.extent)
    expected = np.zeros(settings.extent, dtype=bool)
    for body, (p, q) in itertools.product(bodies, SHIFTS if periodic else [(0, 0)]):
        y, x = i - body.row - 40 * p, j - body.column - 52 * q
        along = (math.cos(body.angle) * y + math.sin(body.angle) * x) / body.a
        across = (math.cos(body.angle) * x - math.sin(body.angle) * y) / body.b
        norm = np.maximum(abs(along), abs(across)) if shape == "rectangle" else np.hypot(along, across)
        expected |= norm <= 1
    made = make(1, settings)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, expected)


def test_a_periodic_structure_tiles():
    settings = FibreSettings(extent_x=40, extent_y=48)
    images = [
        replace(body, row=body.row + 40 * p, column=body.column + 48 * q)
        for body, p, q in itertools.product(place(5, settings), range(-1, 3), range(-1, 3))
    ]
    np.testing.assert_array_equal(rasterise(images, (80, 96), periodic=False), np.tile(make(5, settings), (2, 2)))


@pytest.mark.parametrize("settings", [FibreSettings(), FibreSettings(radius=3.3), FibreSettings(shape="rectangle")])
def test_volume_fraction_of_periodic_structures(settings):
    area = sum((4 if body.shape == "rectangle" else math.pi) * body.a * body.b for body in place(0, settings))
    assert area == pytest.approx(0.35 * 64 * 64, rel=1e-12)
    fractions = [make(seed, settings).mean() for seed in range(60)]
    assert np.mean(fractions) == pytest.approx(0.35, abs=0.002)
    assert max(abs(np.array(fractions) - 0.35)) < 0.01


def test_volume_fraction_is_uniform_in_a_window():
    settings = FibreSettings(periodic=False)
    structures = np.stack([make(seed, settings) for seed in range(400)])
    assert structures.mean() == pytest.approx(0.35, abs=0.005)
    for edge in (structures[:, :3], structures[:, -3:], structures[:, :, :3], structures[:, :, -3:]):
        assert edge.mean() == pytest.approx(0.35, abs=0.02)


def test_radii_have_the_given_standard_deviation():
    settings = FibreSettings(extent_x=800, extent_y=800, radius=4.0, radius_deviation=0.3, volume_fraction=0.2)
    radii = np.array([body.a for body in place(0, settings)])
    assert radii.mean() == pytest.approx(4.0, rel=0.02)
    assert radii.std() / radii.mean() == pytest.approx(0.3, abs=0.03)


def test_orientation_is_kept_or_random():
    along = place(0, FibreSettings(shape="ellipse", orientation=90.0))
    assert {body.angle for body in along} == {math.pi / 2}
    body = along[0]
    assert fibres.contains(body, np.array(body.row), np.array(body.column + 0.99 * body.a))
    anyhow = [body.angle for seed in range(10) for body in place(seed, FibreSettings(shape="ellipse"))]
    assert np.mean(np.exp(2j * np.array(anyhow))) == pytest.approx(0, abs=0.2)


def test_a_structure_depends_on_its_seed_alone():
    np.random.seed(5)  # noqa: NPY002 - the global generator must stay as it is
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, again, other = (make(seed, FibreSettings()) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert (first != other).mean() > 0.2
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (FibreSettings(volume_fraction=0.56, min_gap=0.0), "at most 0.547 .*got 0.56.* jam at 0.547"),
        (FibreSettings(volume_fraction=0.5), "at most 0.45.* with min_gap 1, got 0.5"),
        (FibreSettings(shape="ellipse", volume_fraction=0.7, min_gap=0.0), "at most about 0.5.* got 0.7"),
        (FibreSettings(radius=40.0), "radius must be at most .* 0.35 of 64 x 64 pixels, got 40"),
        (FibreSettings(shape="rectangle", radius=12.0), "at most 32 pixels in an extent of 64 x 64"),
    ],
)
def test_an_unreachable_volume_fraction_is_an_error(settings, message, monkeypatch):
    monkeypatch.setattr(fibres, "_MAX_FAILURES", 2000)
    with pytest.raises(InputError, match=message) as caught:
        make(0, settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"volume_fraction": 0.0}, "volume_fraction must be between 0.001 and 0.9, got 0.0"),
        ({"shape": "hexagon"}, "shape must be one of disc, ellipse, rectangle"),
        ({"min_gap": -1.0}, "min_gap must be between 0 and 1e[+]06, got -1.0"),
        ({"aspect_ratio": 0.5}, "aspect_ratio must be between 1 and 50, got 0.5"),
        ({"colour": "red"}, "unknown FibreSettings colour"),
    ],
)
def test_invalid_settings_are_rejected(values, message):
    with pytest.raises(InputError, match=message):
        FibreSettings.from_dict(values)
