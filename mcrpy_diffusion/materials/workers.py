"""Where samples are made: processes of this machine, or the workers of a Dask cluster."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import pickle
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from typing import IO, Any, Protocol

from mcrpy_diffusion.errors import InputError, one_line
from mcrpy_diffusion.materials.samples import ONE_THREAD, Draw, Maker, Sample, Source

WORKER_BYTES = 0.3e9  # one worker process with numpy and scipy
_DASK_TIMEOUT = 20.0

log = logging.getLogger(__name__)


class Workers(Protocol):
    """Where samples are made."""

    @property
    def n_tasks(self) -> int:
        """How many tasks keep all workers busy."""

    def submit(self, source: Source, draws: Sequence[Draw]) -> Future[Any]:
        """Begin a task."""

    def result(self, future: Future[Any]) -> tuple[list[Sample], float]:
        """Return the samples of a task, and the seconds it took."""

    def abandon(self, futures: Sequence[Future[Any]]) -> None:
        """Let go of tasks whose samples are not needed."""

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function in a worker and return its result."""


# --- in a worker -----------------------------------------------------------------------------------------------------

_one_at_a_time = threading.Lock()  # MCRpy draws from numpy's global generator; a Dask worker has several threads
_makers: dict[str, Maker] = {}  # of this process: the source it works for


def make_samples(
    token: str, source: Source, draws: Sequence[Draw], environment: Mapping[str, str] | None = None
) -> tuple[list[Sample], float, str]:
    """Make some samples (in a worker).

    Parameters
    ----------
    token : str
        Names the source; it is started when the name is new to the process.
    source : Source
    draws : sequence of Draw
    environment : mapping, optional
        Environment variables to set first, where the process was not started with them; what is printed is then
        held back, and returned.

    Returns
    -------
    list of Sample, seconds, what was printed
    """
    with _one_at_a_time, contextlib.ExitStack() as stack:
        held = None if environment is None else stack.enter_context(_held_output(environment))
        if token not in _makers:
            _makers.clear()
            _makers[token] = source.start()
        started = time.monotonic()
        samples = [_makers[token](draw.index, draw.seed) for draw in draws]
        seconds = time.monotonic() - started
        if held is None:
            return samples, seconds, ""
        held.seek(0)
        return samples, seconds, held.read()


@contextlib.contextmanager
def _held_output(environment: Mapping[str, str]) -> Iterator[IO[str]]:
    """Set environment variables that are not set, and send to a file what is printed, by TensorFlow's C++ part too."""
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    saved = os.dup(1)
    try:
        with tempfile.TemporaryFile("w+", buffering=1, errors="replace") as held, contextlib.redirect_stdout(held):
            os.dup2(held.fileno(), 1)
            try:
                yield held
            finally:
                os.dup2(saved, 1)
    finally:
        os.close(saved)


def _start_worker(log_path: str, worker_bytes: float) -> None:
    """Send what MCRpy and TensorFlow print to the log; Ctrl-C is the parent's to handle."""
    import signal

    from joblib.externals.loky import process_executor

    # loky's own limit, 0.3e9, would replace each process that has just started TensorFlow
    process_executor._MAX_MEMORY_LEAK_SIZE = max(int(worker_bytes), 300_000_000)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    file = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    os.close(file)


