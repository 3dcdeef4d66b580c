"""Settings of stage 3: how many structures, by which sampler."""

from __future__ import annotations

from dataclasses import dataclass

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings.base import Settings
from mcrpy_diffusion.settings.training import TrainingSettings

SAMPLERS = ("ddim", "ddpm", "dpm_solver")


@dataclass(frozen=True)
class SamplingSettings(Settings):
    """Stage 3: how many structures, by which sampler."""

    n_samples: int = 16
    sampler: str = "ddim"  # or ddpm, dpm_solver
    n_sampling_steps: int = 150
    eta: float = 0.0  # noise that ddim adds on the way
    hold_volume_fraction: bool = True  # to the pixel, where the network is told it and predicts log odds
    seed: int = 0  # structure i is drawn from seed + i alone
    batch_size: int = 16
    precision: str = "auto"  # bfloat16 where the processor has it

    def __post_init__(self) -> None:
        self._one_of(SAMPLERS, "sampler")
        self._one_of(("auto", "float32", "bfloat16"), "precision")
        self._at_least(1, "n_samples", "n_sampling_steps", "batch_size")
        self._at_least(0, "seed")
        self._between(0.0, 1.0, "eta")
        if self.eta and self.sampler != "ddim":
            raise InputError(f"eta is {self.eta} with sampler {self.sampler!r}; allowed with it is 0")


USUAL_STEPS = {"ddpm": 50, "dpm_solver": 20, "ddim": 150}
"""Sampling steps of each sampler, if nobody says otherwise."""


def usual_sampling(training: TrainingSettings) -> SamplingSettings:
    """Return how a network that was trained so is sampled, if nobody says otherwise.

    Log odds by ancestral sampling in 50 steps, which mends open boundaries; v, which grey images are trained with, by
    DPM-Solver++ in 20, which keeps most of their pixel noise (benchmarks/README.md); all else by DDIM in 150, as
    published. A network of fewer times has as many steps.
    """
    sampler = {"log_odds": "ddpm", "v": "dpm_solver"}.get(training.prediction, "ddim")
    return SamplingSettings(sampler=sampler, n_sampling_steps=min(USUAL_STEPS[sampler], training.n_timesteps))
