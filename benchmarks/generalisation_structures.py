"""Structures that are none of the paper's six materials: small seeded generators, all periodic.

Each takes a `numpy.random.Generator` and an extent (rows, columns) and returns (I, J): uint8 phases 0, 1, ..., or
float32 grey values in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

Extent = tuple[int, int]


def voronoi_foam(generator: np.random.Generator, extent: Extent) -> np.ndarray:
    """Walls (phase 1), 3 pixels thick, between the Voronoi cells of points about 20 pixels apart."""
    _, to_wall = _cells(_scattered(generator, extent, 20.0), extent)
    return (to_wall < 1.5).astype(np.uint8)


def overlapping_ellipses(generator: np.random.Generator, extent: Extent) -> np.ndarray:
    """Ellipses (phase 1) of half axes 12 and 4 pixels in random places and directions, until they fill 40 %."""
    phases = np.zeros(extent, np.uint8)
    rows, columns = np.indices(extent)
    while phases.mean() < 0.4:
        centre, angle = generator.random(2) * extent, generator.random() * np.pi
        i, j = ((x - c + n / 2) % n - n / 2 for x, c, n in zip((rows, columns), centre, extent))
        along, across = i * np.cos(angle) + j * np.sin(angle), j * np.cos(angle) - i * np.sin(angle)
        phases[(along / 12) ** 2 + (across / 4) ** 2 <= 1] = 1
    return phases


def coated_particles(generator: np.random.Generator, extent: Extent) -> np.ndarray:
    """Discs (phase 2) of radius 6 with a coating (phase 1) of 3 pixels in a matrix (phase 0); they may overlap."""
    points = generator.random((extent[0] * extent[1] // 600, 2)) * extent
    nearest = cKDTree(points, boxsize=extent).query(_pixels(extent))[0].reshape(extent)
    return (nearest < 9).astype(np.uint8) + (nearest < 6)


def grey_grains(generator: np.random.Generator, extent: Extent) -> np.ndarray:
    """Grains of different brightness with dark boundaries, slightly blurred and noisy, as a microscope shows them."""
    points = _scattered(generator, extent, 16.0)
    cell, to_wall = _cells(points, extent)
    image = np.where(to_wall < 1.0, 0.15, generator.uniform(0.45, 0.95, len(points))[cell])
    image = gaussian_filter(image, 0.8, mode="wrap") + 0.02 * generator.standard_normal(extent)
    return np.clip(image, 0, 1).astype(np.float32)


def layers(generator: np.random.Generator, extent: Extent) -> np.ndarray:
    """Layers along the rows: a random field whose correlation is 16 times as long across as down, cut at 45 %."""
    field = gaussian_filter(generator.standard_normal(extent), (2.0, 32.0), mode="wrap")
    return (field > np.quantile(field, 0.55)).astype(np.uint8)


STRUCTURES: dict[str, Callable[[np.random.Generator, Extent], np.ndarray]] = {
    "voronoi_foam": voronoi_foam,
    "overlapping_ellipses": overlapping_ellipses,
    "coated_particles": coated_particles,
    "grey_grains": grey_grains,
    "layers": layers,
}


def _pixels(extent: Extent) -> np.ndarray:
    return np.indices(extent).reshape(2, -1).T.astype(np.float64)


def _scattered(generator: np.random.Generator, extent: Extent, spacing: float) -> np.ndarray:
    """Points (n, 2), one in a random place of each square of about this side."""
    n = [round(length / spacing) for length in extent]
    corners = np.indices(n).reshape(2, -1).T
    return (corners + generator.random(corners.shape)) / n * extent


def _cells(points: np.ndarray, extent: Extent) -> tuple[np.ndarray, np.ndarray]:
    """Index (I, J) of each pixel's nearest point, and its distance (I, J) to the nearest wall between two cells."""
    distance, index = cKDTree(points, boxsize=extent).query(_pixels(extent), k=6)
    apart = np.abs(points[index[:, 1:]] - points[index[:, :1]])
    apart = np.linalg.norm(np.minimum(apart, extent - apart), axis=-1)
    to_wall = ((distance[:, 1:] ** 2 - distance[:, :1] ** 2) / (2 * apart)).min(axis=1)
    return index[:, 0].reshape(extent), to_wall.reshape(extent)
