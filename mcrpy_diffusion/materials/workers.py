"""The choice of worker processes that make samples: those of this machine, or those of a Dask cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials.local_workers import LocalWorkers
from mcrpy_diffusion.materials.samples import Draw, Sample, Source

log = logging.getLogger(__name__)


class Workers(Protocol):
    """Processes that make samples of one source."""

    @property
    def n_tasks(self) -> int:
        """Number of tasks that keeps all workers busy."""

    def submit(self, draws: Sequence[Draw]) -> Future[Any]:
        """Start a task: one sample for each draw."""

    def result(self, future: Future[Any]) -> tuple[list[Sample], float]:
        """Return the samples of a task, and the seconds it took."""

    def __enter__(self) -> Workers: ...

    def __exit__(self, *_: object) -> None: ...


def open_workers(
    source: Source,
    *,
    n_samples: int,
    n_jobs: int = -1,
    scheduler: str | None = None,
    log_path: str | os.PathLike[str] | None = None,
) -> Workers:
    """Return workers, as a context manager: those of a Dask cluster if a scheduler is given, else local processes."""
    path = os.devnull if log_path is None else log_path
    if scheduler is not None:
        from mcrpy_diffusion.materials.dask_workers import DaskWorkers

        return DaskWorkers(scheduler, source, log_path=path)
    return LocalWorkers(number_of_workers(n_jobs, n_samples, source.worker_bytes), source, log_path=path)


def number_of_workers(n_jobs: int, n_samples: int, worker_bytes: float) -> int:
    """Return the number of workers to start: limited by cores, samples and available memory.

    Parameters
    ----------
    n_jobs : int
        As in joblib: -1 is one per core, -2 all cores but one.
    n_samples : int
    worker_bytes : float
        Memory of one worker.

    Raises
    ------
    InputError
        If n_jobs is 0.
    """
    import psutil
    from joblib import effective_n_jobs

    if n_jobs == 0:
        raise InputError("n_jobs must be 1, 2, ..., or -1 for one per core, got 0")
    wanted = max(1, min(effective_n_jobs(n_jobs), n_samples))
    fitting = max(1, int(psutil.virtual_memory().available / worker_bytes))
    if fitting < wanted:
        log.warning("memory for %d worker processes instead of %d", fitting, wanted)
    return min(wanted, fitting)
