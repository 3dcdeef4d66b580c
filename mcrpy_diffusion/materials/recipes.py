"""The named materials: what makes each of them, with which settings.

Alloy and fibre composite come straight from their generators. Carbonate, ceramics, PMMA and copolymer are MCRpy's
reconstructions of a reference image. The paper's recipe for the first three is the differentiable two-point
correlation (`Correlations`), truncated Newton and the RMS loss; the default is the same statistic by Fourier transform
(`FFTCorrelations`) with L-BFGS-B, which takes a fiftieth of the time and converges more closely.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcrpy_diffusion.config import AlloySettings, FibreSettings, GenerationSettings
from mcrpy_diffusion.data.micrograph import Micrograph, hash_phases
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials import engine, fibres, polycrystal, reference_images
from mcrpy_diffusion.materials.reference_images import MATERIALS, ReferenceSettings

DIRECT: dict[str, type[AlloySettings] | type[FibreSettings]] = {"alloy": AlloySettings, "fibre": FibreSettings}
REFERENCE_EXTENT = 256

_FAST = {"descriptor_types": ("FFTCorrelations",), "optimizer_type": "LBFGSB", "loss_type": "MSE"}
_PAPER = {"descriptor_types": ("Correlations",), "optimizer_type": "TNC", "loss_type": "RMS", "max_iter": 500}
_GRAM = {"descriptor_types": ("GramMatrices",), "optimizer_type": "LBFGSB", "loss_type": "MSE", "max_iter": 500}
# What the checks must allow: S2 of the few particles of a small PMMA image is far off for each alone, and Gram matrices
# do not hold the volume fraction closely.
_TOLERANCES: dict[str, dict[str, float]] = {
    "pmma": {
        "volume_fraction_tolerance": 0.003,
        "two_point_tolerance_percent": 25.0,
        "lineal_path_tolerance_percent": 30.0,
    },
    "copolymer": {"volume_fraction_tolerance": 0.02},
}


def check_material(material: str) -> None:
    """Raise InputError where there is no such material."""
    if material not in MATERIALS:
        raise InputError(f"material is {material!r}; allowed are {', '.join(MATERIALS)}")


def descriptor_settings(material: str, options: Mapping[str, Any], *, paper_recipe: bool) -> GenerationSettings:
    """Return the settings for MCRpy's reconstruction of a named material; options given go first.

    Raises
    ------
    InputError
        If an option is none of these settings.
    """
    named = _GRAM if material == "copolymer" else _PAPER if paper_recipe else _FAST
    values = {**named, **_TOLERANCES.get(material, {}), **options}
    return GenerationSettings(training_data="descriptors").replace(**values)


def built_in_reference(material: str, extent: tuple[int, int]) -> Micrograph:
    """Return the built-in reference image, at least 256 x 256 and the extent."""
    size = [max(REFERENCE_EXTENT, length) for length in extent]
    phases = reference_images.make(0, ReferenceSettings(material=material, extent_x=size[0], extent_y=size[1]))
    return Micrograph(material, phases, 2, None, hash_phases(phases), f"built-in reference image of {material}")


@dataclass(frozen=True)
class DirectSource:
    """Samples of a generator that needs no reference, for `engine.fill`.

    Attributes
    ----------
    settings : AlloySettings or FibreSettings
    with_grain_ids : bool
        For alloy: keep the map of grains beside the phases.
    """

    settings: AlloySettings | FibreSettings
    with_grain_ids: bool = False
    name: str = "structures"

    @property
    def environment(self) -> Mapping[str, str]:
        """One thread each."""
        return engine.ONE_THREAD

    def start(self) -> engine.Maker:
        """Return the function that makes a sample."""
        return self._make

    def advice(self, reason: str) -> str:
        """Say what helps where most seeds are refused."""
        return "try a smaller volume fraction, gap or size"

    def check_settings(self, seed: int) -> None:
        """Make one structure, so that settings that cannot work raise their InputError at once."""
        self._structure(seed)

    def _make(self, index: int, seed: int) -> engine.Sample:
        try:
            phases, maps = self._structure(seed)
        except InputError as error:
            return engine.Sample(np.zeros((0, 0), np.uint8), "not placed", {"problem": str(error)})
        return engine.Sample(phases, "", {"volume_fraction": float(phases.mean())}, maps)

    def _structure(self, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        if isinstance(self.settings, FibreSettings):
            return fibres.make(seed, self.settings), {}
        made = polycrystal.make_polycrystal(seed, self.settings)
        return made.phases, {"grain_ids": made.grain_ids} if self.with_grain_ids else {}
