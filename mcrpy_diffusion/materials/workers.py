"""Worker processes that make samples: on this machine, or those of a Dask cluster (`dask_workers`)."""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any, Protocol

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials.samples import Draw, Maker, Sample, Source

WORKER_BYTES = 0.3e9  # one worker process with numpy and scipy
_EXIT_SECONDS = 5.0

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
    worker_bytes: float = WORKER_BYTES,
) -> Workers:
    """Return workers, as a context manager: those of a Dask cluster if a scheduler is given, else local processes."""
    path = os.devnull if log_path is None else log_path
    if scheduler is not None:
        from mcrpy_diffusion.materials.dask_workers import DaskWorkers

        return DaskWorkers(scheduler, source, log_path=path)
    return LocalWorkers(number_of_workers(n_jobs, n_samples, worker_bytes), source, log_path=path)


def number_of_workers(n_jobs: int, n_samples: int, worker_bytes: float = WORKER_BYTES) -> int:
    """Return the number of workers to start: limited by cores, samples and available memory.

    Parameters
    ----------
    n_jobs : int
        As in joblib: -1 is one per core, -2 all cores but one.
    n_samples : int
    worker_bytes : float
        Memory of one worker.
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


def timed_samples(maker: Maker, draws: Sequence[tuple[int, int]]) -> tuple[list[Sample], float]:
    """Make the samples (index, seed); return them and the seconds that they took."""
    started = time.monotonic()
    samples = [maker(index, seed) for index, seed in draws]
    return samples, time.monotonic() - started


def plain_draws(draws: Sequence[Draw]) -> list[tuple[int, int]]:
    """Return (index, seed) of each draw: what a worker needs."""
    return [(draw.index, draw.seed) for draw in draws]


# --- processes of this machine ----------------------------------------------------------------------------------------


class LocalWorkers:
    """Worker processes of this machine (`concurrent.futures.ProcessPoolExecutor`).

    A single worker is a process of its own too, so that results never depend on the number of workers. All workers end
    with this process, also if it is killed.

    Parameters
    ----------
    n_workers : int
    source : Source
        Sent to each worker; its environment variables are set there.
    log_path : path
        Receives what the workers print.
    """

    def __init__(self, n_workers: int, source: Source, *, log_path: str | os.PathLike[str] = os.devnull) -> None:
        context = multiprocessing.get_context("spawn")
        reader, self._lifeline = context.Pipe(duplex=False)
        self._n_workers, self._environment = n_workers, dict(source.environment)
        self._executor = ProcessPoolExecutor(
            n_workers,
            mp_context=context,
            initializer=_start_worker,
            initargs=(source, os.fspath(log_path), reader),
        )

    @property
    def n_tasks(self) -> int:
        """Two per worker and one: as many tasks as the executor sends ahead."""
        return 2 * self._n_workers + 1

    def submit(self, draws: Sequence[Draw]) -> Future[Any]:
        """Start a task; the executor starts its processes with the first tasks."""
        with _settings_of_new_processes(self._environment):
            return self._executor.submit(_make_samples, plain_draws(draws))

    def result(self, future: Future[Any]) -> tuple[list[Sample], float]:
        """Return the samples of a task, and the seconds it took.

        Raises
        ------
        RuntimeError
            If a worker process crashed.
        """
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker process of the data generation crashed, probably for lack of memory; "
                "use fewer --n_jobs; the same command continues"
            ) from error

    def close(self) -> None:
        """End all processes at once, whatever they are doing."""
        self._lifeline.close()
        self._executor.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> LocalWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def _settings_of_new_processes(environment: Mapping[str, str]) -> Iterator[None]:
    """Let processes that start meanwhile inherit environment variables, ignore Ctrl-C, and import no `__main__`.

    Without `__main__`, scripts that use this package need no `if __name__ == "__main__"`.
    """
    saved = {name: os.environ.get(name) for name in environment}
    main = sys.modules["__main__"]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    try:
        os.environ.update(environment)
        sys.modules["__main__"] = ModuleType("__main__")
        yield
    finally:
        sys.modules["__main__"] = main
        for name, value in saved.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


# --- in a local worker ------------------------------------------------------------------------------------------------

_source: Source | None = None
_busy = False  # whether samples are being made; guarded by _state_changed
_state_changed = threading.Condition()


def _start_worker(source: Source, log_path: str, lifeline: Connection) -> None:
    """Prepare this worker: redirect output to the log, end with the parent process."""
    global _source
    _source = source
    threading.Thread(target=_exit_with_parent, args=(lifeline,), daemon=True).start()
    file = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    os.close(file)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def _exit_with_parent(lifeline: Connection) -> None:
    """Exit once the other end of the pipe is closed, by the parent process or by its death.

    An idle worker of a living parent is ended by the executor. An exit while a result is being sent would leave half a
    message, for which the parent would wait forever.
    """
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv_bytes()
    with _state_changed:
        _state_changed.wait_for(lambda: _busy, timeout=_EXIT_SECONDS)
        os._exit(1)


def _set_busy(busy: bool) -> None:
    global _busy
    with _state_changed:
        _busy = busy
        _state_changed.notify_all()


@functools.cache
def _maker() -> Maker:
    assert _source is not None
    return _source.start()


def _make_samples(draws: Sequence[tuple[int, int]]) -> tuple[list[Sample], float]:
    _set_busy(True)
    try:
        return timed_samples(_maker(), draws)
    finally:
        _set_busy(False)
