"""Settings of the benchmark against descriptor-based reconstruction."""

from __future__ import annotations

from dataclasses import dataclass

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings.base import MAX_SEED, option, option_like
from mcrpy_diffusion.settings.generation import ExtentSettings, GenerationSettings

METHODS = ("s2_lbfgsb", "s2_accelerated", "s2_tnc", "gram", "lineal_path_s2", "diffusion_ddim", "diffusion_fast")
FEATURES = ("none", "vgg19", "inception")
"""Features of a Frechet distance: none, MCRpy's VGG-19, or Inception for the FID."""


@dataclass(frozen=True)
class BenchmarkSettings(ExtentSettings):
    """The benchmark: which methods make how many structures of which kind. MCRpy's settings are MCRpy's defaults."""

    methods: tuple[str, ...] = option(METHODS, "methods to compare", choices=METHODS, group="benchmark")
    n_samples: int = option(20, "structures of each method", low=1, beginner=True, group="benchmark")
    n_samples_of: dict[str, int] = option(
        {}, "another number of structures for one method; can be repeated", low=1, group="benchmark"
    )
    held_out_fraction: float = option_like(GenerationSettings, "held_out_fraction")
    n_training_samples: int | None = option_like(GenerationSettings, "n_training_samples")
    use_multiphase: bool = option_like(GenerationSettings, "use_multiphase")
    isotropic: bool = option_like(GenerationSettings, "isotropic")
    limit_to: int | None = option_like(GenerationSettings, "limit_to")
    max_iter: int = option(500, "largest number of iterations of MCRpy's optimizers", low=1, group="benchmark")
    n_ddim_steps: int = option(150, "denoising steps of diffusion_ddim", low=1, group="benchmark")
    n_fast_steps: int | None = option(
        None, "denoising steps of diffusion_fast", low=1, if_none="the model's or the preset's", group="benchmark"
    )
    seed: int = option(
        0, "random seed; structure i of each method uses seed + i", low=0, high=MAX_SEED, group="benchmark"
    )
    clock: str = option(
        "wall",
        "time that is compared: wall time, or CPU time for shared machines",
        choices=("wall", "cpu"),
        group="benchmark",
    )
    features: str = option(
        "vgg19",
        "features of the Frechet distance, precision and recall",
        choices=("vgg19", "none"),
        group="benchmark",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise InputError(f"methods must be at least one, each once, got {' '.join(self.methods) or 'none'}")
        unknown = [name for name in self.n_samples_of if name not in METHODS]
        if unknown:
            raise InputError(f"n_samples_of must name one of {', '.join(METHODS)}, got {unknown[0]!r}")

    def number_of(self, method: str) -> int:
        """How many structures a method makes."""
        return self.n_samples_of.get(method, self.n_samples)
