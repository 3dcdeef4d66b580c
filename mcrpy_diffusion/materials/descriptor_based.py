"""Training structures by MCRpy's own characterize and reconstruct, in worker processes, each checked after rounding.

An optimised structure is rounded to phases at the end, and not every optimisation converges, so each one is measured
against what it was made from and refused where it is off, or where it is a copy. The structure of a seed, and whether
it is accepted, depends on the seeds before it at most, never on the number of workers or their timing.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcrpy_diffusion.config import GenerationSettings
from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials.acceptance import (
    Target,
    check,
    independent,
    target_of_characterization,
    target_of_micrograph,
    two_point_of,
    volume_fraction_of,
)
from mcrpy_diffusion.metrics.copying import nearest_distance
from mcrpy_diffusion.metrics.spatial_statistics import (
    discrepancy,
)

SEEDS_PER_SET = 1_000_000  # sample k of the settings' seed s is drawn from s * SEEDS_PER_SET + k
MIN_TRIES, MIN_ACCEPTANCE = 40, 0.05
MAX_LOSS_RATIO = 10.0  # to the median so far, where nothing else is known to check
N_COMPARED = 64  # accepted structures a new one must not be a copy of, where there is no micrograph
WORKER_BYTES = 0.8e9  # one worker with TensorFlow and MCRpy
_EARLY_FRACTION, _EARLY_TWO_POINT = 0.25, 0.4  # parts of the tolerances below which the optimisation ends early

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """All that a worker needs to reconstruct from one reference."""

    descriptors: dict[str, np.ndarray]
    n_phases: int  # as MCRpy counts: 1 for two phases in one indicator function
    shape: tuple[int, int]
    mcrpy_settings: dict[str, Any]
    target: Target
    settings: GenerationSettings


@dataclass(frozen=True)
class Result:
    """What a worker made of one seed; `reason` is empty if nothing speaks against it so far."""

    seed: int
    phases: np.ndarray
    reason: str
    facts: dict[str, Any]


def generate(
    dataset: Dataset,
    settings: GenerationSettings,
    *,
    references: Sequence[np.ndarray] | None = None,
    characterizations: Sequence[Mapping[str, Any]] | None = None,
    n_samples: int,
    n_jobs: int = -1,
    log_path: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Fill a dataset with reconstructions that pass their check, or go on where an earlier call stopped.

    Parameters
    ----------
    dataset : Dataset
        Opened for writing. It gets the first `n_samples` seeds that are accepted, and a line for each one refused.
    settings : GenerationSettings
    references : sequence of (A, B) integer phases, optional
        Micrographs; sample k is made from micrograph k modulo their number.
    characterizations : sequence of dict, optional
        Instead of micrographs, what `mcrpy_bridge.pickles.read_characterization` returns. What MCRpy must know of them
        (`limit_to`, multigrid, periodic ...) is taken from their own settings.
    n_samples : int
        How many the dataset shall hold in the end.
    n_jobs : int
        Worker processes, counted as joblib does: -1 one per core, -2 all but one.
    log_path : path, optional
        Gets what MCRpy and TensorFlow print; None drops it.
    progress : callable, optional
        Called with the numbers of accepted and refused samples after each seed.

    Raises
    ------
    InputError
        If MCRpy refuses the settings, or fewer than 5 % of at least 40 samples pass the check.
    """
    if (references is None) == (characterizations is None):
        raise ValueError("give either references or characterizations")
    if dataset.n_accepted >= n_samples:
        return
    judge = _Judge(dataset, settings, knows_micrograph=references is not None)
    judge.check_acceptance()
    n_workers = _n_workers(n_jobs, n_samples - dataset.n_accepted)
    with warnings.catch_warnings(), _Workers(n_workers, os.fspath(log_path or os.devnull)) as workers:
        warnings.filterwarnings("ignore", message="A worker stopped while some jobs")  # loky restarts one that grows
        if references is not None:
            jobs = [workers.call(_job_of_micrograph, np.asarray(phases), settings, references) for phases in references]
        else:
            jobs = [job_of_characterization(each, settings) for each in characterizations or ()]
        first = settings.seed * SEEDS_PER_SET
        tried = dataset.tried
        seeds = (seed for seed in itertools.count(first) if seed not in tried)
        for result in workers.in_order(jobs, seeds, n_samples - dataset.n_accepted):
            judge.take(result)
            if progress is not None:
                progress(dataset.n_accepted, judge.n_tried - dataset.n_accepted)
            if dataset.n_accepted >= n_samples:
                return
            judge.check_acceptance()


