"""Volumes of spheres and of aligned fibres whose statistics are known in closed form. Phase 1 is the particles.

The centre of voxel (i, j, k) is the point (i, j, k); volumes are periodic. Lengths are in voxels.

References
----------
S. Torquato, Random Heterogeneous Materials (2002), chapters 3 (random sequential addition) and 5 (overlapping spheres).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, pi

import numpy as np

from mcrpy_diffusion.errors import InputError

_N_ATTEMPTS = 20_000  # random positions tried for a particle
_BATCH = 250  # of them at a time


def overlapping_spheres(
    extent: tuple[int, int, int], *, radius: float, volume_fraction: float, seed: int
) -> np.ndarray:
    """Make spheres of one radius around Poisson centres (Boolean model).

    Parameters
    ----------
    extent : (int, int, int)
        Planes, rows, columns.
    radius : float
        In voxels, below half of the smallest extent.
    volume_fraction : float
        Expected share of the spheres, between 0 and 1. Single volumes scatter around it.
    seed : int

    Returns
    -------
    (I, J, K) uint8
    """
    _check_fraction(volume_fraction)
    generator = np.random.default_rng(seed)
    n = generator.poisson(number_density(radius, volume_fraction) * np.prod(extent))
    return paint_balls(extent, generator.random((n, 3)) * extent, np.full(n, radius)).astype(np.uint8)


def number_density(radius: float, volume_fraction: float) -> float:
    """Return the number of overlapping spheres per voxel: -ln(1 - phi) / (4/3 pi R^3)."""
    return -log(1 - volume_fraction) / float(ball_overlap(0, radius))


def overlapping_spheres_s2(r: np.ndarray | float, *, radius: float, volume_fraction: float) -> np.ndarray:
    """Return S2 of overlapping spheres at distances r: 1 - 2 exp(-rho V) + exp(-rho V2(r)), V2 the union of two."""
    union = 2 * ball_overlap(0, radius) - ball_overlap(r, radius)
    return 2 * volume_fraction - 1 + np.exp(-number_density(radius, volume_fraction) * union)


def overlapping_spheres_matrix_lineal_path(
    r: np.ndarray | float, *, radius: float, volume_fraction: float
) -> np.ndarray:
    """Return L of the matrix (phase 0) between overlapping spheres: (1 - phi) exp(-rho pi R^2 r)."""
    rho = number_density(radius, volume_fraction)
    return (1 - volume_fraction) * np.exp(-rho * pi * radius**2 * np.asarray(r, dtype=np.float64))


def overlapping_spheres_surface(*, radius: float, volume_fraction: float) -> float:
    """Return the area of the interface per volume: rho 4 pi R^2 (1 - phi)."""
    return number_density(radius, volume_fraction) * 4 * pi * radius**2 * (1 - volume_fraction)


def separate_spheres(
    extent: tuple[int, int, int], *, radius: float, variation: float, volume_fraction: float, gap: float, seed: int
) -> np.ndarray:
    """Make spheres that do not overlap, with log-normal radii, by random sequential addition from the largest on.

    Parameters
    ----------
    extent : (int, int, int)
        Planes, rows, columns.
    radius : float
        Mean radius before the radii are scaled to the volume fraction, in voxels.
    variation : float
        Standard deviation of the radii over their mean, at least 0.
    volume_fraction : float
        Share of the spheres, exact but for the voxels.
    gap : float
        Smallest distance between the surfaces of two spheres, in voxels.
    seed : int

    Returns
    -------
    (I, J, K) uint8

    Raises
    ------
    InputError
        If a sphere finds no position, or is larger than the extent.
    """
    generator = np.random.default_rng(seed)
    radii = draw_radii(extent, radius=radius, variation=variation, volume_fraction=volume_fraction, generator=generator)
    centres = place_apart(extent, radii, gap=gap, generator=generator)
    return paint_balls(extent, centres, radii).astype(np.uint8)


def separate_balls_lineal_path(r: np.ndarray, *, radii: np.ndarray, extent: tuple[int, ...]) -> np.ndarray:
    """Return L of balls that do not overlap, spheres (3D) or discs (2D): sum of the overlaps of each with itself."""
    overlaps = ball_overlap(np.asarray(r, dtype=np.float64)[:, None], radii, n_dims=len(extent))
    return overlaps.sum(axis=1) / np.prod(extent)


def aligned_fibres(
    extent: tuple[int, int, int],
    *,
    radius: float,
    variation: float,
    volume_fraction: float,
    gap: float,
    axis: int,
    seed: int,
) -> np.ndarray:
    """Make endless cylinders along an axis whose sections are discs that do not overlap.

    Parameters
    ----------
    extent, radius, variation, volume_fraction, gap, seed
        As for `separate_spheres`.
    axis : {0, 1, 2}
        The axis that the fibres are parallel to.

    Returns
    -------
    (I, J, K) uint8
    """
    across = _without(extent, axis)
    generator = np.random.default_rng(seed)
    radii = draw_radii(across, radius=radius, variation=variation, volume_fraction=volume_fraction, generator=generator)
    discs = paint_balls(across, place_apart(across, radii, gap=gap, generator=generator), radii)
    return np.repeat(np.expand_dims(discs, axis), extent[axis], axis=axis).astype(np.uint8)


def ball_overlap(r: np.ndarray | float, radius: np.ndarray | float, *, n_dims: int = 3) -> np.ndarray:
    """Return the volume (3D) or area (2D) that two balls of one radius share whose centres are a distance r apart."""
    half = np.clip(np.asarray(r, dtype=np.float64) / (2 * np.asarray(radius, dtype=np.float64)), 0, 1)
    if n_dims == 2:
        return 2 * np.square(radius) * (np.arccos(half) - half * np.sqrt(1 - half**2))
    return 4 / 3 * pi * np.power(radius, 3) * (1 - 1.5 * half + 0.5 * half**3)


def draw_radii(
    extent: tuple[int, ...], *, radius: float, variation: float, volume_fraction: float, generator: np.random.Generator
) -> np.ndarray:
    """Draw log-normal radii, largest first, and scale them until the balls fill the fraction of the extent exactly.

    Returns
    -------
    (N,) float64
    """
    _check_fraction(volume_fraction)
    n_dims, target = len(extent), volume_fraction * float(np.prod(extent))
    width = np.log1p(variation**2) ** 0.5
    expected = float(ball_overlap(0, radius, n_dims=n_dims)) * np.exp(0.5 * n_dims * (n_dims - 1) * width**2)
    n = max(round(target / expected), 1)
    radii = radius * np.exp(width * generator.standard_normal(n) - width**2 / 2)
    total = ball_overlap(0, radii, n_dims=n_dims).sum()
    return np.sort(radii * (target / total) ** (1 / n_dims))[::-1]


def place_apart(
    extent: tuple[int, ...], radii: Sequence[float] | np.ndarray, *, gap: float, generator: np.random.Generator
) -> np.ndarray:
    """Place balls at random in a periodic box without overlap, one after the other: centres (N, n_dims).

    Raises
    ------
    InputError
        If one finds no position after 20,000 attempts.
    """
    size, radii = np.array(extent, dtype=np.float64), np.asarray(radii, dtype=np.float64)
    centres = np.empty((len(radii), len(size)))
    for n, radius in enumerate(radii):
        smallest = radii[:n] + radius + gap
        for _ in range(_N_ATTEMPTS // _BATCH):
            points = generator.random((_BATCH, len(size))) * size
            offsets = points[:, None] - centres[:n]
            offsets -= size * np.rint(offsets / size)
            free = np.flatnonzero((np.einsum("pnk,pnk->pn", offsets, offsets) >= smallest**2).all(axis=1))
            if len(free):
                centres[n] = points[free[0]]
                break
        else:
            raise InputError(
                f"{len(radii)} particles must find a place each, got {n} placed; give a smaller volume fraction or gap"
            )
    return centres


def paint_balls(extent: tuple[int, ...], centres: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return which pixels of a periodic box lie within a ball: bool of the shape `extent`.

    Raises
    ------
    InputError
        If a ball is as large as the box.
    """
    if len(radii) and 2 * max(radii) >= min(extent):
        raise InputError(f"the diameter must be below the extent {extent}, got {2 * max(radii):.1f}")
    solid = np.zeros(extent, dtype=bool)
    for centre, radius in zip(centres, radii):
        near = [np.arange(np.ceil(c - radius), np.floor(c + radius) + 1) for c in centre]
        squares = sum(np.ix_(*((points - c) ** 2 for points, c in zip(near, centre))))
        solid[np.ix_(*(points.astype(int) % n for points, n in zip(near, extent)))] |= squares <= radius**2
    return solid


def _without(extent: tuple[int, int, int], axis: int) -> tuple[int, int]:
    if axis not in (0, 1, 2):
        raise InputError(f"axis must be 0, 1 or 2, got {axis!r}")
    first, second = (n for k, n in enumerate(extent) if k != axis)
    return first, second


def _check_fraction(volume_fraction: float) -> None:
    if not 0 < volume_fraction < 1:
        raise InputError(f"volume_fraction must be between 0 and 1, got {volume_fraction!r}")
