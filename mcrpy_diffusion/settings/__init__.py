"""Settings of every stage: frozen dataclasses, checked when made, written to and read from JSON.

The same objects travel from the command line into the checkpoint and the report. Unknown keys are errors. A field is
the one source of its option: `options_of` gives help, unit, range and choices to command line, forms and docs.
"""

from mcrpy_diffusion.settings.base import Option, Settings, option, options_of
from mcrpy_diffusion.settings.benchmark import FEATURES, METHODS, BenchmarkSettings
from mcrpy_diffusion.settings.files import FORMATS, FileSettings
from mcrpy_diffusion.settings.generation import (
    MATERIALS,
    N_CROPS,
    N_RECONSTRUCTIONS,
    AlloySettings,
    ExtentSettings,
    FibreSettings,
    GenerationSettings,
)
from mcrpy_diffusion.settings.images import ImageSettings
from mcrpy_diffusion.settings.pixel_size import PixelSize
from mcrpy_diffusion.settings.presets import PRESET, PRESETS, Preset, preset
from mcrpy_diffusion.settings.sampling import (
    SAMPLERS,
    RequestSettings,
    Sampler,
    SamplingSettings,
    default_sampling,
    volume_sampling,
)
from mcrpy_diffusion.settings.training import RUNTIME_FIELDS, TrainingSettings

__all__ = [
    "AlloySettings",
    "BenchmarkSettings",
    "ExtentSettings",
    "FEATURES",
    "FORMATS",
    "FibreSettings",
    "FileSettings",
    "GenerationSettings",
    "MATERIALS",
    "ImageSettings",
    "METHODS",
    "N_CROPS",
    "N_RECONSTRUCTIONS",
    "Option",
    "PRESET",
    "PRESETS",
    "PixelSize",
    "Preset",
    "RUNTIME_FIELDS",
    "SAMPLERS",
    "RequestSettings",
    "Sampler",
    "SamplingSettings",
    "Settings",
    "TrainingSettings",
    "default_sampling",
    "option",
    "options_of",
    "preset",
    "volume_sampling",
]
