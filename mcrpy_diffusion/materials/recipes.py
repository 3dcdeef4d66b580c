"""The named materials: their generators and settings.

Alloy and fibre composite come straight from their generators. Carbonate, ceramics, PMMA and copolymer are MCRpy's
reconstructions of a reference image. The paper's recipe for the first three is the differentiable two-point
correlation (`Correlations`), truncated Newton and the RMS loss. The default is the same statistic by Fourier transform
(`FFTCorrelations`) with L-BFGS-B: a step takes a fiftieth of the time, and the optimisation converges more closely.

PMMA has few particles. S2 over the whole window fixes them all, so that every structure is a copy: it is held to a
quarter of the extent. There alone it leaves grey pixels, which rounding moves by more than the particles' share; the
volume fraction, held as well, makes the structure black and white, because S2(0) is the mean of x^2 and the volume
fraction that of x.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcrpy_diffusion.data.micrograph import Micrograph, hash_phases
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials import fibres, polycrystal, reference_images
from mcrpy_diffusion.materials.reference_images import MATERIALS, ReferenceSettings
from mcrpy_diffusion.materials.samples import ONE_THREAD, WORKER_BYTES, Maker, Sample
from mcrpy_diffusion.settings import AlloySettings, FibreSettings, GenerationSettings

DIRECT: dict[str, type[AlloySettings] | type[FibreSettings]] = {"alloy": AlloySettings, "fibre": FibreSettings}
REFERENCE_EXTENT, SMALLEST_EXTENT = 256, 64

_FAST = {"descriptor_types": ("FFTCorrelations",), "optimizer_type": "LBFGSB", "loss_type": "MSE"}
_PAPER = {"descriptor_types": ("Correlations",), "optimizer_type": "TNC", "loss_type": "RMS", "max_iter": 500}
_FEW_PARTICLES = {
    **_FAST,
    "descriptor_types": ("FFTCorrelations", "VolumeFractions"),
    "descriptor_weights": (1.0, 3.0),
    "max_iter": 500,
}
_GRAM = {"descriptor_types": ("GramMatrices",), "optimizer_type": "LBFGSB", "loss_type": "MSE", "max_iter": 500}
# What the checks must allow: the lineal path of a few particles is far off for each structure alone, and Gram matrices
# do not hold the volume fraction closely.
_TOLERANCES: dict[str, dict[str, float]] = {
    "pmma": {
        "volume_fraction_tolerance": 0.003,
        "lineal_path_tolerance_percent": 30.0,
    },
    "copolymer": {"volume_fraction_tolerance": 0.02},
}


def check_material(material: str) -> None:
    """Raise InputError if the material is unknown."""
    if material not in MATERIALS:
        raise InputError(f"material must be one of {', '.join(MATERIALS)}, got {material!r}")


def descriptor_settings(material: str, options: Mapping[str, Any], *, paper_recipe: bool) -> GenerationSettings:
    """Return the settings for MCRpy's reconstruction of a named material; options given go first.

    Raises
    ------
    InputError
        If an option is not one of these settings.
    """
    few = material == "pmma"
    named = _GRAM if material == "copolymer" else _PAPER if paper_recipe else _FEW_PARTICLES if few else _FAST
    if "descriptor_types" in options:  # weights are those of other descriptors
        named = {key: value for key, value in named.items() if key != "descriptor_weights"}
    settings = GenerationSettings(training_data="descriptors").replace(
        **{**named, **_TOLERANCES.get(material, {}), **options}
    )
    if few and settings.limit_to is None:
        settings = settings.replace(limit_to=min(settings.extent) // 4)
    return settings


def built_in_reference(material: str, extent: tuple[int, int]) -> Micrograph:
    """Return the built-in reference image, at least 256 x 256 and the extent.

    PMMA's is as large as the structures (at least 64 x 64): a structure cannot have the S2 of few particles in a larger
    window, because its S2 over all shifts has the mean phi^2.
    """
    smallest = SMALLEST_EXTENT if material == "pmma" else REFERENCE_EXTENT
    size = [max(smallest, length) for length in extent]
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
    worker_bytes: float = WORKER_BYTES

    @property
    def environment(self) -> Mapping[str, str]:
        """One thread each."""
        return ONE_THREAD

    def start(self) -> Maker:
        """Return the function that makes a sample."""
        return self._make

    def advice(self, reason: str) -> str:
        """Return a remedy if most seeds are rejected."""
        return "a smaller volume fraction, gap or size"

    def check_settings(self, seed: int) -> None:
        """Make one structure, so that settings that cannot work raise their InputError at once."""
        self._structure(seed)

    def _make(self, index: int, seed: int) -> Sample:
        try:
            phases, maps = self._structure(seed)
        except InputError as error:
            return Sample(np.zeros((0, 0), np.uint8), "not placed", {"problem": str(error)})
        return Sample(phases, "", {"volume_fraction": float(phases.mean())}, maps)

    def _structure(self, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        if isinstance(self.settings, FibreSettings):
            return fibres.make(seed, self.settings), {}
        made = polycrystal.make_polycrystal(seed, self.settings)
        return made.phases, {"grain_ids": made.grain_ids} if self.with_grain_ids else {}
