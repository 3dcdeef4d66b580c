"""Fibre composites: random sequential addition of discs, ellipses or rectangles that keep a minimum gap.

Bodies are placed one by one, the largest first, each at the first random position where it fits. Two convex bodies
with centres D apart are separated by at least g where a direction u exists with u.D - h_1(u) - h_2(u) >= g |u|; h is
a body's support function. With u = (1, t) along and across D that is one concave function of t, whose maximum decides.

References
----------
B. Widom, "Random sequential addition of hard spheres to a volume", J. Chem. Phys. 44 (1966) 3888.
E. L. Hinrichsen, J. Feder, T. Jossang, "Geometry of random sequential adsorption", J. Stat. Phys. 44 (1986) 793:
equal discs saturate at a fraction of 0.547.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings import FibreSettings

DISC_SATURATION = 0.547
"""Area fraction at which random sequential addition of equal discs comes to an end."""
_MAX_FAILURES = 20_000  # failed positions of one body before all are placed anew
_MAX_TRIALS = 4
_N_DRAWN = 64  # positions drawn at once
_N_BISECTIONS = 60


@dataclass(frozen=True)
class Body:
    """A convex body, symmetric about its centre (row, column), in pixels; `a` >= `b` are its half axes.

    `angle` goes from the rows' axis to the long axis, in radians.
    """

    shape: str
    row: float
    column: float
    a: float
    b: float
    angle: float = 0.0

    @property
    def outer(self) -> float:
        """Radius of the circumscribed circle."""
        return math.hypot(self.a, self.b) if self.shape == "rectangle" else self.a

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return (4.0 if self.shape == "rectangle" else math.pi) * self.a * self.b


def make(seed: int, settings: FibreSettings) -> np.ndarray:
    """Make the structure of a seed: phase 1 where a fibre is.

    Parameters
    ----------
    seed : int
        At least 0; the structure depends on it and the settings alone.
    settings : FibreSettings

    Returns
    -------
    (I, J) uint8
        Phases 0 (matrix) and 1 (fibres).

    Raises
    ------
    InputError
        If the volume fraction cannot be reached with these bodies and this gap.
    """
    return rasterise(place(seed, settings), settings.extent, periodic=settings.periodic)


def place(seed: int, settings: FibreSettings) -> list[Body]:
    """Place the bodies of a seed.

    Their number is rounded, and all sizes are scaled by one factor near 1, so that their area is the volume fraction
    exactly. Without periodicity they are those of a periodic field that is larger by four of the longest bodies, so
    that the window's edges cut them at random.

    Returns
    -------
    list of Body
        Those that may reach into the window; centres can lie outside of it where the structure is not periodic.

    Raises
    ------
    InputError
        As `make`.
    """
    generator = np.random.default_rng(seed)
    longest = 2 * _half_axes(settings, settings.radius)[2] * (1 + 3 * settings.radius_deviation)
    margin = 0 if settings.periodic else 4 * math.ceil(longest + settings.min_gap)
    field = (settings.extent_x + margin, settings.extent_y + margin)
    radii = _radii(generator, settings, field)
    _check_reachable(radii, settings, field)
    best = 0
    for _ in range(_MAX_TRIALS):
        bodies = _add_sequentially(generator, radii, settings, field)
        if len(bodies) == len(radii):
            return bodies if settings.periodic else _cut_out(bodies, margin // 2, settings.extent)
        best = max(best, len(bodies))
    reached = settings.volume_fraction * float((radii[:best] ** 2).sum() / (radii**2).sum())
    raise InputError(
        f"volume_fraction is {settings.volume_fraction:g}; random sequential addition came to {reached:.3f} with these "
        "fibres and this min_gap; give a smaller one, or a smaller --min_gap"
    )


def rasterise(bodies: Sequence[Body], extent: tuple[int, int], *, periodic: bool) -> np.ndarray:
    """Draw bodies: a pixel belongs to one if its centre does; the centre of pixel (i, j) is the point (i, j).

    Parameters
    ----------
    bodies : sequence of Body
    extent : (int, int)
        Rows and columns.
    periodic : bool
        Whether what leaves on one side comes in on the other; else it is cut off.

    Returns
    -------
    (I, J) uint8
        Phases 0 and 1.
    """
    phases = np.zeros(extent, dtype=np.uint8)
    for body in bodies:
        outer = body.outer
        i = np.arange(math.ceil(body.row - outer), math.floor(body.row + outer) + 1)
        j = np.arange(math.ceil(body.column - outer), math.floor(body.column + outer) + 1)
        inside = contains(body, i[:, None], j[None, :])
        if periodic:
            i, j = i % extent[0], j % extent[1]
        else:
            rows, columns = (i >= 0) & (i < extent[0]), (j >= 0) & (j < extent[1])
            i, j, inside = i[rows], j[columns], inside[rows][:, columns]
        phases[i[:, None], j[None, :]] |= inside
    return phases


def contains(body: Body, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Whether points lie in a body, its rim included; rows and columns broadcast against each other."""
    y, x = row - body.row, column - body.column
    if body.shape == "disc":
        return y * y + x * x <= body.a**2
    c, s = math.cos(body.angle), math.sin(body.angle)
    along, across = (c * y + s * x) / body.a, (c * x - s * y) / body.b
    if body.shape == "rectangle":
        return (np.abs(along) <= 1) & (np.abs(across) <= 1)
    return along**2 + across**2 <= 1


