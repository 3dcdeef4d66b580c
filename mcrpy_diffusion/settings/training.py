"""Settings of stage 2: network, diffusion process and optimisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings.base import MAX_SEED, Settings, option

RUNTIME_FIELDS = {
    "gradient_accumulation",
    "compile",
    "checkpoint_seconds",
    "checkpoint_steps",
    "keep_checkpoints",
    "preview_steps",
    "tensorboard",
}
"""Fields that change how a training runs, and its result by rounding at most."""
PRECISIONS = ("auto", "float32", "bfloat16")
MAX_TIMESTEPS = 1_000_000

_NETWORK, _DIFFUSION, _OPTIMISATION, _RUNTIME = "network", "diffusion", "optimisation", "saving and speed"


@dataclass(frozen=True)
class TrainingSettings(Settings):
    """Stage 2: network, diffusion process and optimisation. The defaults are the paper's recipe."""

    RENAMED = {"skip_certain_times": "skip_high_snr"}

    channels: int = option(128, "channels of the first level, an even number", low=1, group=_NETWORK)
    channel_multipliers: tuple[int, ...] = option(
        (1, 2, 2, 2, 2), "channels of each level over those of the first", low=1, group=_NETWORK
    )
    n_residual_blocks: int = option(3, "residual blocks per level", low=1, group=_NETWORK)
    attention_levels: tuple[int, ...] = option(  # 2 is 16 x 16 of 64 x 64
        (2,), "levels with self-attention, 0 the finest; the coarsest always has it", low=0, group=_NETWORK
    )
    n_heads: int = option(1, "heads of the self-attention", low=1, group=_NETWORK)
    dropout: float = option(0.1, "dropout probability", low=0.0, high=0.9, group=_NETWORK)
    patch_size: int = option(1, "edge of the square patches folded into channels", unit="pixels", low=1, group=_NETWORK)
    condition_on_volume_fraction: bool = option(False, "condition the network on the volume fraction", group=_NETWORK)
    self_condition: bool = option(False, "self-conditioning on the x_0 estimate of the previous step", group=_NETWORK)
    n_timesteps: int = option(4000, "timesteps of the diffusion process", low=21, high=MAX_TIMESTEPS, group=_DIFFUSION)
    schedule: str = option("linear", "noise schedule", choices=("linear", "cosine"), group=_DIFFUSION)
    prediction: str = option(
        "epsilon",
        "what the network predicts; log_odds: of phases only, without learned variance",
        choices=("epsilon", "v", "x_0", "log_odds"),
        group=_DIFFUSION,
    )
    learned_variance: bool = option(
        True, "the network also predicts the variance of the reverse step", group=_DIFFUSION
    )
    skip_high_snr: bool = option(
        False,
        "leave out timesteps whose signal-to-noise ratio is so high that the noise hides no phase; log_odds only",
        group=_DIFFUSION,
    )
    loss: str = option(
        "simple",
        "simple: L_simple, with learned variance L_hybrid; likelihood: the variational bound L_vlb, log_odds only",
        choices=("simple", "likelihood"),
        group=_DIFFUSION,
    )
    learning_rate: float = option(1e-4, "learning rate of Adam", low=1e-9, high=1.0, group=_OPTIMISATION)
    learning_rate_schedule: str = option(
        "constant", "cosine: falls to a fiftieth", choices=("constant", "cosine"), group=_OPTIMISATION
    )
    warmup_steps: int = option(0, "steps of linear warm-up of the learning rate", low=0, group=_OPTIMISATION)
    n_training_steps: int = option(100_000, "number of training steps", low=1, beginner=True, group=_OPTIMISATION)
    batch_size: int = option(32, "structures per step, over all processes", low=1, group=_OPTIMISATION)
    ema_decay: float = option(
        0.9999,
        "decay of the exponential moving average of the weights, which is the model",
        low=0.0,
        high=0.999999,
        group=_OPTIMISATION,
    )
    gradient_clip: float = option(1.0, "largest norm of the gradient", low=1e-9, high=1e9, group=_OPTIMISATION)
    precision: str = option(
        "auto",
        "floating-point precision of the network; auto: bfloat16 where the processor supports it",
        choices=PRECISIONS,
        group=_RUNTIME,
    )
    augmentation: bool = option(
        True, "random half turns; shifts if periodic; quarter turns and mirror images if isotropic", group=_OPTIMISATION
    )
    seed: int = option(0, "random seed", low=0, high=MAX_SEED, beginner=True, group=_OPTIMISATION)
    gradient_accumulation: int = option(
        1, "parts of a batch that are processed one after the other; saves memory", low=1, group=_RUNTIME
    )
    compile: bool = option(False, "compile the network by torch.compile; needs a C compiler", group=_RUNTIME)
    checkpoint_seconds: float = option(600.0, "time between checkpoints", unit="seconds", low=0.0, group=_RUNTIME)
    checkpoint_steps: int = option(0, "steps between additional checkpoints; 0: none", low=0, group=_RUNTIME)
    keep_checkpoints: int = option(2, "number of checkpoints kept", low=1, group=_RUNTIME)
    preview_steps: int = option(0, "steps between pictures of eight sampled structures; 0: none", low=0, group=_RUNTIME)
    tensorboard: bool = option(False, "write TensorBoard files", group=_RUNTIME)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prediction == "log_odds" and self.learned_variance:
            raise InputError("learned_variance must be false with the prediction log_odds, got true")
        if self.loss == "likelihood" and self.prediction != "log_odds":  # others would learn little but pixel noise
            raise InputError(f"prediction must be log_odds with the loss likelihood, got {self.prediction!r}")
        if not self.channel_multipliers:
            raise InputError("channel_multipliers must have at least one value, got none")
        n_levels = len(self.channel_multipliers)
        with_attention = {n_levels - 1, *self.attention_levels} & set(range(n_levels))
        widths = [self.channels * self.channel_multipliers[level] for level in with_attention]
        if self.channels % 2 or any(width % self.n_heads for width in widths):
            raise InputError(
                "channels must be even, and a multiple of n_heads on levels with attention, "
                f"got channels {self.channels} and n_heads {self.n_heads}"
            )

    def replace(self, **changes: Any) -> TrainingSettings:
        """Return a copy with some fields changed; `None` values are left as they are.

        The loss "likelihood" needs log odds: with another prediction it becomes "simple", if no loss is given.
        """
        without_log_odds = changes.get("prediction") not in (None, "log_odds")
        if without_log_odds and self.loss == "likelihood" and changes.get("loss") is None:
            changes["loss"] = "simple"
        return super().replace(**changes)

    def identity(self) -> dict[str, Any]:
        """Return the fields that two trainings with the same result have in common: all but `RUNTIME_FIELDS`."""
        return {k: v for k, v in self.to_dict().items() if k not in RUNTIME_FIELDS}

    @property
    def stride(self) -> int:
        """Extents must be multiples of this: the network folds patches, then halves once per further level."""
        return self.patch_size * 2 ** (len(self.channel_multipliers) - 1)

    def check_extent(self, extent: tuple[int, ...]) -> None:
        """Raise InputError where the network cannot halve the extent often enough, or it has no two or three axes."""
        if len(extent) not in (2, 3):
            raise InputError(f"the extent must have two or three axes, got {len(extent)}")
        if any(e % self.stride for e in extent):
            given = " x ".join(map(str, extent))
            raise InputError(
                f"the extent must be a multiple of {self.stride} in each direction, got {given}: the "
                f"network has {len(self.channel_multipliers)} levels and a patch_size of {self.patch_size}"
            )
