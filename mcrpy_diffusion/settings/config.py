"""Settings of every stage: frozen dataclasses, checked when made, written to and read from JSON.

The same objects travel from the command line into the checkpoint and the report. Unknown keys are errors.
"""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
import typing
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from mcrpy_diffusion.errors import InputError

if TYPE_CHECKING:
    from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule

S = TypeVar("S", bound="Settings")

PRESETS = ("quick", "small", "paper")
HOW_TO_TRAIN = {
    "gradient_accumulation",
    "compile",
    "checkpoint_seconds",
    "checkpoint_steps",
    "keep_checkpoints",
    "preview_steps",
    "tensorboard",
}
SAMPLERS = ("ddim", "ddpm", "dpm_solver")
METHODS = ("s2_lbfgsb", "s2_accelerated", "s2_tnc", "gram", "lineal_path_s2", "diffusion_ddim", "diffusion_fast")
N_CROPS, N_RECONSTRUCTIONS = 2000, 400
ITERATIONS = 300  # of MCRpy's optimizer for 64 x 64 pixels
MAX_TIMESTEPS = 1_000_000
SMALL = {  # what "small" changes of "quick": its network, narrower, trained for longer
    "channels": 40,  # 1.8 million weights
    "n_training_steps": 4_000,
    "batch_size": 16,
    "ema_decay": 0.999,
    "checkpoint_seconds": 120.0,
}