def separated(one: Body, other: Body, offset: tuple[float, float], gap: float) -> bool:
    """Whether two bodies are at least `gap` apart, exactly up to rounding.

    Parameters
    ----------
    one, other : Body
        Their own centres do not matter.
    offset : (float, float)
        Rows and columns from the centre of `one` to that of `other`.
    gap : float
        In pixels, at least 0. Bodies that touch are separated by 0.

    Notes
    -----
    G(t) = |D| - h_1(1, t) - h_2(1, t) - gap sqrt(1 + t^2) is concave, and its largest value is at least 0 exactly
    where the bodies are that far apart. It is found by bisection of its slope.
    """
    distance = math.hypot(*offset)
    if distance >= one.outer + other.outer + gap:
        return True
    inner = one.b + other.b + gap
    if distance < inner:
        return False
    direction = math.atan2(offset[1], offset[0])
    supports = [_support(body, direction) for body in (one, other)]
    high = math.sqrt(max((distance / inner) ** 2 - 1, 0.0))  # beyond it even the inscribed circles come too close
    low = -high
    for _ in range(_N_BISECTIONS):
        t = (low + high) / 2
        length = math.sqrt(1 + t * t)
        value, slope = distance - gap * length, -gap * t / length
        for shape, *parts in supports:
            h, dh = _evaluate_support(shape, parts, t)
            value, slope = value - h, slope - dh
        if value >= 0:
            return True
        low, high = (t, high) if slope > 0 else (low, t)
        if value + abs(slope) * (high - low) < 0:  # the tangent lies above a concave function
            return False
    return False


def _support(body: Body, direction: float) -> tuple[str, float, float, float, float]:
    """Return the half axes as vectors along and across a direction: (shape, a_1, a_2, b_1, b_2)."""
    angle = body.angle - direction
    c, s = math.cos(angle), math.sin(angle)
    return (body.shape, body.a * c, body.a * s, -body.b * s, body.b * c)


def _evaluate_support(shape: str, axes: Sequence[float], t: float) -> tuple[float, float]:
    """Return the support function in the direction (1, t) and its slope in t."""
    a_1, a_2, b_1, b_2 = axes
    a, b = a_1 + t * a_2, b_1 + t * b_2
    if shape == "rectangle":
        return abs(a) + abs(b), math.copysign(a_2, a * a_2) + math.copysign(b_2, b * b_2)
    h = math.hypot(a, b)
    return h, (a * a_2 + b * b_2) / h


def _half_axes(settings: FibreSettings, radius: float) -> tuple[float, float, float]:
    """Return long and short half axis and outer radius of a body with the area of a disc of `radius`."""
    if settings.shape == "disc":
        return radius, radius, radius
    stretch = math.sqrt(settings.aspect_ratio)
    if settings.shape == "ellipse":
        return radius * stretch, radius / stretch, radius * stretch
    side = radius * math.sqrt(math.pi) / 2
    a, b = side * stretch, side / stretch
    return a, b, math.hypot(a, b)


