"""Settings of every stage: frozen dataclasses, checked when made, written to and read from JSON.

The same objects travel from the command line into the checkpoint and the report. Unknown keys are errors.
"""

from mcrpy_diffusion.settings.base import Settings
from mcrpy_diffusion.settings.benchmark import METHODS, BenchmarkSettings
from mcrpy_diffusion.settings.generation import (
    ITERATIONS,
    N_CROPS,
    N_RECONSTRUCTIONS,
    AlloySettings,
    FibreSettings,
    GenerationSettings,
)
from mcrpy_diffusion.settings.presets import PRESETS, SMALL, Preset, preset
from mcrpy_diffusion.settings.sampling import SAMPLERS, USUAL_STEPS, SamplingSettings, usual_sampling
from mcrpy_diffusion.settings.training import HOW_TO_TRAIN, MAX_TIMESTEPS, TrainingSettings

__all__ = [
    "AlloySettings",
    "BenchmarkSettings",
    "FibreSettings",
    "GenerationSettings",
    "HOW_TO_TRAIN",
    "ITERATIONS",
    "MAX_TIMESTEPS",
    "METHODS",
    "N_CROPS",
    "N_RECONSTRUCTIONS",
    "PRESETS",
    "Preset",
    "SAMPLERS",
    "SMALL",
    "SamplingSettings",
    "Settings",
    "TrainingSettings",
    "USUAL_STEPS",
    "preset",
    "usual_sampling",
]
