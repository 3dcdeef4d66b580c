"""Samples of a data set, their seeds, and the sources that make them in worker processes.

Sample i is made from seed i. If it is rejected, it is made again from further seeds that belong to i alone. A data set
therefore depends neither on the number of workers nor on timing or interruptions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

SEEDS_PER_SET = 1_000_000
SEED_STEP = 2_654_435_769  # 2**32 / golden ratio, whose multiples modulo 2**32 are the most evenly spaced
SEED_RULE = f"sample i, draw a: (seed * {SEEDS_PER_SET} + i + a * {SEED_STEP}) % 2**32, a = 0, 1, ... until accepted"
MAX_DRAWS = 1900  # attempts per sample; with more, two attempts of a set could share a seed
WORKER_BYTES = 0.3e9  # memory of a worker process with numpy and scipy
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Sample:
    """The structure of one seed.

    Attributes
    ----------
    phases : (I, J) integers
    reason : str
        Reason for the rejection; empty if the sample passed its check.
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
"""Makes a sample from its number and the seed of the attempt."""


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
        """Return the function that makes samples, in a worker process."""

    def advice(self, reason: str) -> str:
        """Return a remedy for a frequent reason of rejection; empty if none is known."""


@dataclass(frozen=True)
class Draw:
    """One attempt at one sample."""

    index: int
    attempt: int
    seed: int


class SampleFilter(Protocol):
    """A check that compares samples with each other, called in the order of their numbers."""

    def reason(self, sample: Sample) -> str:
        """Return the reason for rejecting a sample that passed its own check; empty if it is accepted."""

    def record(self, sample: Sample, accepted: bool) -> None:
        """Record a sample, whether accepted or rejected."""


def draw_seed(seed: int, index: int, attempt: int) -> int:
    """Return the seed, 0 to 2**32 - 1, of an attempt below `MAX_DRAWS` at a sample below `SEEDS_PER_SET`.

    Notes
    -----
    Multiples of 2**32 / golden ratio, modulo 2**32, are a Weyl sequence: two of the first m differ by at least
    2**32 / (sqrt(5) m) (Hurwitz), which is more than `SEEDS_PER_SET` for m = `MAX_DRAWS`.
    """
    return (seed * SEEDS_PER_SET + index + attempt * SEED_STEP) % 2**32


def timed_samples(maker: Maker, draws: Sequence[Draw]) -> tuple[list[Sample], float]:
    """Make the samples of the draws; return them and the time in seconds."""
    started = time.monotonic()
    samples = [maker(draw.index, draw.seed) for draw in draws]
    return samples, time.monotonic() - started
