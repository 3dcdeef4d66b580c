"""Filling a data set with checked samples from worker processes, unless too many are rejected."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials.samples import MAX_DRAWS, SEEDS_PER_SET, Draw, Sample, SampleFilter, Source, draw_seed
from mcrpy_diffusion.materials.workers import Workers, open_workers

MIN_ACCEPTANCE, CONFIDENCE = 0.05, 0.95
_TASK_SECONDS = 0.2  # duration of a task; fast samples are made in batches
_MAX_BATCH = 64


def fill(
    dataset: Dataset,
    source: Source,
    *,
    n_samples: int,
    seed: int,
    workers: Workers,
    sample_filter: SampleFilter | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Make the missing ones of the samples 0 ... n_samples - 1.

    Parameters
    ----------
    dataset : Dataset
        Opened for writing; receives each sample as soon as it is made, and a line for each rejected one.
    source : Source
    n_samples : int
        Number of samples in the complete data set.
    seed : int
        Seed of the data set.
    workers : Workers
        Workers of the same source.
    sample_filter : SampleFilter, optional
        If given, samples are recorded in the order of their numbers.
    progress : callable, optional
        Called with the numbers of accepted and rejected samples after each sample.

    Raises
    ------
    InputError
        If the source rejects its settings, or the acceptance rate is significantly below 5 %.
    """
    if n_samples > SEEDS_PER_SET:
        raise InputError(f"n_samples must be at most {SEEDS_PER_SET}, got {n_samples}")
    check_acceptance(dataset, source)
    if dataset.n_accepted < n_samples:
        SampleQueue(dataset, source, n_samples, seed, workers, sample_filter, progress).run()


def fill_in_processes(
    dataset: Dataset,
    source: Source,
    *,
    n_samples: int,
    n_jobs: int = -1,
    scheduler: str | None = None,
    log_path: str | os.PathLike[str] | None = None,
    **options: Any,
) -> None:
    """Start workers (see `workers.open_workers`) and `fill` a data set with their samples."""
    check_acceptance(dataset, source)  # before processes are started
    n_missing = n_samples - dataset.n_accepted
    with open_workers(source, n_samples=n_missing, n_jobs=n_jobs, scheduler=scheduler, log_path=log_path) as workers:
        fill(dataset, source, n_samples=n_samples, workers=workers, **options)


@dataclass
class PendingSample:
    """A sample without an accepted attempt."""

    next_attempt: int  # to submit
    next_decision: int  # to accept or reject
    results: dict[int, Sample] = field(default_factory=dict)  # attempts without a decision


