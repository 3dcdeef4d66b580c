"""Fibre composites by random sequential addition (RSA) of discs, ellipses or rectangles with a minimum gap.

Bodies are placed one by one, the largest first. Each takes the first random position at which it fits. Two convex
bodies at the centre distance D are at least g apart if u.D - h_1(u) - h_2(u) >= g |u| for some direction u (separating
axis; h is the support function). With u = (1, t) in the frame of D, this is a concave function of t.

References
----------
B. Widom, "Random sequential addition of hard spheres to a volume", J. Chem. Phys. 44 (1966) 3888.
E. L. Hinrichsen, J. Feder, T. Jossang, "Geometry of random sequential adsorption", J. Stat. Phys. 44 (1986) 793:
equal discs jam at an area fraction of 0.547.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings import FibreSettings

DISC_SATURATION = 0.547  # jamming limit of equal discs
_MAX_FAILURES = 20_000  # rejected positions of one body before the placement restarts
_MAX_TRIALS = 4
_N_DRAWN = 64  # positions per call of the random generator
_N_BISECTIONS = 60


@dataclass(frozen=True)
class Body:
    """A centrally symmetric convex body: centre (row, column) and half axes `a` >= `b` in pixels.

    `angle` is measured from the direction of increasing row to the long axis, in radians.
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


def make(seed: int, settings: FibreSettings) -> np.ndarray:
    """Return the structure of a seed (I, J) uint8, phase 1 in fibres; raises as `place`."""
    return rasterise(place(seed, settings), settings.extent, periodic=settings.periodic)


def place(seed: int, settings: FibreSettings) -> list[Body]:
    """Place the bodies of a seed at the exact volume fraction.

    The number of bodies is rounded; a common factor near 1 scales their sizes to the volume fraction. A non-periodic
    structure is a window of a periodic field that is larger by four of the longest bodies. The window's edges then cut
    bodies at random.

    Returns
    -------
    list of Body
        Bodies that may overlap the window. Their centres can be outside if the structure is not periodic.

    Raises
    ------
    InputError
        If the volume fraction cannot be reached with these bodies and this gap.
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
        f"volume_fraction must be at most about {reached:.3f} with these fibres and this min_gap, got "
        f"{settings.volume_fraction:g}; give a smaller one, or a smaller --min_gap"
    )


def rasterise(bodies: Sequence[Body], extent: tuple[int, int], *, periodic: bool) -> np.ndarray:
    """Return the phases (I, J) uint8: 1 where the centre of pixel (i, j), the point (i, j), is in a body.

    Bodies that cross an edge continue on the opposite side if `periodic`, else they are cut off.
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
    """Whether points are in the closed body; `row` and `column` broadcast."""
    y, x = row - body.row, column - body.column
    if body.shape == "disc":
        return y * y + x * x <= body.a**2
    c, s = math.cos(body.angle), math.sin(body.angle)
    along, across = (c * y + s * x) / body.a, (c * x - s * y) / body.b
    if body.shape == "rectangle":
        return (np.abs(along) <= 1) & (np.abs(across) <= 1)
    return along**2 + across**2 <= 1


def separated(one: Body, other: Body, offset: tuple[float, float], gap: float) -> bool:
    """Whether two bodies are at least `gap` >= 0 pixels apart, exact up to rounding.

    `offset` (rows, columns) goes from the centre of `one` to that of `other`; their own positions are ignored.

    Notes
    -----
    G(t) = |D| - h_1(1, t) - h_2(1, t) - gap sqrt(1 + t^2) is concave; the bodies are that far apart if and only if its
    maximum is not negative. The maximum is found by bisection of the slope.
    """
    distance = math.hypot(*offset)
    if distance >= one.outer + other.outer + gap:
        return True
    inner = one.b + other.b + gap
    if distance < inner:
        return False
    direction = math.atan2(offset[1], offset[0])
    supports = [_support(body, direction) for body in (one, other)]
    high = math.sqrt(max((distance / inner) ** 2 - 1, 0.0))  # outside, the inscribed circles are too close
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
        if value + abs(slope) * (high - low) < 0:  # the tangent bounds a concave function from above
            return False
    return False


