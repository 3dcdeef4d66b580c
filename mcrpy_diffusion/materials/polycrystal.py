"""Polycrystals: MicroStructPy draws and places the grains' seeds; their power diagram is rasterised here, exactly.

Seed j with the centre c_j and the radius r_j owns the points x where the power |x - c_j|_M^2 - r_j^2 is least. M is the
identity, or for columnar grains the metric in which an ellipse of their aspect ratio is a circle; cells are convex
polygons either way. So the distance of a point in cell i from its cell's boundary is the least of those from the lines
to all other cells, (power_j - power_i) / (2 |M (c_j - c_i)|), without any polygon.

References
----------
K. A. Hart, J. J. Rimoli, "MicroStructPy: A statistical microstructure mesh generator in Python", SoftwareX 12 (2020)
100595. F. Aurenhammer, "Power diagrams", SIAM J. Comput. 16 (1987) 78.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings import AlloySettings

_TILE = 32  # pixels: one tile of the image only looks at the seeds around it
_N_ATTEMPTS = 150  # positions tried for a seed before more overlap is tolerated
_N_ROUNDS = 4
_N_POINTS = 500  # among which the last seeds find theirs
_SPACING = 4.0  # pixels between the points at which the reach of a seed is estimated


@dataclass(frozen=True, eq=False)
class Seeds:
    """Placed seeds of grains.

    Attributes
    ----------
    centres : (N, 2) float64
        Rows and columns in pixels, within the field.
    radii : (N,) float64
        In pixels; for columnar grains that of the circle of the same area.
    size_classes : (N,) int64
        Index into the sizes that were asked for; abnormal grains come last.
    metric : (2, 2) float64
        M, of determinant 1.
    field : (float, float)
        Rows and columns of the periodic field.
    """

    centres: np.ndarray
    radii: np.ndarray
    size_classes: np.ndarray
    metric: np.ndarray
    field: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Polycrystal:
    """A rasterised polycrystal.

    Attributes
    ----------
    phases : (I, J) uint8
        1 on grain boundaries (white, as in the paper), 0 in grains.
    grain_ids : (I, J) int32
        The grain that owns the pixel, also on boundaries; an index into `seeds`. About one small grain in 2,000 is too
        small to own a pixel.
    boundary_distance : (I, J) float64
        Distance from the pixel to the boundary of its own cell in pixels; exact up to half the boundary's width, and
        where it is larger, at least that.
    seeds : Seeds
    """

    phases: np.ndarray
    grain_ids: np.ndarray
    boundary_distance: np.ndarray
    seeds: Seeds


def make(seed: int, settings: AlloySettings) -> np.ndarray:
    """Make the structure of a seed: phase 1 on grain boundaries.

    Parameters
    ----------
    seed : int
        At least 0; the structure depends on it and the settings alone.
    settings : AlloySettings

    Returns
    -------
    (I, J) uint8
        Phases 0 (grains) and 1 (boundaries).

    Raises
    ------
    InputError
        If a grain is longer than the extent.
    """
    return make_polycrystal(seed, settings).phases


def make_polycrystal(seed: int, settings: AlloySettings) -> Polycrystal:
    """Make the structure of a seed with the map of its grains; see `make`.

    Without periodicity it is a window of a periodic field that is larger by the longest grain.
    """
    seeds = place_seeds(seed, settings)
    ids, distance = rasterise(seeds, settings.extent, max_distance=settings.boundary_width / 2)
    phases = (distance < settings.boundary_width / 2).astype(np.uint8)
    return Polycrystal(phases, ids, distance, seeds)


def sizes(settings: AlloySettings) -> tuple[np.ndarray, np.ndarray]:
    """Return effective diameters in pixels and volume fractions of all classes of grains, abnormal ones last."""
    ratios, fractions = list(settings.size_ratios), np.array(settings.volume_fractions)
    fractions = fractions / fractions.sum()
    if settings.abnormal_fraction > 0:
        ratios.append(settings.abnormal_ratio)
        fractions = np.append(fractions * (1 - settings.abnormal_fraction), settings.abnormal_fraction)
    return settings.grain_size * np.array(ratios), fractions


def place_seeds(seed: int, settings: AlloySettings) -> Seeds:
    """Draw and place the seeds of grains with MicroStructPy, on a periodic field.

    Seeds are drawn until their area is that of the field, so that each class has its volume fraction on average over
    structures (Wald's identity). They are placed the largest first, with the overlap that MicroStructPy tolerates; what
    finds no place so is tried again with more, up to centres on the rims of others, where a cell still has its seed.

    Raises
    ------
    InputError
        If a grain is longer than the extent.
    """
    diameters, fractions = sizes(settings)
    longest = float(diameters.max()) * math.sqrt(settings.aspect_ratio)
    if longest > min(settings.extent):
        raise InputError(
            f"the largest grains are {longest:.0f} pixels long, the extent is {settings.extent_x} x "
            f"{settings.extent_y}; give a smaller --grain_size or a larger extent"
        )
    margin = 0 if settings.periodic else math.ceil(longest)
    field = (float(settings.extent_x + margin), float(settings.extent_y + margin))
    kinds, places = (int(word) for word in np.random.SeedSequence(seed).generate_state(2))
    shape: dict[str, str | float] = {"shape": "circle"}
    if settings.aspect_ratio > 1:
        shape = {"shape": "ellipse", "aspect_ratio": settings.aspect_ratio, "angle_deg": settings.orientation}
    materials = [{**shape, "size": d, "fraction": f} for d, f in zip(diameters.tolist(), fractions.tolist())]
    with _microstructpy() as (geometry, seed_list, fitted_tolerance):
        waiting = seed_list.from_info(materials, field[0] * field[1], {"phase": kinds}).seeds
        placed: list = []
        domain = geometry.Rectangle(limits=[(0.0, field[0]), (0.0, field[1])])
        for k, tolerance in enumerate(np.linspace(min(fitted_tolerance(waiting), 1.0), 1.0, _N_ROUNDS)):
            both = seed_list(placed + waiting)
            hold = [True] * len(placed) + [False] * len(waiting)
            both.position(domain, {}, (places + k) % 2**32, hold, _N_ATTEMPTS, tolerance, periodic=True)
            placed = both.seeds
            waiting = [each for each in waiting if not any(each is other for other in placed)]
            if not waiting:
                break
    classes = np.array([each.phase for each in placed], dtype=np.int64)
    centres = np.array([each.position for each in placed], dtype=np.float64) % field
    seeds = Seeds(centres, diameters[classes] / 2, classes, _metric(settings), field)
    return _with_leftovers(seeds, [each.phase for each in waiting], diameters / 2, np.random.default_rng(seed))


def _with_leftovers(seeds: Seeds, classes: list[int], radii: np.ndarray, generator: np.random.Generator) -> Seeds:
    """Add the seeds that found no place, each at the random point that is farthest from all others in power."""
    for size_class in classes:
        points = generator.random((_N_POINTS, 2)) * seeds.field
        power = (_squared_distances(points, seeds) - seeds.radii**2).min(axis=1)
        seeds = replace(
            seeds,
            centres=np.vstack([seeds.centres, points[power.argmax()]]),
            radii=np.append(seeds.radii, radii[size_class]),
            size_classes=np.append(seeds.size_classes, size_class),
        )
    return seeds


def _squared_distances(points: np.ndarray, seeds: Seeds) -> np.ndarray:
    """Return squared distances, in the metric, from points (P, 2) to the images of the seeds nearest in pixels."""
    offsets = points[:, None] - seeds.centres
    offsets -= np.array(seeds.field) * np.rint(offsets / seeds.field)
    return np.einsum("pnk,kl,pnl->pn", offsets, seeds.metric, offsets, optimize=True)


def rasterise(seeds: Seeds, extent: tuple[int, int], *, max_distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Rasterise the power diagram of seeds on a periodic field.

    The centre of pixel (i, j) is the point (i, j). A cell and its own periodic image are two cells: a grain that spans
    the field has a boundary where it meets itself.

    Parameters
    ----------
    seeds : Seeds
    extent : (int, int)
        Rows and columns, at most the field.
    max_distance : float
        Up to which distances are exact, in pixels.

    Returns
    -------
    grain_ids : (I, J) int32
    boundary_distance : (I, J) float64
    """
    reach = _reach(seeds) + max_distance
    numbers, centres = _images(seeds, extent, reach)
    ids, distance = np.empty(extent, dtype=np.int32), np.empty(extent)
    for i, j in itertools.product(range(0, extent[0], _TILE), range(0, extent[1], _TILE)):
        window = (slice(i, min(i + _TILE, extent[0])), slice(j, min(j + _TILE, extent[1])))
        low = np.array([i, j]) - reach
        high = np.array([window[0].stop, window[1].stop]) - 1 + reach
        near = ((centres >= low) & (centres <= high)).all(axis=1)
        owner, distance[window] = _nearest_cells(window, centres[near], seeds.radii[numbers[near]], seeds.metric)
        ids[window] = numbers[near][owner]
    return ids, distance


def _nearest_cells(
    window: tuple[slice, slice], centres: np.ndarray, radii: np.ndarray, metric: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return owner and distance to the boundary of the owner's cell, each (rows, columns) of the window."""
    offsets = np.moveaxis(np.mgrid[window], 0, -1)[:, :, None, :] - centres
    power = np.einsum("ijnk,kl,ijnl->ijn", offsets, metric, offsets, optimize=True) - radii**2
    owner = power.argmin(axis=-1)
    least = np.take_along_axis(power, owner[..., None], axis=-1)
    steepness = 2 * np.linalg.norm((centres[:, None] - centres) @ metric, axis=-1)
    np.fill_diagonal(steepness, 1.0)
    distance = (power - least) / steepness[owner]
    np.put_along_axis(distance, owner[..., None], np.inf, axis=-1)
    return owner, distance.min(axis=-1)


def _reach(seeds: Seeds) -> float:
    """Return a distance, in pixels, beyond which no seed owns a point.

    Notes
    -----
    Let i own a grid point at the distance d_i (in the metric), and y be at most delta away. Then the least power at y
    is at most (d_i + s delta)^2 - r_i^2, with s the largest stretch of the metric; so the owner j of y is at most
    sqrt(that + r_j^2) away from it in the metric, and s times as much in pixels.
    """
    n_points = [math.ceil(length / _SPACING) for length in seeds.field]
    spacing = np.array(seeds.field) / n_points
    squares = _squared_distances(np.moveaxis(np.indices(n_points), 0, -1).reshape(-1, 2) * spacing, seeds)
    owner = (squares - seeds.radii**2).argmin(axis=1)
    stretch = math.sqrt(np.linalg.eigvalsh(seeds.metric)[-1])
    farthest = np.sqrt(squares[np.arange(len(owner)), owner]) + stretch * float(np.hypot(*spacing)) / 2
    return stretch * math.sqrt((farthest**2 - seeds.radii[owner] ** 2).max() + (seeds.radii**2).max())


def _images(seeds: Seeds, extent: tuple[int, int], reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers (K,) and centres (K, 2) of all periodic images that can own a point of the window."""
    n = [math.ceil(reach / length) for length in seeds.field]
    shifts = np.array(list(itertools.product(range(-n[0], n[0] + 1), range(-n[1], n[1] + 1)))) * seeds.field
    centres = (seeds.centres + shifts[:, None]).reshape(-1, 2)
    numbers = np.tile(np.arange(len(seeds.centres)), len(shifts))
    near = ((centres >= -reach) & (centres <= np.array(extent) - 1 + reach)).all(axis=1)
    return numbers[near], centres[near]


def _metric(settings: AlloySettings) -> np.ndarray:
    """Return M, in which the ellipse of aspect ratio and orientation is a circle of the same area."""
    angle = math.radians(settings.orientation)
    along = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-along[1], along[0]])
    return np.outer(along, along) / settings.aspect_ratio + np.outer(across, across) * settings.aspect_ratio


@contextlib.contextmanager
def _microstructpy() -> Iterator[tuple]:
    """Give MicroStructPy's geometry, seed list and fitted overlap; put numpy's generator back, which it seeds.

    Where a seed finds no place, MicroStructPy would write a file to the working folder.
    """
    from microstructpy import geometry
    from microstructpy.seeding.seedlist import SeedList, calc_rtol

    class QuietSeedList(SeedList):
        def __getitem__(self, i):  # type: ignore[no-untyped-def]
            got = super().__getitem__(i)
            return QuietSeedList(got.seeds) if isinstance(got, SeedList) else got

        def write(self, filename: str, format: str = "txt") -> None:
            pass

    state = np.random.get_state()  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield geometry, QuietSeedList, calc_rtol
    finally:
        np.random.set_state(state)  # noqa: NPY002