def _end_with_parent(parent: int) -> None:
    """End this worker when its parent is gone, however that ended: no one else would."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


# --- workers ---------------------------------------------------------------------------------------------------------
# --- workers ----------------------------------------------------------------------------------------------------------


class LocalWorkers:
    """Worker processes of our own, by joblib's loky: one thread each, what they print goes to a file.

    They are used for a single worker too, so that a result never depends on their number.

    Parameters
    ----------
    n_workers : int
    log_path : path
        Gets what the workers print.
    environment : mapping
        Environment variables of the workers.
    recycle_after : int, optional
        After so many samples each, new processes take their place.
    worker_bytes : float
        What one of them is expected to use: loky replaces a process that grows by more than that (where psutil is
        installed).
    """

    def __init__(
        self,
        n_workers: int,
        *,
        log_path: str | os.PathLike[str] = os.devnull,
        environment: Mapping[str, str] = ONE_THREAD,
        recycle_after: int | None = None,
        worker_bytes: float = WORKER_BYTES,
    ) -> None:
        self._n_workers, self._worker_bytes = n_workers, worker_bytes
        self._n_to_hand_out = math.inf if recycle_after is None else recycle_after * n_workers
        self._log_path, self._environment = os.fspath(log_path), dict(environment)
        self._n_handed_out = 0
        self._executor: Any = None
        self._old: list[tuple[Any, list[Future[Any]]]] = []
        self._futures: list[Future[Any]] = []
        self._tokens: dict[int, tuple[str, Source]] = {}

    @property
    def n_tasks(self) -> int:
        """Two per worker and one: that many loky passes on at once."""
        return 2 * self._n_workers + 1

    def submit(self, source: Source, draws: Sequence[Draw]) -> Future[Any]:
        """Begin a task, in new processes where the present ones have made enough."""
        if self._n_handed_out >= self._n_to_hand_out:
            self._old.append((self._executor, self._futures))
            self._executor, self._futures, self._n_handed_out = None, [], 0
        self._end_idle()
        self._n_handed_out += len(draws)
        return self._submit(make_samples, *_named(source, self._tokens), draws)

    def result(self, future: Future[Any]) -> tuple[list[Sample], float]:
        """Return the samples of a task, and the seconds it took."""
        samples, seconds, _ = _local_result(future)
        return samples, seconds

    def abandon(self, futures: Sequence[Future[Any]]) -> None:
        """Do nothing: they end with their processes, and loky's thread fails where one is cancelled."""

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function in a worker and return its result."""
        return _local_result(self._submit(function, *arguments))

    def close(self) -> None:
        """End all processes, at once."""
        if self._executor is not None:
            self._old.append((self._executor, self._futures))
        for executor, futures in self._old:
            _wait_until_passed_on(futures)
            idle = all(future.done() for future in futures)  # these end by themselves, without complaints of loky's
            executor.shutdown(wait=True, kill_workers=not idle)
        self._executor, self._old = None, []

    def __enter__(self) -> LocalWorkers:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs")  # loky restarts one that grows
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._warnings.__exit__(None, None, None)

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if self._executor is None:
            from joblib.externals.loky import ProcessPoolExecutor

            self._executor = ProcessPoolExecutor(
                max_workers=self._n_workers,
                initializer=_start_worker,
                initargs=(self._log_path, self._worker_bytes),
                env=self._environment,
            )
        future: Future[Any] = self._executor.submit(function, *arguments)
        self._futures = [each for each in self._futures if not each.done()] + [future]
        return future

    def _end_idle(self) -> None:
        """End the processes that were replaced and have finished what they had."""
        for old in [old for old in self._old if all(future.done() for future in old[1])]:
            self._old.remove(old)
            old[0].shutdown(wait=True)


def _wait_until_passed_on(futures: Sequence[Future[Any]]) -> None:
    """Wait until loky has passed the tasks on to its processes: its thread fails if it is ended before."""
    deadline = time.monotonic() + 5.0
    while not all(future.running() or future.done() for future in futures) and time.monotonic() < deadline:
        time.sleep(0.005)


def _local_result(future: Future[Any]) -> Any:
    from joblib.externals.loky.process_executor import BrokenProcessPool

    try:
        return future.result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process of the data generation ended by itself, probably for lack of memory; "
            "use fewer --n_jobs, the same command continues"
        ) from error


def _named(source: Source, tokens: dict[int, tuple[str, Source]]) -> tuple[str, Source]:
    """Return a source with its name: the same contents have the same name, in every process."""
    import hashlib

    if id(source) not in tokens:
        tokens[id(source)] = (hashlib.sha256(pickle.dumps(source)).hexdigest(), source)
    return tokens[id(source)]


class DaskWorkers:
    """The workers of a Dask cluster.

    A worker makes one sample at a time, however many threads it has. What is printed comes back with the samples and
    goes to the log file here.

    Parameters
    ----------
    address : str
        Of the scheduler, such as tcp://host:8786.
    log_path : path
        Gets what the workers print.
    environment : mapping
        Environment variables to set in workers that do not have them.

    Raises
    ------
    InputError
        If Dask is not installed, no scheduler answers there, or it has no workers that could make samples.
    """

    def __init__(
        self,
        address: str,
        *,
        log_path: str | os.PathLike[str] = os.devnull,
        environment: Mapping[str, str] = ONE_THREAD,
    ) -> None:
        try:
            import distributed
        except ImportError as error:
            raise InputError(
                f"the scheduler is {address!r}, but Dask is not installed; install mcrpy-diffusion[dask]"
            ) from error
        self._address, self._log_path, self._environment = address, os.fspath(log_path), dict(environment)
        # what a worker needs to hide from TensorFlow, its source hides; other work there may use the GPU
        self._environment.pop("CUDA_VISIBLE_DEVICES", None)
        self._tokens: dict[int, tuple[str, Source]] = {}
        try:
            self._client = distributed.Client(address, timeout=_DASK_TIMEOUT, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:  # a timeout is an OSError
            raise InputError(
                f"no Dask scheduler answers at {address!r}; give the address it printed, such as tcp://host:8786"
            ) from error
        try:
            self._client.wait_for_workers(1, timeout=_DASK_TIMEOUT)
        except TimeoutError as error:
            self._client.close()
            raise InputError(
                f"the Dask scheduler {address!r} has no workers; start some: dask worker {address}"
            ) from error
        self._executor = self._client.get_executor(pure=False)
        self._n_workers, self._counted = len(self._client.nthreads()), time.monotonic()

    @property
    def n_tasks(self) -> int:
        """Two per worker; workers may come and go."""
        if time.monotonic() - self._counted > 5.0:
            self._n_workers, self._counted = max(1, len(self._client.nthreads())), time.monotonic()
        return 2 * self._n_workers

    def submit(self, source: Source, draws: Sequence[Draw]) -> Future[Any]:
        """Begin a task."""
        return self._executor.submit(make_samples, *_named(source, self._tokens), draws, self._environment)

    def result(self, future: Future[Any]) -> tuple[list[Sample], float]:
        """Return the samples of a task, and the seconds it took; append what was printed to the log file."""
        samples, seconds, printed = self._result(future)
        if printed:
            with open(self._log_path, "a", encoding="utf-8") as file:
                file.write(printed)
        return samples, seconds

    def abandon(self, futures: Sequence[Future[Any]]) -> None:
        """Cancel tasks, so that the cluster is free for others."""
        for future in futures:
            future.cancel()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function in a worker and return its result."""
        return self._result(self._executor.submit(_call_quietly, self._environment, function, arguments))

    def close(self) -> None:
        """Leave the cluster, which goes on."""
        self._executor.shutdown(wait=False)
        self._client.close()

    def __enter__(self) -> DaskWorkers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _result(self, future: Future[Any]) -> Any:
        import distributed

        try:
            return future.result()
        except (distributed.KilledWorker, CancelledError) as error:
            raise RuntimeError(
                f"the workers of {self._address} ended while they made samples, probably for lack of memory; "
                "the same command continues"
            ) from error
        except ImportError as error:
            raise InputError(
                f"the workers of {self._address} cannot make samples ({one_line(error)}); "
                "install the same version of mcrpy-diffusion there"
            ) from error


