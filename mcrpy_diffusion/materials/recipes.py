"""The named materials: what makes each of them, with which settings.

Alloy and fibre composite come straight from their generators. Carbonate, ceramics, PMMA and copolymer are MCRpy's
reconstructions of a reference image. The paper's recipe for the first three is the differentiable two-point
correlation (`Correlations`), truncated Newton and the RMS loss; the default is the same statistic by Fourier transform
(`FFTCorrelations`) with L-BFGS-B, which takes a fiftieth of the time and converges more closely.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcrpy_diffusion.config import AlloySettings, FibreSettings, GenerationSettings
from mcrpy_diffusion.data.micrograph import Micrograph, hash_phases
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials import fibres, polycrystal, reference_images
from mcrpy_diffusion.materials.reference_images import MATERIALS, ReferenceSettings

DIRECT: dict[str, type[AlloySettings] | type[FibreSettings]] = {"alloy": AlloySettings, "fibre": FibreSettings}
SEEDS_PER_SET = 1_000_000  # sample k of the settings' seed s is drawn from s * SEEDS_PER_SET + k
REFERENCE_EXTENT = 256
MIN_ACCEPTANCE = 0.05
N_AT_ONCE = 500  # seeds handed to the workers before acceptance is looked at

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


@dataclass(frozen=True)
class Sample:
    """What became of a seed; `phases` is None, and `problem` says why, where nothing could be made."""

    seed: int
    phases: np.ndarray | None
    grain_ids: np.ndarray | None = None
    problem: str = ""


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


def make_sample(seed: int, settings: AlloySettings | FibreSettings, with_grain_ids: bool = False) -> Sample:
    """Make the structure of a seed by the generator that its settings belong to."""
    try:
        if isinstance(settings, FibreSettings):
            return Sample(seed, fibres.make(seed, settings))
        made = polycrystal.make_polycrystal(seed, settings)
        return Sample(seed, made.phases, made.grain_ids if with_grain_ids else None)
    except InputError as error:
        return Sample(seed, None, problem=str(error))


def make_samples(
    seeds: Sequence[int], settings: AlloySettings | FibreSettings, *, n_jobs: int, with_grain_ids: bool = False
) -> Iterator[Sample]:
    """Make the structures of many seeds, in several processes, in the order of the seeds."""
    from joblib import Parallel, delayed, parallel_config

    with parallel_config(backend="loky", inner_max_num_threads=1):
        parallel = Parallel(n_jobs=n_jobs, return_as="generator")
        yield from parallel(delayed(make_sample)(seed, settings, with_grain_ids) for seed in seeds)
