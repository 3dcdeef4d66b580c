"""Worker processes of this machine."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from types import ModuleType
from typing import Any

from mcrpy_diffusion.materials.samples import Draw, Maker, Sample, Source, timed_samples

_EXIT_SECONDS = 5.0


class LocalWorkers(contextlib.AbstractContextManager["LocalWorkers"]):
    """Worker processes of this machine (`concurrent.futures.ProcessPoolExecutor`), as a context manager.

    A single worker is also a separate process, so results never depend on the number of workers. All workers end with
    this process, even if it is killed. The log file receives what they print.
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
        """Number of tasks that keeps all workers busy: the executor queues one more than it runs."""
        return 2 * self._n_workers + 1

    def submit(self, draws: Sequence[Draw]) -> Future[Any]:
        """Start a task: one sample for each draw. The first tasks start the processes."""
        with _settings_of_new_processes(self._environment):
            return self._executor.submit(_make_samples, list(draws))

    def result(self, future: Future[Any]) -> tuple[list[Sample], float]:
        """Return the samples of a task and its time in seconds; raise RuntimeError if a worker crashed."""
        try:
            return future.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker process crashed, probably for lack of memory; use fewer --n_jobs; the same command continues"
            ) from error

    def __exit__(self, *_: object) -> None:
        """End all processes at once, also busy ones."""
        self._lifeline.close()
        self._executor.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _settings_of_new_processes(environment: Mapping[str, str]) -> Iterator[None]:
    """Within this context, new processes inherit environment variables, ignore Ctrl-C, and import no `__main__`.

    Scripts that use this package therefore need no `if __name__ == "__main__"`.
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
    """Initialise a worker process: redirect its output to the log, and let it end with the parent process."""
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

    The executor ends idle workers. A worker that exits while it sends a result would leave half a message, for which
    the parent would wait forever; so it exits while it makes samples.
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


def _make_samples(draws: Sequence[Draw]) -> tuple[list[Sample], float]:
    _set_busy(True)
    try:
        return timed_samples(_maker(), draws)
    finally:
        _set_busy(False)
