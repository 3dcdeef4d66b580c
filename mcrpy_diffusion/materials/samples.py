"""What the data factory makes, and what makes it: samples, their seeds, and the sources that are sent to workers.

Sample i is drawn from seed i. Where the check refuses it, it is drawn again from further seeds that belong to i alone,
so that what a dataset holds depends neither on the number of workers, nor on their timing, nor on stops in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

SEEDS_PER_SET = 1_000_000
SEED_STEP = 2_654_435_769  # 2**32 over the golden ratio: its multiples keep the farthest apart, modulo 2**32
SEED_RULE = f"sample i, draw a: (seed * {SEEDS_PER_SET} + i + a * {SEED_STEP}) % 2**32, a = 0, 1, ... until accepted"
MAX_DRAWS = 1900  # of one sample; up to there no two draws of a set share a seed
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


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
