"""The engine of the data factory: worker processes, or a Dask cluster, that fill a dataset with checked samples.

Sample i is drawn from seed i. Where the check refuses it, it is drawn again from further seeds that belong to i alone,
so that what a dataset holds depends neither on the number of workers, nor on their timing, nor on stops in between.
"""

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
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from functools import cache
from typing import IO, Any, Protocol

import numpy as np

from mcrpy_diffusion.config import GenerationSettings
from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials.acceptance import Target, check

SEEDS_PER_SET = 1_000_000
SEED_STEP = 2_654_435_769  # 2**32 over the golden ratio: its multiples keep the farthest apart, modulo 2**32
SEED_RULE = f"sample i, draw a: (seed * {SEEDS_PER_SET} + i + a * {SEED_STEP}) % 2**32, a = 0, 1, ... until accepted"
MAX_DRAWS = 1900  # of one sample; up to there no two draws of a set share a seed
MIN_ACCEPTANCE, CONFIDENCE = 0.05, 0.95
WORKER_BYTES = 0.3e9  # one worker process with numpy and scipy
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
_TASK_SECONDS = 0.2  # quick samples are handed out several at once, to last about so long
_MAX_BATCH = 64
_DASK_TIMEOUT = 20.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """What a worker made of one seed.

    Attributes
    ----------
    phases : (I, J) integers
    reason : str
        Why it is refused; empty if nothing speaks against it.
    facts : dict
        What was measured, for samples.jsonl.
    maps : dict of str to arrays
        Further arrays that are kept beside the phases, such as the map of grains.
    """

    phases: np.ndarray
    reason: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    maps: dict[str, np.ndarray] = field(default_factory=dict)


Maker = Callable[[int, int], Sample]
"""Called with the number of a sample and the seed of this draw of it."""


class Source(Protocol):
    """What samples are made by: sent to each worker process, and started there once."""

    @property
    def name(self) -> str:
        """What the samples are called in messages."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment variables of a worker process."""

    def start(self) -> Maker:
        """Return the function that makes samples (in a worker)."""

    def advice(self, reason: str) -> str:
        """Return what helps where most samples are refused for this reason; empty if that is not known."""


@dataclass(frozen=True)
class CheckedFunction:
    """Samples from a function of a seed, each checked against a target.

    Attributes
    ----------
    make : callable
        (seed) -> (I, J) phases, or (phases, maps); it can be pickled.
    target : Target
    settings : GenerationSettings
        With the tolerances.
    name : str
    """

    make: Callable[[int], Any]
    target: Target
    settings: GenerationSettings
    name: str = "samples"

    @property
    def environment(self) -> Mapping[str, str]:
        return ONE_THREAD

    def start(self) -> Maker:
        return self._make

    def advice(self, reason: str) -> str:
        return ""

    def _make(self, index: int, seed: int) -> Sample:
        made = self.make(seed)
        phases, maps = made if isinstance(made, tuple) else (made, {})
        reason, facts = check(phases, self.target, self.settings)
        return Sample(phases, reason, facts, maps)


@dataclass(frozen=True)
class Draw:
    """One attempt at one sample."""

    index: int
    attempt: int
    seed: int


class Judge(Protocol):
    """Decides what only shows across samples; is asked in the order of the samples' numbers."""

    def reason(self, sample: Sample) -> str:
        """Return why a sample is refused that passed its own check; empty if it is not."""

    def record(self, sample: Sample, accepted: bool) -> None:
        """Take note of a sample, refused ones included."""


def draw_seed(seed: int, index: int, attempt: int) -> int:
    """Return the seed of an attempt at a sample, 0 to 2**32 - 1.

    Parameters
    ----------
    seed : int
        The seed of the set.
    index : int
        Number of the sample, below `SEEDS_PER_SET`.
    attempt : int
        0 for the first draw, below `MAX_DRAWS`.

    Notes
    -----
    Multiples of 2**32 / golden ratio, modulo 2**32, are a Weyl sequence: two of the first m lie at least
    2**32 / (sqrt(5) m) apart (Hurwitz), which is more than `SEEDS_PER_SET` for m = `MAX_DRAWS`.
    """
    return (seed * SEEDS_PER_SET + index + attempt * SEED_STEP) % 2**32


