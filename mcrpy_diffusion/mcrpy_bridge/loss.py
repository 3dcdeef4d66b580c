"""MCRpy's own loss of structures that are there already, however they were made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge.environment import quiet, refusals_of_mcrpy
from mcrpy_diffusion.mcrpy_bridge.registration import register


def mcrpy_loss(structures: np.ndarray, characterization: Mapping[str, Any], settings: Any = None) -> np.ndarray:
    """Return MCRpy's loss of structures against a characterization: what its optimizers make small.

    Parameters
    ----------
    structures : (N, I, J) or (I, J) integer
        Phases.
    characterization : mapping
        What `mcrpy.characterize` returned; it stays as it is (`mcrpy.reconstruct` takes its settings out).
    settings : mcrpy.ReconstructionSettings, optional
        Of which the descriptors, their weights and options, and the loss count. By default the loss is the mean squared
        difference (MSE), with the characterization's descriptors and settings.

    Returns
    -------
    (N,) float64
        0 for a structure whose descriptors are those of the characterization.

    Raises
    ------
    InputError
        If MCRpy refuses the settings, or structures and characterization do not fit together.

    Notes
    -----
    Of a multigrid descriptor the first level counts, as in MCRpy's reconstruction without multigrid. With several
    phases MCRpy weighs each by (1 - volume fraction)^2 + 0.01.
    """
    register()
    import mcrpy
    from mcrpy.src.DMCR import DMCR

    phases = np.asarray(structures)
    phases = phases[None] if phases.ndim == 2 else phases
    if phases.ndim != 3 or phases.size == 0:
        raise InputError(f"the structures have shape {np.shape(structures)}; allowed is (N, I, J), of at least one")
    if "settings" not in characterization:
        raise InputError(
            "the characterization has no settings, which mcrpy.reconstruct takes out of it; give that function a copy"
        )
    own = characterization["settings"]
    if settings is None:
        known = vars(mcrpy.ReconstructionSettings())
        names = [name for name in characterization if name != "settings"]
        settings = mcrpy.ReconstructionSettings(
            **{key: value for key, value in vars(own).items() if key in known and value is not None}
        )
        settings.descriptor_types = names
    # of its optimizers the one that needs no gradient, so that all descriptors are allowed; it is never made
    arguments = {**vars(settings), "optimizer_type": "Diffusion", "n_phases": own.n_phases, "save_to": None}
    with refusals_of_mcrpy("MCRpy cannot compare these structures with the characterization"), quiet():
        desired = [np.asarray(characterization[name]) for name in settings.descriptor_types]
        mcr = DMCR(**arguments)
        mcr.mg_level, mcr.pool_size = 0, 1
        mcr.assign_desired_descriptor(desired)
        mcr.assign_desired_shape(phases.shape[1:])
        mcr.setup_descriptor()
        mcr._create_loss(1, 0)
        return np.array([_loss(mcr, each) for each in phases])


def _loss(mcr: Any, phases: np.ndarray) -> float:
    from mcrpy.src.Microstructure import Microstructure

    structure = Microstructure(phases.astype(np.float64), use_multiphase=mcr.use_multiphase, trainable=False)
    return float(mcr.loss(structure.xx))
