"""MCRpy's loss of given structures, whatever method made them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge.environment import quiet, refusals_of_mcrpy
from mcrpy_diffusion.mcrpy_bridge.registration import register


def mcrpy_loss(structures: np.ndarray, characterization: Mapping[str, Any], settings: Any = None) -> np.ndarray:
    """Return MCRpy's loss of structures against a characterization, which its optimizers minimise.

    Parameters
    ----------
    structures : (N, I, J) or (I, J) integer
        Phases.
    characterization : mapping
        As returned by `mcrpy.characterize`. It is not changed; `mcrpy.reconstruct` removes its settings.
    settings : mcrpy.ReconstructionSettings, optional
        Used are the descriptors, their weights and options, and the loss. By default the loss is the mean squared
        difference (MSE) of all descriptors of the characterization, with its settings.

    Returns
    -------
    (N,) float64
        0 for a structure that has the descriptors of the characterization.

    Raises
    ------
    InputError
        If MCRpy refuses the settings, or structures and characterization have different shapes or phases.

    Notes
    -----
    Only the first level of a multigrid descriptor is used, as in MCRpy's reconstruction without multigrid. With several
    phases MCRpy weights each by (1 - volume fraction)^2 + 0.01.
    """
    register()
    import mcrpy
    from mcrpy.src.DMCR import DMCR

    phases = np.asarray(structures)
    phases = phases[None] if phases.ndim == 2 else phases
    if phases.ndim != 3 or phases.size == 0:
        raise InputError(f"structures must have shape (N, I, J) with N of at least 1, got {np.shape(structures)}")
    if "settings" not in characterization:
        raise InputError(
            "the characterization must hold its settings; mcrpy.reconstruct removes them, so give that function a copy"
        )
    own = characterization["settings"]
    if settings is None:
        known = vars(mcrpy.ReconstructionSettings())
        names = [name for name in characterization if name != "settings"]
        settings = mcrpy.ReconstructionSettings(
            **{key: value for key, value in vars(own).items() if key in known and value is not None}
        )
        settings.descriptor_types = names
    # the optimizer is never created; with one that needs no gradient, MCRpy accepts every descriptor
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
