"""Samples of a data set, their seeds, and the sources that make them in worker processes.

Sample i is drawn from seed i. If it is rejected, it is drawn again from further seeds that belong to i alone. So the
data set depends neither on the number of workers, nor on their timing, nor on interruptions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

SEEDS_PER_SET = 1_000_000
SEED_STEP = 2_654_435_769  # 2**32 over the golden ratio: its multiples keep the farthest apart, modulo 2**32
SEED_RULE = f"sample i, draw a: (seed * {SEEDS_PER_SET} + i + a * {SEED_STEP}) % 2**32, a = 0, 1, ... until accepted"
MAX_DRAWS = 1900  # of one sample; up to there no two draws of a set share a seed
WORKER_BYTES = 0.3e9  # of a worker process with numpy and scipy
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Sample:
    """The structure of one seed.

    Attributes
    ----------
    phases : (I, J) integers
    reason : str
        Reason for its rejection; empty if it passed the check.
    facts : dict
        Measured quantities, for samples.jsonl.
    maps : dict of str to arrays
        Further arrays that are stored with the phases, such as the map of grains.
    """

    phases: np.ndarray
    reason: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    maps: dict[str, np.ndarray] = field(default_factory=dict)


Maker = Callable[[int, int], Sample]
"""Called with the number of a sample and the seed of this attempt."""


class Source(Protocol):
    """A generator of samples, which is sent to each worker process and started there once."""

    @property
    def name(self) -> str:
        """Name of the samples in messages."""

    @property
    def environment(self) -> Mapping[str, str]:
        """Environment variables of a worker process."""

    @property
    def worker_bytes(self) -> float:
        """Memory of a worker process."""

    def start(self) -> Maker:
        """Return the function that makes samples (in a worker)."""

    def advice(self, reason: str) -> str:
        """Return a remedy if most samples are rejected for this reason; empty if none is known."""


@dataclass(frozen=True)
class Draw:
    """One attempt at one sample."""

    index: int
    attempt: int
    seed: int


class SampleFilter(Protocol):
    """A check that compares samples with each other; called in the order of their numbers."""

    def reason(self, sample: Sample) -> str:
        """Return the reason for rejecting a sample that passed its own check; empty if it is accepted."""

    def record(self, sample: Sample, accepted: bool) -> None:
        """Record a sample, whether accepted or rejected."""


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


def timed_samples(maker: Maker, draws: Sequence[tuple[int, int]]) -> tuple[list[Sample], float]:
    """Make the samples (index, seed); return them and the seconds that they took."""
    started = time.monotonic()
    samples = [maker(index, seed) for index, seed in draws]
    return samples, time.monotonic() - started


def plain_draws(draws: Sequence[Draw]) -> list[tuple[int, int]]:
    """Return (index, seed) of each draw: what a worker needs."""
    return [(draw.index, draw.seed) for draw in draws]