def _support(body: Body, direction: float) -> tuple[str, float, float, float, float]:
    """Return (shape, a_1, a_2, b_1, b_2): the half axes as vectors parallel and normal to a direction."""
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
    """Return long and short half axis and circumradius of a body with the area of a disc of `radius`."""
    if settings.shape == "disc":
        return radius, radius, radius
    stretch = math.sqrt(settings.aspect_ratio)
    if settings.shape == "ellipse":
        return radius * stretch, radius / stretch, radius * stretch
    side = radius * math.sqrt(math.pi) / 2
    a, b = side * stretch, side / stretch
    return a, b, math.hypot(a, b)


def _radii(generator: np.random.Generator, settings: FibreSettings, field: tuple[int, int]) -> np.ndarray:
    """Return the radii in descending order; their number is the best for the area, their scale makes it exact."""
    area = settings.volume_fraction * field[0] * field[1] / math.pi
    if area < settings.radius**2 / 2:
        raise InputError(
            f"radius must be at most {math.sqrt(2 * area):.1f} for the volume fraction {settings.volume_fraction:g} "
            f"of {field[0]} x {field[1]} pixels, got {settings.radius:g}"
        )
    if settings.radius_deviation == 0:
        n = max(1, round(area / settings.radius**2))  # 0.5 rounds to 0
        return np.full(n, math.sqrt(area / n))
    variance = math.log(1 + settings.radius_deviation**2)
    normal = generator.standard_normal(math.ceil(4 * area / settings.radius**2) + 20)  # more than needed
    drawn = settings.radius * np.exp(math.sqrt(variance) * np.clip(normal, -3, 3) - variance / 2)
    total = np.cumsum(drawn**2)
    n = int(np.argmin(np.abs(total - area))) + 1
    return np.sort(drawn[:n])[::-1] * math.sqrt(area / total[n - 1])


def _check_reachable(radii: np.ndarray, settings: FibreSettings, field: tuple[int, int]) -> None:
    length = 2 * _half_axes(settings, float(radii[0]))[2] + settings.min_gap
    longest = min(field) if settings.shape == "disc" else min(field) / 2  # so that only nearest images can overlap
    if length > longest:
        raise InputError(
            f"the longest fibre plus min_gap must be at most {longest:g} pixels in an extent of {settings.extent_x} x "
            f"{settings.extent_y}, got {length:.1f}; give a smaller --radius or a larger extent"
        )
    if settings.shape == "disc" and settings.radius_deviation == 0:
        reachable = DISC_SATURATION / (1 + settings.min_gap / (2 * float(radii[0]))) ** 2
        if settings.volume_fraction > reachable:
            raise InputError(
                f"volume_fraction must be at most {reachable:.3f} with min_gap {settings.min_gap:g}, got "
                f"{settings.volume_fraction:g}: equal discs with their gaps jam at {DISC_SATURATION}"
            )


def _add_sequentially(
    generator: np.random.Generator, radii: np.ndarray, settings: FibreSettings, field: tuple[int, int]
) -> list[Body]:
    """Place bodies on a periodic field until all are placed or one is rejected too often."""
    rows, columns = (float(length) for length in field)
    gap = settings.min_gap
    reach = 2 * _half_axes(settings, float(radii[0]))[2] + gap  # side of a cell: no two bodies interact beyond it
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
    """Return a cell and its neighbours on the periodic field, without duplicates."""
    i, j = divmod(cell, n_columns)
    return sorted({(i + p) % n_rows * n_columns + (j + q) % n_columns for p in (-1, 0, 1) for q in (-1, 0, 1)})


def _fits(body: Body, cells: list[list[Body]], around: list[int], rows: float, columns: float, gap: float) -> bool:
    """Whether a body keeps the gap to the nearest periodic images of the bodies in the neighbouring cells."""
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
    """Return the bodies that may overlap a window in the middle of the larger field, relative to the window."""
    moved = [replace(b, row=b.row - shift, column=b.column - shift) for b in bodies]
    return [
        b for b in moved if -b.outer <= b.row <= extent[0] + b.outer and -b.outer <= b.column <= extent[1] + b.outer
    ]
