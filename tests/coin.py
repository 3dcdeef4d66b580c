"""A source of samples for the tests of the engine, in a file that worker processes import quickly."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.materials.acceptance import Target, check
from mcrpy_diffusion.materials.samples import ONE_THREAD, WORKER_BYTES, Maker, Sample
from mcrpy_diffusion.settings import GenerationSettings


def structure(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(2, size=(4, 5)).astype(np.uint8)


@dataclass(frozen=True)
class Coin:
    """Rejects a part of the seeds, some slower than others.

    With a folder, each worker waits at its start until `n_workers` of them have started.
    """

    accepted_part: float = 0.5
    seconds: float = 0.0
    name: str = "coins"
    worker_bytes: float = WORKER_BYTES
    folder: str = ""
    n_workers: int = 1

    @property
    def environment(self) -> dict[str, str]:
        return {"COIN": "1"}

    def start(self) -> Maker:
        if self.folder:
            (Path(self.folder) / f"{os.getpid()}").touch()
            while len(list(Path(self.folder).iterdir())) < self.n_workers:
                time.sleep(0.01)
        return self.make

    def make(self, index: int, seed: int) -> Sample:
        print(f"tossing {seed}")
        os.write(1, f"below {seed}\n".encode())  # as TensorFlow prints
        generator = np.random.default_rng(seed)
        chance, haste = generator.random(2)
        time.sleep(self.seconds * 2 * haste)
        reason = "" if chance < self.accepted_part else ("edge" if chance > 0.9 else "tails")
        facts = {"chance": chance, "process": os.getpid(), "number": index, "environment": os.environ.get("COIN")}
        return Sample(structure(seed), reason, facts)

    def advice(self, reason: str) -> str:
        return f"another coin against {reason}"


@dataclass(frozen=True)
class Sleeper(Coin):
    """Sleeps for ten minutes over sample 0; says in its folder which samples were begun by which process."""

    def start(self) -> Maker:
        return self.make

    def make(self, index: int, seed: int) -> Sample:
        (Path(self.folder) / f"{index} {os.getpid()}").touch()
        time.sleep(600 if index == 0 else 0)
        return super().make(index, seed)


@dataclass(frozen=True)
class CheckedFunction:
    """Samples from a function of a seed, which gives phases or (phases, maps), each checked against a target."""

    make: Callable[[int], Any]
    target: Target
    settings: GenerationSettings
    name: str = "samples"
    worker_bytes: float = WORKER_BYTES

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