def _call_quietly(environment: Mapping[str, str], function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """Run a function with its output held back (in a Dask worker)."""
    with _one_at_a_time, _held_output(environment):
        return function(*arguments)


def open_workers(
    source_environment: Mapping[str, str],
    *,
    n_samples: int,
    n_jobs: int = -1,
    scheduler: str | None = None,
    log_path: str | os.PathLike[str] | None = None,
    worker_bytes: float = WORKER_BYTES,
    recycle_after: int | None = None,
) -> LocalWorkers | DaskWorkers:
    """Return the workers asked for: those of a Dask cluster, else processes of our own; a context manager."""
    path = os.devnull if log_path is None else log_path
    if scheduler is not None:
        return DaskWorkers(scheduler, log_path=path, environment=source_environment)
    return LocalWorkers(
        number_of_workers(n_jobs, n_samples, worker_bytes),
        log_path=path,
        environment=source_environment,
        recycle_after=recycle_after,
        worker_bytes=worker_bytes,
    )


def number_of_workers(n_jobs: int, n_samples: int, worker_bytes: float = WORKER_BYTES) -> int:
    """Return how many workers to start: no more than cores asked for, samples wanted, or memory at hand allow."""
    import psutil
    from joblib import effective_n_jobs

    if n_jobs == 0:
        raise InputError("n_jobs is 0; allowed are 1, 2, ..., or -1 for one per core")
    wanted = max(1, min(effective_n_jobs(n_jobs), n_samples))
    fitting = max(1, int(psutil.virtual_memory().available / worker_bytes))
    if fitting < wanted:
        log.warning("memory for %d worker processes instead of %d", fitting, wanted)
    return min(wanted, fitting)