class _Judge:
    """Accepts and refuses in the order of the seeds, with what only shows across samples."""

    def __init__(self, dataset: Dataset, settings: GenerationSettings, *, knows_micrograph: bool) -> None:
        self._dataset, self._settings, self._knows_micrograph = dataset, settings, knows_micrograph
        self._losses = [float(line["loss"]) for line in dataset.samples]
        self._first: list[np.ndarray] = []
        if dataset.n_accepted and not knows_micrograph:
            self._first = list(dataset.load()[:N_COMPARED])

    @property
    def n_tried(self) -> int:
        """Number of seeds so far, those of earlier runs included."""
        return len(self._losses)

    def take(self, result: Result) -> None:
        """Record a result in the dataset."""
        facts = dict(result.facts)
        self._losses.append(facts["loss"])
        reason = result.reason or self._reason_among_samples(result.phases, facts)
        if reason:
            self._dataset.append(result.seed, None, reason=reason, **facts)
            return
        self._dataset.append(result.seed, result.phases, **facts)
        if not self._knows_micrograph and len(self._first) < N_COMPARED:
            self._first.append(result.phases)

    def _reason_among_samples(self, phases: np.ndarray, facts: dict[str, Any]) -> str:
        if self._knows_micrograph:
            return ""
        if "two_point_correlation" not in facts["discrepancies"]:
            if facts["loss"] > MAX_LOSS_RATIO * float(np.median(self._losses)):
                return "loss"
        if self._first:
            periodic = self._settings.periodic
            nearest = float(nearest_distance(phases[None], np.stack(self._first), periodic=periodic)[0][0])
            facts["distance"] = nearest
            if nearest < self._settings.copy_tolerance * independent(np.array(facts["volume_fraction"])):
                return "duplicate"
        return ""

    def check_acceptance(self) -> None:
        """Raise InputError where hardly anything passes."""
        if self.n_tried < MIN_TRIES or self._dataset.n_accepted >= MIN_ACCEPTANCE * self.n_tried:
            return
        counts = {reason: n for reason, n in self._dataset.counts().items() if reason != "accepted"}
        ranking = sorted(counts, key=lambda reason: -counts[reason])
        listed = ", ".join(f"{reason} {counts[reason]}" for reason in ranking)
        raise InputError(
            f"only {self._dataset.n_accepted} of {self.n_tried} MCRpy reconstructions passed their check (refused for: "
            f"{listed}); {_advice(ranking[0], self._settings)}"
        )


def _advice(reason: str, settings: GenerationSettings) -> str:
    half = min(settings.extent) // 2
    limit_to = "" if settings.limit_to in (None, half) else f"--limit_to {half} (now {settings.limit_to}), "
    advice = {
        "volume fraction": "a larger --max_iter, or --descriptor_types FFTCorrelations with --optimizer_type LBFGSB",
        "two-point correlation": f"{limit_to}a larger --max_iter, or --descriptor_types FFTCorrelations",
        "lineal path": "further --descriptor_types that hold connected phases, or a larger micrograph to crop",
        "copy": "a larger micrograph to crop, or a smaller --limit_to: these descriptors allow one structure only",
        "duplicate": "a characterization of a larger micrograph, or with a smaller limit_to: it allows one structure",
        "phases": "a larger --max_iter, or --descriptor_types FFTCorrelations",
        "loss": "a larger --max_iter, or another --optimizer_type",
    }
    return f"what helps: {advice.get(reason, 'other descriptors')}"


# --- jobs ------------------------------------------------------------------------------------------------------------


def job_of_characterization(characterization: Mapping[str, Any], settings: GenerationSettings) -> Job:
    """Prepare the reconstruction from a characterization; raise InputError where it lacks a descriptor.

    Notes
    -----
    Of its settings only numbers and switches are used. `gram_weights_filename` never is: MCRpy unpickles that file.
    """
    own = characterization["settings"]
    there = [name for name in characterization if name != "settings"]
    for name in settings.descriptor_types:
        if name not in there:
            raise InputError(
                f"the characterization holds {', '.join(there)}, not {name}; allowed is "
                f"--descriptor_types {' '.join(there)}"
            )
    half = min(settings.extent) // 2
    limit_to = min(int(own.limit_to), half if settings.limit_to is None else min(settings.limit_to, half))
    if any("Gram" in name for name in settings.descriptor_types):
        limit_to = int(own.limit_to)
    chosen: dict[str, Any] = {
        "limit_to": limit_to,
        "periodic": bool(getattr(own, "periodic", True)),
        "use_multigrid_descriptor": bool(getattr(own, "use_multigrid_descriptor", False)),
        "threshold_steepness": float(getattr(own, "threshold_steepness", 10.0)),
        "nl_method": str(getattr(own, "nl_method", "relu")),
        "use_multiphase": settings.use_multiphase or int(own.n_phases) > 2,
    }
    descriptors = {name: np.asarray(characterization[name], dtype=np.float64) for name in there}
    target = target_of_characterization(characterization, settings)
    return Job(descriptors, int(own.n_phases), settings.extent, _mcrpy_settings(settings, chosen), target, settings)


