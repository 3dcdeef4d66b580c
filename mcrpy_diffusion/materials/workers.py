"""Selection of the workers that make samples: processes of this machine, or a Dask cluster."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, TypeAlias

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials.local_workers import LocalWorkers
from mcrpy_diffusion.materials.samples import Source

if TYPE_CHECKING:
    from mcrpy_diffusion.materials.dask_workers import DaskWorkers

Workers: TypeAlias = "LocalWorkers | DaskWorkers"

log = logging.getLogger(__name__)


def open_workers(
    source: Source,
    *,
    n_samples: int,
    n_jobs: int = -1,
    scheduler: str | None = None,
    log_path: str | os.PathLike[str] | None = None,
) -> Workers:
    """Return the workers of a Dask scheduler if its address is given, else local processes, as a context manager."""
    path = os.devnull if log_path is None else log_path
    if scheduler is not None:
        from mcrpy_diffusion.materials.dask_workers import DaskWorkers

        return DaskWorkers(scheduler, source, log_path=path)
    return LocalWorkers(number_of_workers(n_jobs, n_samples, source.worker_bytes), source, log_path=path)


def number_of_workers(n_jobs: int, n_samples: int, worker_bytes: float) -> int:
    """Return the number of workers to start, limited by cores (`n_jobs` as in joblib), samples and available memory."""
    import psutil
    from joblib import effective_n_jobs

    if n_jobs == 0:
        raise InputError("n_jobs must be at least 1, or -1 for one per core, got 0")
    wanted = max(1, min(effective_n_jobs(n_jobs), n_samples))
    fitting = max(1, int(psutil.virtual_memory().available / worker_bytes))
    if fitting < wanted:
        log.warning("memory is available for %d worker processes instead of %d", fitting, wanted)
    return min(wanted, fitting)
