"""Workers of a Dask cluster, on one machine or many."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from typing import IO, Any

from mcrpy_diffusion.errors import InputError, one_line
from mcrpy_diffusion.materials.samples import Draw, Maker, Sample, Source, timed_samples

_DASK_TIMEOUT = 20.0  # seconds
_COUNT_SECONDS = 5.0  # interval at which the number of workers is updated


class DaskWorkers(contextlib.AbstractContextManager["DaskWorkers"]):
    """The workers of the Dask scheduler at an address such as tcp://host:8786, as a context manager.

    A Dask worker makes one sample at a time, whatever its number of threads. Its output is returned with the samples
    and appended to the log file of this machine.

    Raises
    ------
    InputError
        If Dask is not installed, no scheduler answers at the address, or it has no workers.
    """

    def __init__(self, address: str, source: Source, *, log_path: str | os.PathLike[str] = os.devnull) -> None:
        try:
            import distributed
        except ImportError as error:
            raise InputError(
                f"the scheduler is {address!r}, but Dask is not installed; install mcrpy-diffusion[dask]"
            ) from error
        self._address, self._source, self._log_path = address, source, os.fspath(log_path)
        self._token = hashlib.sha256(pickle.dumps(source)).hexdigest()
        self._environment = dict(source.environment)
        # the source hides the GPU from TensorFlow; other tasks of the Dask worker may use it
        self._environment.pop("CUDA_VISIBLE_DEVICES", None)
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
        """Number of tasks that keeps all workers busy: two per worker. Workers may join and leave."""
        if time.monotonic() - self._counted > _COUNT_SECONDS:
            self._n_workers, self._counted = max(1, len(self._client.nthreads())), time.monotonic()
        return 2 * self._n_workers

    def submit(self, draws: Sequence[Draw]) -> Future[Any]:
        """Start a task: one sample for each draw."""
        return self._executor.submit(_make_samples, self._token, self._source, list(draws), self._environment)

    def result(self, future: Future[Any]) -> tuple[list[Sample], float]:
        """Return the samples of a task and its time in seconds; append its output to the log file.

        Raises
        ------
        RuntimeError
            If several workers crashed while they made these samples.
        InputError
            If a worker lacks this package, or has another version of it.
        """
        import distributed

        try:
            samples, seconds, printed = future.result()
        except (distributed.KilledWorker, CancelledError) as error:
            raise RuntimeError(
                f"the workers of {self._address} crashed while they made samples, probably for lack of memory; "
                "the same command continues"
            ) from error
        except ImportError as error:
            raise InputError(
                f"the workers of {self._address} cannot make samples ({one_line(error)}); "
                "install the same version of mcrpy-diffusion there"
            ) from error
        if printed:
            with open(self._log_path, "a", encoding="utf-8") as file:
                file.write(printed)
        return samples, seconds

    def __exit__(self, *_: object) -> None:
        """Cancel all tasks and disconnect; the cluster continues to run."""
        self._executor.shutdown(wait=False)
        self._client.close()


# --- in a worker ------------------------------------------------------------------------------------------------------

_one_at_a_time = threading.Lock()  # MCRpy uses numpy's global generator, and a Dask worker has several threads
_makers: dict[str, Maker] = {}  # the current source's maker, by its token


def _make_samples(
    token: str, source: Source, draws: Sequence[Draw], environment: Mapping[str, str]
) -> tuple[list[Sample], float, str]:
    """Return samples, time in seconds and captured output; start the source if its token is new."""
    with _one_at_a_time, _captured_output(environment) as captured:
        if token not in _makers:
            _makers.clear()
            _makers[token] = source.start()
        samples, seconds = timed_samples(_makers[token], draws)
        captured.seek(0)
        return samples, seconds, captured.read()


@contextlib.contextmanager
def _captured_output(environment: Mapping[str, str]) -> Iterator[IO[str]]:
    """Set missing environment variables; redirect the output, also that of TensorFlow's C++ code, to a file."""
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    saved = os.dup(1)
    try:
        with tempfile.TemporaryFile("w+", buffering=1, errors="replace") as captured:
            with contextlib.redirect_stdout(captured):
                os.dup2(captured.fileno(), 1)
                try:
                    yield captured
                finally:
                    os.dup2(saved, 1)
    finally:
        os.close(saved)
