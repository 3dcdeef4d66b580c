"""Volumes whose three-dimensional structure is known: generators by name, with parameters for about 64 voxels.

A section of one is all that a reconstruction sees; what it makes can be compared with the true volume.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcrpy_diffusion.materials.foam import voronoi_foam
from mcrpy_diffusion.materials.layers import layer_stack
from mcrpy_diffusion.materials.level_sets import level_set
from mcrpy_diffusion.materials.solids import aligned_fibres, overlapping_spheres, separate_spheres


@dataclass(frozen=True)
class VolumeKind:
    """A generator of periodic volumes of two phases, with its parameters.

    Attributes
    ----------
    title : str
    function : callable
        Called with the extent, the keyword `seed` and the parameters; returns (I, J, K) uint8.
    parameters : mapping
        In voxels.
    axis : int or None
        The axis of symmetry of a material that is not isotropic.
    """

    title: str
    function: Callable[..., np.ndarray]
    parameters: Mapping[str, Any]
    axis: int | None = None

    def make(self, extent: tuple[int, int, int], seed: int) -> np.ndarray:
        """Return the volume of a seed, (I, J, K) uint8."""
        return self.function(extent, seed=seed, **self.parameters)


VOLUMES: dict[str, VolumeKind] = {
    "spheres": VolumeKind("overlapping spheres", overlapping_spheres, {"radius": 5.0, "volume_fraction": 0.4}),
    "level_set": VolumeKind(
        "level set of a Gaussian random field",
        level_set,
        {"correlation_length": 6.0, "wavelength": None, "volume_fraction": 0.35},
    ),
    "bicontinuous": VolumeKind(
        "level set with a wavelength",
        level_set,
        {"correlation_length": 12.0, "wavelength": 14.0, "volume_fraction": 0.5},
    ),
    "foam": VolumeKind("Voronoi foam", voronoi_foam, {"cell_size": 16.0, "wall_thickness": 2.0}),
    "particles": VolumeKind(
        "separate spheres of several sizes",
        separate_spheres,
        {"radius": 5.0, "variation": 0.3, "volume_fraction": 0.3, "gap": 1.0},
    ),
    "fibres": VolumeKind(
        "aligned fibres",
        aligned_fibres,
        {"radius": 3.5, "variation": 0.1, "volume_fraction": 0.35, "gap": 1.0, "axis": 2},
        axis=2,
    ),
    "layers": VolumeKind(
        "layers", layer_stack, {"period": 12.0, "variation": 0.35, "volume_fraction": 0.4, "axis": 0}, axis=0
    ),
}
"""Name -> generator."""