@dataclass(frozen=True)
class Settings:
    """Base of all settings: JSON in and out, checks that name the value given and the values allowed."""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that `json.dumps` takes (tuples become lists)."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls: type[S], values: dict[str, Any]) -> S:
        """Make the settings from a dictionary.

        Raises
        ------
        InputError
            If a key is not a field of these settings, or a value is out of range.
        """
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise InputError(f"unknown {cls.__name__} {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        given = {k: _as_tuple(v) for k, v in values.items()}
        hints = typing.get_type_hints(cls)
        for name, value in given.items():
            if not _is_of(value, hints[name]):
                kind = getattr(hints[name], "__name__", "") if isinstance(hints[name], type) else str(hints[name])
                raise InputError(f"{name} is {str(value)[:100]!r}; allowed is {kind}")
        return cls(**given)

    def replace(self: S, **changes: Any) -> S:
        """Return a copy with some fields changed; `None` values are left as they are."""
        return self.from_dict({**self.to_dict(), **{k: v for k, v in changes.items() if v is not None}})

    def _at_least(self, low: float, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or math.isnan(value) or value < low:
                raise InputError(f"{name} is {value!r}; allowed is a number of at least {low}")

    def _between(self, low: float, high: float, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or math.isnan(value) or not low <= value <= high:
                raise InputError(f"{name} is {value!r}; allowed is {low} to {high}")

    def _one_of(self, allowed: tuple[str, ...], *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(f"{name} is {value!r}; allowed are {', '.join(allowed)}")


@dataclass(frozen=True)
class GenerationSettings(Settings):
    """Stage 1: how the training data are made from a reference.

    The names that MCRpy also has (`descriptor_types` ... `use_multigrid_descriptor`) mean what they mean there.
    """

    extent_x: int = 64
    extent_y: int = 64
    training_data: str = "auto"  # crops of the micrograph, MCRpy's descriptor-based reconstruction, or auto
    n_training_samples: int | None = None  # None: N_CROPS or N_RECONSTRUCTIONS, as crops cost nothing
    held_out_fraction: float = 0.25  # part of a micrograph that no training crop touches
    periodic: bool = True
    use_multiphase: bool = False
    grey_values: bool = False
    isotropic: bool = False
    descriptor_types: tuple[str, ...] = ("FFTCorrelations",)
    descriptor_weights: tuple[float, ...] | None = None
    limit_to: int | None = None  # None: half of the smaller extent, so that S2 holds over the whole window
    optimizer_type: str = "LBFGSB"
    loss_type: str = "MSE"
    max_iter: int | None = None  # None: 300 for each 64 pixels of the smaller extent, and no fewer
    use_multigrid_descriptor: bool = False
    volume_fraction_tolerance: float = 0.01  # absolute, after rounding
    two_point_tolerance_percent: float = 10.0
    lineal_path_tolerance_percent: float = 25.0
    copy_tolerance: float = 0.1  # of 2 phi (1 - phi), the pixel MSE of two independent structures
    seed: int = 0

    def __post_init__(self) -> None:
        self._one_of(("auto", "crops", "descriptors"), "training_data")
        self._at_least(8, "extent_x", "extent_y")
        if self.n_training_samples is not None:
            self._at_least(2, "n_training_samples")
        if self.max_iter is not None:
            self._at_least(1, "max_iter")
        self._at_least(0, "seed", "volume_fraction_tolerance", "two_point_tolerance_percent")
        self._at_least(0, "lineal_path_tolerance_percent")
        self._between(0.0, 0.5, "held_out_fraction")
        self._between(0.0, 1.0, "copy_tolerance")
        if self.grey_values and self.use_multiphase:
            raise InputError("grey_values and use_multiphase were both given; allowed is one of them")

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns (I, J) of one sample; MCRpy calls them x and y."""
        return (self.extent_x, self.extent_y)

    @property
    def iterations(self) -> int:
        """Iterations of MCRpy's optimizer, at most: larger structures need more to become as good."""
        return self.max_iter or ITERATIONS * max(1, min(self.extent) // 64)


@dataclass(frozen=True)
class FibreSettings(Settings):
    """Fibre composite: random sequential addition. The volume fraction is the paper's; it leaves the radius open."""

    extent_x: int = 64
    extent_y: int = 64
    periodic: bool = True
    volume_fraction: float = 0.35
    radius: float = 5.0  # pixels; of the disc of the same area, for ellipses and rectangles
    radius_deviation: float = 0.0  # standard deviation over mean of log-normal radii; 0: all alike
    min_gap: float = 1.0  # pixels between any two fibres: no pixel of one is the neighbour of one of another
    shape: str = "disc"
    aspect_ratio: float = 2.0  # long over short axis, of ellipses and rectangles
    orientation: float | None = None  # degrees from the rows' axis to the long axis; None: random

    def __post_init__(self) -> None:
        self._one_of(("disc", "ellipse", "rectangle"), "shape")
        self._at_least(8, "extent_x", "extent_y")
        self._between(0.001, 0.9, "volume_fraction")
        self._between(0.5, 1e6, "radius")
        self._between(0.0, 1.0, "radius_deviation")
        self._between(0.0, 1e6, "min_gap")
        self._between(1.0, 50.0, "aspect_ratio")
        if self.orientation is not None:
            self._between(-360.0, 360.0, "orientation")

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns (I, J)."""
        return (self.extent_x, self.extent_y)


@dataclass(frozen=True)
class AlloySettings(Settings):
    """Polycrystal with grain boundaries as a phase. Ratios and fractions are the paper's; sizes in pixels are ours."""

    extent_x: int = 64
    extent_y: int = 64
    periodic: bool = True
    grain_size: float = 10.0  # pixels: effective diameter of the grains of ratio 1
    size_ratios: tuple[float, ...] = (1.0, 2.0, 2.5, 3.0, 4.0)
    volume_fractions: tuple[float, ...] = (0.15, 0.2, 0.3, 0.2, 0.15)
    boundary_width: float = 1.5  # pixels
    aspect_ratio: float = 1.0  # long over short axis of columnar grains
    orientation: float = 0.0  # degrees from the rows' axis to the long axis
    abnormal_fraction: float = 0.0  # volume fraction of abnormally grown grains
    abnormal_ratio: float = 8.0  # their size in terms of grain_size

    def __post_init__(self) -> None:
        self._at_least(8, "extent_x", "extent_y")
        self._between(2.0, 1e6, "grain_size")
        self._between(0.0, 1e6, "boundary_width")
        self._between(1.0, 20.0, "aspect_ratio")
        self._between(-360.0, 360.0, "orientation")
        self._between(0.0, 0.9, "abnormal_fraction")
        self._between(0.01, 1e3, "abnormal_ratio")
        if not self.size_ratios or len(self.size_ratios) != len(self.volume_fractions):
            raise InputError(
                f"size_ratios are {self.size_ratios} and volume_fractions {self.volume_fractions}; allowed are as many "
                "of one as of the other, at least one"
            )
        for name in ("size_ratios", "volume_fractions"):
            if not all(isinstance(value, (int, float)) and 0.01 <= value <= 1e3 for value in getattr(self, name)):
                raise InputError(f"{name} are {getattr(self, name)}; allowed are numbers from 0.01 to 1000")
        if abs(sum(self.volume_fractions) - 1) > 1e-3:
            total = sum(self.volume_fractions)
            raise InputError(f"volume_fractions {self.volume_fractions} add up to {total:g}; allowed is a sum of 1")

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns (I, J)."""
        return (self.extent_x, self.extent_y)


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """Stage 2: network, diffusion process and optimisation. The defaults are the paper's recipe."""

    # network
    channels: int = 128
    channel_multipliers: tuple[int, ...] = (1, 2, 2, 2, 2)
    n_residual_blocks: int = 3
    attention_levels: tuple[int, ...] = (2,)  # 16 x 16 of 64 x 64
    n_heads: int = 1
    dropout: float = 0.1
    patch_size: int = 1  # blocks of p x p pixels become channels
    condition_on_volume_fraction: bool = False
    self_condition: bool = False  # the network is told its estimate of the step before
    # diffusion
    n_timesteps: int = 4000
    schedule: str = "linear"
    prediction: str = "epsilon"  # or v, x_0, log_odds (phases only)
    learned_variance: bool = True
    skip_certain_times: bool = False  # of log odds: leave out times whose noise hides no phase
    loss: str = "simple"  # L_simple (11), with learned variance L_hybrid (12); or of log odds "likelihood", L_vlb
    # optimisation
    learning_rate: float = 1e-4
    learning_rate_schedule: str = "constant"  # or cosine, to a fiftieth
    warmup_steps: int = 0
    n_training_steps: int = 100_000
    batch_size: int = 32  # over all processes
    ema_decay: float = 0.9999
    gradient_clip: float = 1.0
    precision: str = "auto"  # bfloat16 where the processor has it
    augmentation: bool = True  # random symmetries that keep the statistics, see data.augmentation
    seed: int = 0
    # how, not what: these leave the result the same up to rounding
    gradient_accumulation: int = 1  # parts of a batch that go through the network one after the other, to save memory
    compile: bool = False  # torch.compile
    checkpoint_seconds: float = 600.0
    checkpoint_steps: int = 0  # as well every so many steps; 0: by time alone
    keep_checkpoints: int = 2
    preview_steps: int = 0  # a picture of eight structures every so many steps; 0: none
    tensorboard: bool = False

    def __post_init__(self) -> None:
        self._one_of(("linear", "cosine"), "schedule")
        self._one_of(("epsilon", "v", "x_0", "log_odds"), "prediction")
        if self.prediction == "log_odds" and self.learned_variance:
            raise InputError("prediction is 'log_odds' with learned_variance; allowed with it are epsilon, v, x_0")
        self._one_of(("simple", "likelihood"), "loss")
        if self.loss == "likelihood" and self.prediction != "log_odds":  # others would learn little but pixel noise
            raise InputError(f"loss is 'likelihood' with prediction {self.prediction!r}; allowed with it is simple")
        self._one_of(("constant", "cosine"), "learning_rate_schedule")
        self._one_of(("auto", "float32", "bfloat16"), "precision")
        self._at_least(1, "channels", "n_residual_blocks", "n_heads", "patch_size", "n_training_steps", "batch_size")
        self._at_least(1, "gradient_accumulation", "keep_checkpoints")
        self._at_least(0, "checkpoint_steps", "preview_steps")
        self._between(21, MAX_TIMESTEPS, "n_timesteps")
        self._at_least(0, "seed", "warmup_steps", "checkpoint_seconds")
        self._between(0.0, 0.9, "dropout")
        self._between(0.0, 0.999999, "ema_decay")
        self._between(1e-9, 1.0, "learning_rate")
        self._between(1e-9, 1e9, "gradient_clip")
        if not self.channel_multipliers or min(self.channel_multipliers) < 1:
            raise InputError(f"channel_multipliers is {self.channel_multipliers}; allowed are numbers of at least 1")
        attending = {len(self.channel_multipliers) - 1, *self.attention_levels} & set(
            range(len(self.channel_multipliers))
        )
        widths = [self.channels * self.channel_multipliers[level] for level in attending]
        if self.channels % 2 or any(width % self.n_heads for width in widths):
            raise InputError(
                f"channels is {self.channels} with n_heads {self.n_heads}; allowed are even numbers of channels, in "
                "multiples of the heads on levels with attention"
            )

    def replace(self, **changes: Any) -> TrainingSettings:
        """Return a copy with some fields changed; `None` values are left as they are.

        The loss "likelihood" goes with log odds alone: without them it becomes "simple", if none is named.
        """
        without_log_odds = changes.get("prediction") not in (None, "log_odds")
        if without_log_odds and self.loss == "likelihood" and changes.get("loss") is None:
            changes["loss"] = "simple"
        return super().replace(**changes)

    def identity(self) -> dict[str, Any]:
        """What makes two trainings the same: all fields but those that say how it is done."""
        return {k: v for k, v in self.to_dict().items() if k not in HOW_TO_TRAIN}

    @property
    def stride(self) -> int:
        """Extents must be multiples of this: the network folds patches, then halves once per further level."""
        return self.patch_size * 2 ** (len(self.channel_multipliers) - 1)

    def first_time(self, schedule: NoiseSchedule) -> int:
        """The first time in training and sampling: the first uncertain one, or 0 where certain ones are met too.

        Predictions other than log odds always meet them: only log odds round to a phase at any time.
        """
        return schedule.first_uncertain_time if self.skip_certain_times and self.prediction == "log_odds" else 0

    def check_extent(self, extent: tuple[int, int]) -> None:
        """Raise InputError where the network cannot halve the extent often enough."""
        if any(e % self.stride for e in extent):
            raise InputError(
                f"the extent is {extent[0]} x {extent[1]}; this network allows multiples of {self.stride}: "
                f"its {len(self.channel_multipliers)} levels and patches of {self.patch_size} halve it that often"
            )


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


@dataclass(frozen=True)
class Preset:
    """Settings of all three stages under one name."""

    generation: GenerationSettings = field(default_factory=GenerationSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)


def preset(name: str, extent: tuple[int, int] = (64, 64)) -> Preset:
    """Return the settings of that name.

    Parameters
    ----------
    name : str
        "quick": minutes on a laptop's CPU. "small": 20 to 35 minutes on a core with bfloat16, weights that fit
        into 4 MiB as float16. "paper": the published recipe, for a GPU.
    extent : tuple of int
        Rows and columns. The paper's network is made for 64 x 64. For larger structures the preset "paper" folds
        patches of 2 x 2 (from 128), 4 x 4 (from 256) ... pixels into channels, so that all levels, the attention at
        16 x 16 and the cost of a step stay those of 64 x 64: at 256 x 256 62 GFLOP an image and 6 GiB for a batch of
        32 in bfloat16, where seven levels (`channel_multipliers` 1 2 2 2 2 2 2, `attention_levels` 4, `patch_size` 1)
        take 970 GFLOP and 73 GiB.

    Raises
    ------
    InputError
        If there is no such preset.
    """
    if name == "paper":
        patch_size = 2 ** max(int(math.log2(max(min(extent), 1) / 64)), 0)
        return Preset(
            generation=GenerationSettings(n_training_samples=1000), training=TrainingSettings(patch_size=patch_size)
        )
    training = TrainingSettings(
        channels=48,
        channel_multipliers=(1, 2, 2),
        n_residual_blocks=1,
        attention_levels=(),
        n_heads=4,
        dropout=0.0,
        patch_size=2,
        condition_on_volume_fraction=True,
        self_condition=True,
        n_timesteps=1000,
        schedule="cosine",
        prediction="log_odds",
        learned_variance=False,
        skip_certain_times=True,
        loss="likelihood",
        learning_rate=1e-3,
        learning_rate_schedule="cosine",
        warmup_steps=50,
        n_training_steps=1200,
        batch_size=8,
        ema_decay=0.995,
        checkpoint_seconds=20.0,
    )
    quick = Preset(training=training, sampling=usual_sampling(training))
    if name == "quick":
        return quick
    if name == "small":
        return replace(quick, training=quick.training.replace(**SMALL))
    raise InputError(f"preset is {name!r}; allowed are {', '.join(PRESETS)}")


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Name what differs between two settings, as "key: old -> new"."""
    keys = [k for k in {**old, **new} if old.get(k) != new.get(k)]
    return [f"{k}: {old.get(k)!r} -> {new.get(k)!r}" for k in keys]


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a value is of a field's type; whole numbers are floats too, truth values are no numbers."""
    if typing.get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_is_of(each, typing.get_args(hint)[0]) for each in value)
    if typing.get_origin(hint) is dict:
        key, item = typing.get_args(hint)
        return isinstance(value, dict) and all(_is_of(k, key) and _is_of(v, item) for k, v in value.items())
    if typing.get_args(hint):  # X | None
        return any(_is_of(value, each) for each in typing.get_args(hint))
    if hint in (int, float):
        return isinstance(value, numbers.Integral if hint is int else numbers.Real) and not isinstance(value, bool)
    return isinstance(value, hint)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