# --- filling a dataset -----------------------------------------------------------------------------------------------


def fill(
    dataset: Dataset,
    source: Source,
    *,
    n_samples: int,
    seed: int,
    workers: Workers,
    judge: Judge | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Make the samples 0 ... n_samples - 1 that are not there yet.

    Parameters
    ----------
    dataset : Dataset
        Opened for writing; it gets each sample as soon as it is made, and a line for each one refused.
    source : Source
    n_samples : int
    seed : int
        Of the set.
    workers : Workers
    judge : Judge, optional
        With one, samples are recorded in the order of their numbers.
    progress : callable, optional
        Called with the numbers of accepted and refused samples after each of them.

    Raises
    ------
    InputError
        If the source refuses its settings, or surely less than 5 % of the samples pass their check.
    """
    if n_samples > SEEDS_PER_SET:
        raise InputError(f"{n_samples} samples were asked for; allowed are {SEEDS_PER_SET} of one seed")
    check_acceptance(dataset, source)
    if dataset.n_accepted < n_samples:
        _Filling(dataset, source, n_samples, seed, workers, judge, progress).run()


@dataclass
class _Open:
    """A sample that is not accepted yet: the attempt to hand out next, the one to judge next, and what has arrived."""

    handed_out: int
    judged: int
    arrived: dict[int, Sample] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether something arrived that passed its own check."""
        return any(not sample.reason for sample in self.arrived.values())


class _Filling:
    """The state of `fill`: attempts at one sample are judged in their order, whenever they arrive."""

    def __init__(
        self,
        dataset: Dataset,
        source: Source,
        n_samples: int,
        seed: int,
        workers: Workers,
        judge: Judge | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._dataset, self._source, self._workers = dataset, source, workers
        self._seed, self._judge, self._progress = seed, judge, progress
        tried, there = dataset.tried, set(dataset.accepted)
        self._new = deque(index for index in range(n_samples) if index not in there)
        self._tried = tried
        self._open: dict[int, _Open] = {}  # in the order of their numbers
        self._again: deque[int] = deque()
        self._n_left = len(self._new)
        self._n_tried = len(dataset.tried)
        self._seconds = _TASK_SECONDS  # per sample, so far

    def run(self) -> None:
        """Keep the workers busy until all samples are there."""
        pending: dict[Future[Any], list[Draw]] = {}
        try:
            while self._n_left:
                while len(pending) < self._workers.n_tasks and (draws := self._next_draws()):
                    pending[self._workers.submit(self._source, draws)] = draws
                done, _ = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in done:
                    draws = pending.pop(future)
                    self._take(draws, *self._workers.result(future))
        finally:
            self._workers.abandon(list(pending))

    def _next_draws(self) -> list[Draw]:
        """Return what a task shall draw: refused samples again, then new ones, then further attempts in advance."""
        n = max(1, min(_MAX_BATCH, round(_TASK_SECONDS / max(self._seconds, 1e-6))))
        n = max(1, min(n, -(-self._n_left // self._workers.n_tasks)))
        return [self._hand_out(index) for _, index in zip(range(n), self._indices())]

    def _indices(self) -> Iterator[int]:
        while self._again:
            if (index := self._again.popleft()) in self._open:
                yield index
        while self._new:
            index = self._new.popleft()
            attempt = next(a for a in range(MAX_DRAWS) if draw_seed(self._seed, index, a) not in self._tried)
            self._open[index] = _Open(attempt, attempt)
            yield index
        while waiting := [index for index, state in self._open.items() if not state.passed]:
            ahead = {index: self._open[index].handed_out - self._open[index].judged for index in waiting}
            index = min(waiting, key=ahead.__getitem__)
            if ahead[index] >= self._workers.n_tasks:
                return
            yield index

    def _hand_out(self, index: int) -> Draw:
        state = self._open[index]
        if state.handed_out >= MAX_DRAWS:
            raise InputError(f"sample {index} was refused {MAX_DRAWS} times; {_reasons(self._dataset)}")
        state.handed_out += 1
        return Draw(index, state.handed_out - 1, draw_seed(self._seed, index, state.handed_out - 1))

    def _take(self, draws: Sequence[Draw], samples: Sequence[Sample], seconds: float) -> None:
        self._seconds += 0.3 * (seconds / len(draws) - self._seconds)
        for draw, sample in zip(draws, samples, strict=True):
            state = self._open.get(draw.index)
            if state is None:  # accepted by an earlier attempt in the meantime
                continue
            state.arrived[draw.attempt] = sample
            if self._judge is None:
                self._settle(draw.index)
            else:
                if sample.reason and state.handed_out == draw.attempt + 1:
                    self._again.append(draw.index)
                while self._open and self._settle(next(iter(self._open))):
                    pass

    def _settle(self, index: int) -> bool:
        """Judge what has arrived of a sample, in the order of the attempts; return whether one is accepted."""
        state = self._open[index]
        while state.judged in state.arrived:
            sample, attempt = state.arrived.pop(state.judged), state.judged
            state.judged += 1
            accepted = self._record(Draw(index, attempt, draw_seed(self._seed, index, attempt)), sample)
            if accepted:
                del self._open[index]
                self._n_left -= 1
                return True
            if state.handed_out == state.judged and index not in self._again:
                self._again.append(index)
        return False

    def _record(self, draw: Draw, sample: Sample) -> bool:
        reason = sample.reason
        if self._judge is not None:
            reason = reason or self._judge.reason(sample)
            self._judge.record(sample, not reason)
        if reason:
            self._dataset.append(draw.seed, None, reason=reason, **sample.facts)
        else:
            self._dataset.append(draw.seed, sample.phases, index=draw.index, maps=sample.maps, **sample.facts)
        self._n_tried += 1
        if self._progress is not None:
            self._progress(self._dataset.n_accepted, self._n_tried - self._dataset.n_accepted)
        if reason:
            check_acceptance(self._dataset, self._source)
        return not reason


def check_acceptance(dataset: Dataset, source: Source) -> None:
    """Raise InputError where surely less than 5 % of the draws pass, and say why they do not.

    Notes
    -----
    "Surely" is a test at the level of 5 %: that few or fewer of n draws would be accepted with a probability below 5 %
    if each were with 5 %. That takes at least 59 draws; of 59, none passed, of 93 one at most, and so on.
    """
    n_accepted, n_tried = dataset.n_accepted, dataset.n_tried
    if n_tried < _draws_to_refuse(n_accepted):
        return
    message = f"only {n_accepted} of {n_tried} {source.name} passed their check; {_reasons(dataset)}"
    ranking = [reason for reason, _ in _ranking(dataset)]
    advice = source.advice(ranking[0]) if ranking else ""
    raise InputError(message + (f"; what helps: {advice}" if advice else ""))


@cache
def _draws_to_refuse(n_accepted: int) -> int:
    """Return the smallest number of draws of which so few accepted ones are too few."""
    from scipy.stats import binom

    low, high = 1, 100 + round(2 * n_accepted / MIN_ACCEPTANCE)
    while low < high:
        middle = (low + high) // 2
        if binom.cdf(n_accepted, middle, MIN_ACCEPTANCE) < 1 - CONFIDENCE:
            high = middle
        else:
            low = middle + 1
    return low


def _ranking(dataset: Dataset) -> list[tuple[str, int]]:
    counts = {reason: n for reason, n in dataset.counts().items() if reason != "accepted"}
    return sorted(counts.items(), key=lambda item: -item[1])


def _reasons(dataset: Dataset) -> str:
    return "refused for: " + ", ".join(f"{reason} {n}" for reason, n in _ranking(dataset))


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
                f"the workers of {self._address} cannot make samples ({' '.join(str(error).split())}); "
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
    from joblib import effective_n_jobs

    if n_jobs == 0:
        raise InputError("n_jobs is 0; allowed are 1, 2, ..., or -1 for one per core")
    wanted = max(1, min(effective_n_jobs(n_jobs), n_samples))
    available = _available_bytes()
    fitting = wanted if available is None else max(1, int(available / worker_bytes))
    if fitting < wanted:
        log.warning("memory for %d worker processes instead of %d", fitting, wanted)
    return min(wanted, fitting)


def _available_bytes() -> int | None:
    """Return the memory that can be had without swapping, None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            values = dict(line.split(":", 1) for line in file)
        return int(values["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