def _job_of_micrograph(phases: np.ndarray, settings: GenerationSettings, references: Sequence[np.ndarray]) -> Job:
    """Characterize a micrograph (in a worker, so that no other process needs TensorFlow)."""
    from mcrpy_diffusion.mcrpy_bridge.results import characterize, limit_to

    characterization = characterize(phases, settings)
    n_phases = int(characterization.pop("settings").n_phases)
    chosen = {
        "limit_to": limit_to(settings, phases.shape),
        "periodic": settings.periodic,
        "use_multigrid_descriptor": settings.use_multigrid_descriptor,
        "use_multiphase": settings.use_multiphase,
    }
    target = target_of_micrograph(phases, settings, references)
    return Job(characterization, n_phases, settings.extent, _mcrpy_settings(settings, chosen), target, settings)


def _mcrpy_settings(settings: GenerationSettings, chosen: dict[str, Any]) -> dict[str, Any]:
    return {
        **chosen,
        "descriptor_types": list(settings.descriptor_types),
        "descriptor_weights": None if settings.descriptor_weights is None else list(settings.descriptor_weights),
        "optimizer_type": settings.optimizer_type,
        "loss_type": settings.loss_type,
        "max_iter": settings.max_iter,
        "logging_level": logging.WARNING,
    }


# --- worker processes ------------------------------------------------------------------------------------------------


class _Workers:
    """Worker processes of our own: one TensorFlow thread each, no GPU, what they print goes to a file.

    They are used for a single worker too, so that a result never depends on `n_jobs`. loky restarts a worker whose
    memory grows (where psutil is installed).
    """

    def __init__(self, n_workers: int, log_path: str) -> None:
        from joblib.externals.loky import ProcessPoolExecutor

        from mcrpy_diffusion.mcrpy_bridge.environment import variables

        self._n_workers = n_workers
        self._executor = ProcessPoolExecutor(
            max_workers=n_workers,
            initializer=_start_worker,
            initargs=(log_path,),
            env=variables(threads=1, hide_gpus=True),
        )

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(wait=True, kill_workers=True)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function in a worker."""
        return _result(self._executor.submit(function, *arguments))

    def in_order(self, jobs: Sequence[Job], seeds: Iterator[int], n_wanted: int) -> Iterator[Result]:
        """Yield the result of each seed in the order of the seeds, while a few further ones are being made.

        No more are handed out than loky passes on at once (2 per worker and 1): ending it while some wait makes its
        thread fail.
        """
        window = min(2 * self._n_workers + 1, max(n_wanted + n_wanted // 4, self._n_workers))
        pending = deque(self._submit(jobs, next(seeds)) for _ in range(window))
        while True:
            yield _result(pending.popleft())
            pending.append(self._submit(jobs, next(seeds)))

    def _submit(self, jobs: Sequence[Job], seed: int) -> Any:
        index = seed % len(jobs)
        return self._executor.submit(_make, jobs[index], index, seed)


def _result(future: Any) -> Any:
    from joblib.externals.loky.process_executor import BrokenProcessPool

    try:
        return future.result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a worker process of the data generation ended by itself, probably for lack of memory; "
            "use fewer --n_jobs, the same command continues"
        ) from error


def _start_worker(log_path: str) -> None:
    """Send what MCRpy and TensorFlow print to the log; Ctrl-C is the parent's to handle."""
    import signal
    import threading

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


_reconstructors: dict[int, Any] = {}  # of this worker process, by the number of the reference


def _make(job: Job, index: int, seed: int) -> Result:
    """Reconstruct the structure of a seed and check it (in a worker)."""
    from mcrpy_diffusion.mcrpy_bridge.reconstruction import Reconstructor

    if index not in _reconstructors:
        _reconstructors[index] = Reconstructor(
            job.descriptors,
            n_phases=job.n_phases,
            shape=job.shape,
            settings=job.mcrpy_settings,
            good_enough=_good_enough(job.target, job.settings),
        )
    made = _reconstructors[index](seed)
    reason, facts = check(made.phases, job.target, job.settings)
    facts.update(loss=made.loss, n_iterations=made.n_iterations)
    return Result(seed, made.phases, reason, facts)


def _good_enough(target: Target, settings: GenerationSettings) -> Callable[[np.ndarray], bool] | None:
    """Return the test that lets an optimisation end early: volume fraction and S2 well within their tolerances."""
    fraction, curves = target.volume_fraction, target.two_point
    if fraction is None or curves is None:
        return None

    def test(phases: np.ndarray) -> bool:
        off = np.abs(volume_fraction_of(phases, target.n_phases) - fraction).max()
        if off > _EARLY_FRACTION * settings.volume_fraction_tolerance:
            return False
        own = two_point_of(phases, target.n_phases, target.periodic, curves.shape[-1] - 1)
        percent = max(discrepancy(a, b) for a, b in zip(curves, own))
        return percent <= _EARLY_TWO_POINT * settings.two_point_tolerance_percent

    return test


def _n_workers(n_jobs: int, n_samples: int) -> int:
    """Return how many workers to start: no more than cores asked for, samples wanted, or memory at hand allow."""
    from joblib import effective_n_jobs

    wanted = max(1, min(effective_n_jobs(n_jobs), n_samples))
    available = _available_bytes()
    fitting = wanted if available is None else max(1, int(available / WORKER_BYTES))
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
