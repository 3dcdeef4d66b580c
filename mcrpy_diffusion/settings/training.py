"""Settings of stage 2: network, diffusion process and optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings.base import Settings

if TYPE_CHECKING:
    from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule

HOW_TO_TRAIN = {
    "gradient_accumulation",
    "compile",
    "checkpoint_seconds",
    "checkpoint_steps",
    "keep_checkpoints",
    "preview_steps",
    "tensorboard",
}
MAX_TIMESTEPS = 1_000_000


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
