"""MCRpy's own characterize and reconstruct, called once for each structure as users call them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mcrpy_diffusion.mcrpy_bridge.environment import quiet, refusals_of_mcrpy
from mcrpy_diffusion.mcrpy_bridge.reconstruction import Reconstructor
from mcrpy_diffusion.mcrpy_bridge.registration import register
from mcrpy_diffusion.mcrpy_bridge.results import characterize, limit_to
from mcrpy_diffusion.settings import GenerationSettings

Maker = Callable[[int], np.ndarray]


def plain_maker(phases: np.ndarray, settings: GenerationSettings) -> Maker:
    """Characterize a micrograph and return a function that calls `mcrpy.reconstruct` with a seed.

    Parameters
    ----------
    phases : (A, B) integer
        The micrograph.
    settings : GenerationSettings
        Used are the extent and the fields that MCRpy has too. All other settings of MCRpy keep their defaults, such as
        the convergence data, a copy of the structure every few iterations.

    Returns
    -------
    callable
        seed -> phases (I, J) uint8, rounded. It raises InputError if MCRpy cannot reconstruct with these settings.

    Raises
    ------
    InputError
        If MCRpy refuses the settings.
    """
    register(hide_gpus=True, with_torch=False)
    import mcrpy

    characterization = characterize(phases, settings)
    chosen = _mcrpy_settings(settings, phases.shape)

    def make(seed: int) -> np.ndarray:
        np.random.seed(seed % 2**32)  # noqa: NPY002  MCRpy draws the initial structure from numpy's global generator
        random.seed(seed)
        what = f"MCRpy cannot reconstruct by {', '.join(settings.descriptor_types)}"
        with refusals_of_mcrpy(what), quiet():
            own = mcrpy.ReconstructionSettings(**chosen)
            _, microstructure = mcrpy.reconstruct(dict(characterization), settings.extent, settings=own)
        return np.rint(np.asarray(microstructure.decode_phases())).astype(np.uint8)

    return make


def accelerated_maker(phases: np.ndarray, settings: GenerationSettings) -> Maker:
    """Return the same function as `plain_maker`, but faster: `Reconstructor` reuses descriptors, loss and gradient."""
    register(hide_gpus=True, with_torch=False)
    characterization: Mapping[str, Any] = characterize(phases, settings)
    reconstructor = Reconstructor(
        {name: values for name, values in characterization.items() if name != "settings"},
        n_phases=int(characterization["settings"].n_phases),
        shape=settings.extent,
        settings=_mcrpy_settings(settings, phases.shape),
    )
    return lambda seed: reconstructor(seed).phases


def _mcrpy_settings(settings: GenerationSettings, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return the fields of `mcrpy.ReconstructionSettings` that differ from MCRpy's defaults."""
    return {
        "descriptor_types": list(settings.descriptor_types),
        "limit_to": limit_to(settings, shape),
        "use_multiphase": settings.use_multiphase,
        "periodic": settings.periodic,
        "use_multigrid_descriptor": settings.use_multigrid_descriptor,
        "optimizer_type": settings.optimizer_type,
        "loss_type": settings.loss_type,
        "max_iter": settings.iterations,
    }
