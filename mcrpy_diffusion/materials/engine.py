"""The engine of the data factory: workers fill a dataset with checked samples, until too many are refused."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials.samples import MAX_DRAWS, SEEDS_PER_SET, Draw, Judge, Sample, Source, draw_seed
from mcrpy_diffusion.materials.workers import Workers

MIN_ACCEPTANCE, CONFIDENCE = 0.05, 0.95
_TASK_SECONDS = 0.2  # quick samples are handed out several at once, to last about so long
_MAX_BATCH = 64


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
