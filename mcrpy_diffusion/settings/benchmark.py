"""Settings of the benchmark against descriptor-based reconstruction."""

from __future__ import annotations

from dataclasses import dataclass, field

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings.base import Settings

METHODS = ("s2_lbfgsb", "s2_accelerated", "s2_tnc", "gram", "lineal_path_s2", "diffusion_ddim", "diffusion_fast")


@dataclass(frozen=True)
class BenchmarkSettings(Settings):
    """The benchmark: which methods make how many structures of which kind. MCRpy's settings are MCRpy's defaults."""

    methods: tuple[str, ...] = METHODS
    n_samples: int = 20
    n_samples_of: dict[str, int] = field(default_factory=dict)  # method -> number, where it is another one
    extent_x: int = 64
    extent_y: int = 64
    held_out_fraction: float = 0.25  # part of the micrograph that no method sees
    n_training_samples: int | None = None  # as in GenerationSettings
    use_multiphase: bool = False
    isotropic: bool = False
    limit_to: int | None = None  # of MCRpy's descriptors; None: half of the smaller extent
    max_iter: int = 500  # of MCRpy's optimisers
    n_ddim_steps: int = 150
    n_fast_steps: int | None = None  # None: those of the preset
    seed: int = 0  # structure i of each method is made from seed + i alone
    clock: str = "wall"  # which seconds are counted; or cpu: those of the processor, where other work runs beside
    features: str = "vgg19"  # or none

    def __post_init__(self) -> None:
        self._one_of(("wall", "cpu"), "clock")
        self._one_of(("vgg19", "none"), "features")
        self._at_least(8, "extent_x", "extent_y")
        self._at_least(1, "n_samples", "max_iter", "n_ddim_steps")
        self._at_least(0, "seed")
        self._between(0.0, 0.5, "held_out_fraction")
        for name, low in (("n_fast_steps", 1), ("limit_to", 1), ("n_training_samples", 2)):
            if getattr(self, name) is not None:
                self._at_least(low, name)
        if len(set(self.methods)) < len(self.methods):
            raise InputError(f"methods are {', '.join(self.methods)}; allowed is each once")
        unknown = [name for name in (*self.methods, *self.n_samples_of) if name not in METHODS]
        if unknown or not self.methods:
            raise InputError(f"methods are {', '.join(unknown) or 'none'}; allowed are {', '.join(METHODS)}")
        for name, number in self.n_samples_of.items():
            if not isinstance(number, int) or number < 1:
                raise InputError(f"n_samples_of {name} is {number!r}; allowed is a whole number of at least 1")

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns (I, J)."""
        return (self.extent_x, self.extent_y)

    def number_of(self, method: str) -> int:
        """How many structures a method makes."""
        return self.n_samples_of.get(method, self.n_samples)