def _radii(generator: np.random.Generator, settings: FibreSettings, field: tuple[int, int]) -> np.ndarray:
    """Return the radii, largest first: as many as come nearest to the wanted area, then scaled to meet it."""
    area = settings.volume_fraction * field[0] * field[1] / math.pi
    if area < settings.radius**2 / 2:
        raise InputError(
            f"a single fibre of radius {settings.radius:g} is more than {settings.volume_fraction:g} of "
            f"{field[0]} x {field[1]} pixels; radius must be at most {math.sqrt(2 * area):.1f}"
        )
    if settings.radius_deviation == 0:
        n = max(1, round(area / settings.radius**2))  # 0.5 rounds to 0
        return np.full(n, math.sqrt(area / n))
    variance = math.log(1 + settings.radius_deviation**2)
    n_enough = math.ceil(4 * area / settings.radius**2) + 20
    normal = generator.standard_normal(n_enough)
    drawn = settings.radius * np.exp(math.sqrt(variance) * np.clip(normal, -3, 3) - variance / 2)
    total = np.cumsum(drawn**2)
    n = int(np.argmin(np.abs(total - area))) + 1
    return np.sort(drawn[:n])[::-1] * math.sqrt(area / total[n - 1])


def _check_reachable(radii: np.ndarray, settings: FibreSettings, field: tuple[int, int]) -> None:
    range_ = 2 * _half_axes(settings, float(radii[0]))[2] + settings.min_gap
    allowed = min(field) if settings.shape == "disc" else min(field) / 2  # so that only the nearest images can meet
    if range_ > allowed:
        raise InputError(
            f"the longest fibre and min_gap take {range_:.1f} pixels; at most {allowed:g} fit in an extent of "
            f"{settings.extent_x} x {settings.extent_y}; give a smaller --radius or a larger extent"
        )
    if settings.shape == "disc" and settings.radius_deviation == 0:
        widened = settings.volume_fraction * (1 + settings.min_gap / (2 * float(radii[0]))) ** 2
        if widened > DISC_SATURATION:
            reachable = settings.volume_fraction * DISC_SATURATION / widened
            raise InputError(
                f"volume_fraction is {settings.volume_fraction:g} with min_gap {settings.min_gap:g}; random sequential "
                f"addition of equal discs jams at {DISC_SATURATION}, here at {reachable:.3f}; give less"
            )


def _add_sequentially(
    generator: np.random.Generator, radii: np.ndarray, settings: FibreSettings, field: tuple[int, int]
) -> list[Body]:
    """Place bodies on a periodic field until all are placed, or one fits nowhere."""
    rows, columns = (float(length) for length in field)
    gap = settings.min_gap
    reach = 2 * _half_axes(settings, float(radii[0]))[2] + gap  # of any two bodies: one cell of the list
    n_rows, n_columns = max(1, int(rows / reach)), max(1, int(columns / reach))
    cells: list[list[Body]] = [[] for _ in range(n_rows * n_columns)]
    around = [_around(k, n_rows, n_columns) for k in range(n_rows * n_columns)]
    bodies: list[Body] = []
    for radius in radii.tolist():
        a, b, _ = _half_axes(settings, radius)
        failures = 0
        while failures < _MAX_FAILURES:
            for row, column, turn in generator.random((_N_DRAWN, 3)).tolist():
                angle = math.pi * turn if settings.orientation is None else math.radians(settings.orientation)
                body = Body(settings.shape, row * rows, column * columns, a, b, angle)
                cell = int(row * n_rows) * n_columns + int(column * n_columns)
                if _fits(body, cells, around[cell], rows, columns, gap):
                    break
                failures += 1
            else:
                continue
            bodies.append(body)
            cells[cell].append(body)
            break
        else:
            return bodies
    return bodies


def _around(cell: int, n_rows: int, n_columns: int) -> list[int]:
    """Return a cell and its neighbours on the periodic field, each once."""
    i, j = divmod(cell, n_columns)
    return sorted({(i + p) % n_rows * n_columns + (j + q) % n_columns for p in (-1, 0, 1) for q in (-1, 0, 1)})


def _fits(body: Body, cells: list[list[Body]], around: list[int], rows: float, columns: float, gap: float) -> bool:
    """Whether a body keeps the gap to the nearest image of each body in the cells around it."""
    is_disc = body.shape == "disc"
    for cell in around:
        for other in cells[cell]:
            y, x = other.row - body.row, other.column - body.column
            y -= rows * round(y / rows)
            x -= columns * round(x / columns)
            if is_disc:
                if y * y + x * x < (body.a + other.a + gap) ** 2:
                    return False
            elif not separated(body, other, (y, x), gap):
                return False
    return True


def _cut_out(bodies: Sequence[Body], shift: int, extent: tuple[int, int]) -> list[Body]:
    """Move a window into the middle of the larger field, and keep the bodies that may reach into it."""
    moved = [replace(b, row=b.row - shift, column=b.column - shift) for b in bodies]
    return [
        b for b in moved if -b.outer <= b.row <= extent[0] + b.outer and -b.outer <= b.column <= extent[1] + b.outer
    ]
