"""Polycrystals: seeds drawn and placed by MicroStructPy, and the exact raster image of their power diagram.

The cell of seed j, at the centre c_j with the radius r_j, holds the points x at which the power |x - c_j|_M^2 - r_j^2
is the smallest of all seeds. M is the identity; for columnar grains it is the metric that maps an ellipse of their
aspect ratio to a circle. Cells are convex polygons in both cases. The distance of a point in cell i from the cell's
boundary is therefore min_j (power_j - power_i) / (2 |M (c_j - c_i)|); no polygon has to be constructed.

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

_TILE = 32  # pixels; a tile of the image is computed from the seeds near it
_N_ATTEMPTS = 150  # positions tried per seed before the allowed overlap is increased
_N_ROUNDS = 4
_N_POINTS = 500  # candidate positions of each seed that remains
_SPACING = 4.0  # pixels between the points at which the reach of the seeds is estimated


@dataclass(frozen=True, eq=False)
class Seeds:
    """Placed seeds of grains.

    Attributes
    ----------
    centres : (N, 2) float64
        Rows and columns in pixels, within the field.
    radii : (N,) float64
        In pixels; for columnar grains the radius of the circle of equal area.
    size_classes : (N,) int64
        Index into `sizes`; abnormal grains are the last class.
    metric : (2, 2) float64
        M, with determinant 1.
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
        1 on grain boundaries (white in the paper), 0 in grains.
    grain_ids : (I, J) int32
        Index into `seeds` of the grain at each pixel, boundaries included. About one small grain in 2,000 contains no
        pixel centre.
    boundary_distance : (I, J) float64
        Distance in pixels to the boundary of the pixel's cell. Values up to half the boundary width are exact, larger
        ones are lower bounds.
    seeds : Seeds
    """

    phases: np.ndarray
    grain_ids: np.ndarray
    boundary_distance: np.ndarray
    seeds: Seeds


def make(seed: int, settings: AlloySettings) -> np.ndarray:
    """Return the structure of a seed (I, J) uint8, phase 1 on grain boundaries; raises as `place_seeds`."""
    return make_polycrystal(seed, settings).phases


def make_polycrystal(seed: int, settings: AlloySettings) -> Polycrystal:
    """Make the structure of a seed, with the map of its grains.

    A non-periodic structure is a window of a periodic field that is larger by the longest grain.
    """
    seeds = place_seeds(seed, settings)
    ids, distance = rasterise(seeds, settings.extent, max_distance=settings.boundary_width / 2)
    phases = (distance < settings.boundary_width / 2).astype(np.uint8)
    return Polycrystal(phases, ids, distance, seeds)


def sizes(settings: AlloySettings) -> tuple[np.ndarray, np.ndarray]:
    """Return effective diameter in pixels and volume fraction of each size class; abnormal grains are last."""
    ratios, fractions = list(settings.size_ratios), np.array(settings.volume_fractions)
    fractions = fractions / fractions.sum()
    if settings.abnormal_fraction > 0:
        ratios.append(settings.abnormal_ratio)
        fractions = np.append(fractions * (1 - settings.abnormal_fraction), settings.abnormal_fraction)
    return settings.grain_size * np.array(ratios), fractions


def place_seeds(seed: int, settings: AlloySettings) -> Seeds:
    """Draw and place the seeds of grains with MicroStructPy on a periodic field.

    Seeds are drawn until their total area reaches that of the field. Each class then has its volume fraction on average
    over structures (Wald's identity). Large seeds are placed first, with the overlap that MicroStructPy fits. Seeds
    without a position are tried again with more overlap, up to a centre on another seed's circumference; at this limit
    a cell still contains its seed.

    Raises
    ------
    InputError
        If a grain is longer than the extent.
    """
    diameters, fractions = sizes(settings)
    longest = float(diameters.max()) * math.sqrt(settings.aspect_ratio)
    if longest > min(settings.extent):
        raise InputError(
            f"the largest grains must not be longer than the extent {settings.extent_x} x {settings.extent_y}, got "
            f"{longest:.0f} pixels; give a smaller --grain_size or a larger extent"
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
    return _add_remaining(seeds, [each.phase for each in waiting], diameters / 2, np.random.default_rng(seed))


def _add_remaining(seeds: Seeds, classes: list[int], radii: np.ndarray, generator: np.random.Generator) -> Seeds:
    """Add the seeds without a position, each at the random point with the largest minimum power."""
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
    """Return the squared distances (P, N) in the metric from points (P, 2) to the nearest images of the seeds."""
    offsets = points[:, None] - seeds.centres
    offsets -= np.array(seeds.field) * np.rint(offsets / seeds.field)
    return np.einsum("pnk,kl,pnl->pn", offsets, seeds.metric, offsets, optimize=True)


def rasterise(seeds: Seeds, extent: tuple[int, int], *, max_distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Rasterise the power diagram of seeds on a periodic field.

    The centre of pixel (i, j) is the point (i, j). A cell and its periodic image are two cells: a grain that spans the
    field has a boundary with itself.

    Parameters
    ----------
    seeds : Seeds
    extent : (int, int)
        Rows and columns, at most those of the field.
    max_distance : float
        Distances up to this one are exact, in pixels.

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
    """Return the cell of each pixel of the window, and the pixel's distance to the boundary of this cell."""
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
    """Return a distance in pixels beyond which no seed's cell extends.

    Notes
    -----
    Let seed i own a grid point at the distance d_i in the metric, let y be at most delta from the grid point, and let s
    be the largest stretch of the metric. The smallest power at y is at most (d_i + s delta)^2 - r_i^2. The owner j of y
    is then at most sqrt((d_i + s delta)^2 - r_i^2 + r_j^2) from y in the metric, and at most s times as far in pixels.
    """
    n_points = [math.ceil(length / _SPACING) for length in seeds.field]
    spacing = np.array(seeds.field) / n_points
    squares = _squared_distances(np.moveaxis(np.indices(n_points), 0, -1).reshape(-1, 2) * spacing, seeds)
    owner = (squares - seeds.radii**2).argmin(axis=1)
    stretch = math.sqrt(np.linalg.eigvalsh(seeds.metric)[-1])
    farthest = np.sqrt(squares[np.arange(len(owner)), owner]) + stretch * float(np.hypot(*spacing)) / 2
    return stretch * math.sqrt((farthest**2 - seeds.radii[owner] ** 2).max() + (seeds.radii**2).max())


def _images(seeds: Seeds, extent: tuple[int, int], reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Return seed numbers (K,) and centres (K, 2) of all periodic images that can own a point of the window."""
    n = [math.ceil(reach / length) for length in seeds.field]
    shifts = np.array(list(itertools.product(range(-n[0], n[0] + 1), range(-n[1], n[1] + 1)))) * seeds.field
    centres = (seeds.centres + shifts[:, None]).reshape(-1, 2)
    numbers = np.tile(np.arange(len(seeds.centres)), len(shifts))
    near = ((centres >= -reach) & (centres <= np.array(extent) - 1 + reach)).all(axis=1)
    return numbers[near], centres[near]


def _metric(settings: AlloySettings) -> np.ndarray:
    """Return M, which maps the ellipse of the aspect ratio and orientation to a circle of equal area."""
    angle = math.radians(settings.orientation)
    along = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-along[1], along[0]])
    return np.outer(along, along) / settings.aspect_ratio + np.outer(across, across) * settings.aspect_ratio


@contextlib.contextmanager
def _microstructpy() -> Iterator[tuple]:
    """Yield MicroStructPy's geometry, seed list and fitted overlap; restore numpy's global generator afterwards.

    The seed list writes no file; MicroStructPy's own writes one to the working folder if a seed has no position.
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