class SampleQueue:
    """The samples that `fill` has to make; attempts at one sample are accepted or rejected in their order."""

    def __init__(
        self,
        dataset: Dataset,
        source: Source,
        n_samples: int,
        seed: int,
        workers: Workers,
        sample_filter: SampleFilter | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._dataset, self._source, self._workers = dataset, source, workers
        self._seed, self._filter, self._progress = seed, sample_filter, progress
        self._tried, accepted = dataset.tried, set(dataset.accepted)
        self._new = deque(index for index in range(n_samples) if index not in accepted)
        self._open: dict[int, PendingSample] = {}  # ordered by number
        self._retry: deque[int] = deque()
        self._n_left = len(self._new)
        self._seconds = _TASK_SECONDS  # per sample, moving average

    def run(self) -> None:
        """Keep the workers busy until the data set is complete."""
        pending: dict[Future[Any], list[Draw]] = {}
        while self._n_left:
            while len(pending) < self._workers.n_tasks and (draws := self._next_draws()):
                pending[self._workers.submit(draws)] = draws
            done, _ = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in done:
                draws = pending.pop(future)
                self._take(draws, *self._workers.result(future))

    def _next_draws(self) -> list[Draw]:
        """Return the draws of the next task: rejected samples, then new ones, then attempts in advance."""
        n = max(1, min(_MAX_BATCH, round(_TASK_SECONDS / max(self._seconds, 1e-6))))
        n = max(1, min(n, -(-self._n_left // self._workers.n_tasks)))
        return [self._draw(index) for _, index in zip(range(n), self._indices())]

    def _indices(self) -> Iterator[int]:
        while self._retry:
            if (index := self._retry.popleft()) in self._open:
                yield index
        while self._new:
            index = self._new.popleft()
            attempt = next(a for a in range(MAX_DRAWS) if draw_seed(self._seed, index, a) not in self._tried)
            self._open[index] = PendingSample(attempt, attempt)
            yield index
        while waiting := [i for i, state in self._open.items() if all(each.reason for each in state.results.values())]:
            ahead = {index: self._open[index].next_attempt - self._open[index].next_decision for index in waiting}
            index = min(waiting, key=ahead.__getitem__)
            if ahead[index] >= self._workers.n_tasks:
                return
            yield index

    def _draw(self, index: int) -> Draw:
        state = self._open[index]
        if state.next_attempt >= MAX_DRAWS:
            raise InputError(f"sample {index} was rejected {MAX_DRAWS} times; {_reasons(self._dataset)}")
        state.next_attempt += 1
        return Draw(index, state.next_attempt - 1, draw_seed(self._seed, index, state.next_attempt - 1))

    def _take(self, draws: Sequence[Draw], samples: Sequence[Sample], seconds: float) -> None:
        self._seconds += 0.3 * (seconds / len(draws) - self._seconds)
        for draw, sample in zip(draws, samples, strict=True):
            state = self._open.get(draw.index)
            if state is None:  # accepted by an earlier attempt in the meantime
                continue
            state.results[draw.attempt] = sample
            if self._filter is None:
                self._decide(draw.index)
            else:
                if sample.reason and state.next_attempt == draw.attempt + 1:
                    self._retry.append(draw.index)
                while self._open and self._decide(next(iter(self._open))):
                    pass

    def _decide(self, index: int) -> bool:
        """Accept or reject the finished attempts at a sample in their order; return whether one was accepted."""
        state = self._open[index]
        while state.next_decision in state.results:
            sample, attempt = state.results.pop(state.next_decision), state.next_decision
            state.next_decision += 1
            accepted = self._record(Draw(index, attempt, draw_seed(self._seed, index, attempt)), sample)
            if accepted:
                del self._open[index]
                self._n_left -= 1
                return True
            if state.next_attempt == state.next_decision and index not in self._retry:
                self._retry.append(index)
        return False

    def _record(self, draw: Draw, sample: Sample) -> bool:
        reason = sample.reason
        if self._filter is not None:
            reason = reason or self._filter.reason(sample)
            self._filter.record(sample, not reason)
        if reason:
            self._dataset.append(draw.seed, None, reason=reason, **sample.facts)
        else:
            self._dataset.append(draw.seed, sample.phases, index=draw.index, maps=sample.maps, **sample.facts)
        if self._progress is not None:
            self._progress(self._dataset.n_accepted, self._dataset.n_tried - self._dataset.n_accepted)
        if reason:
            check_acceptance(self._dataset, self._source)
        return not reason


def check_acceptance(dataset: Dataset, source: Source) -> None:
    """Raise InputError, with the reasons for rejection, if the acceptance rate is significantly below 5 %.

    Notes
    -----
    One-sided binomial test at the 5 % level: with an acceptance rate of 5 %, the observed number of accepted draws or
    fewer has a probability below 5 %. The smallest cases are 0 of 59 draws and 1 of 93.
    """
    n_accepted, n_tried = dataset.n_accepted, dataset.n_tried
    if n_tried < _draws_to_stop(n_accepted):
        return
    message = f"only {n_accepted} of {n_tried} {source.name} passed the check; {_reasons(dataset)}"
    ranking = [reason for reason, _ in _ranking(dataset)]
    advice = source.advice(ranking[0]) if ranking else ""
    raise InputError(message + (f"; try {advice}" if advice else ""))


@cache
def _draws_to_stop(n_accepted: int) -> int:
    """Return the smallest number of draws at which this number of accepted ones is significantly too small."""
    from scipy.stats import binom

    draws = range(1, 100 + round(2 * n_accepted / MIN_ACCEPTANCE))
    return 1 + bisect_left(draws, True, key=lambda n: bool(binom.cdf(n_accepted, n, MIN_ACCEPTANCE) < 1 - CONFIDENCE))


def _ranking(dataset: Dataset) -> list[tuple[str, int]]:
    counts = {reason: n for reason, n in dataset.counts().items() if reason != "accepted"}
    return sorted(counts.items(), key=lambda item: -item[1])


def _reasons(dataset: Dataset) -> str:
    return "rejected for: " + ", ".join(f"{reason} {n}" for reason, n in _ranking(dataset))
