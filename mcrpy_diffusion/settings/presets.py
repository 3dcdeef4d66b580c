"""Presets: settings of all stages under one name."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from mcrpy_diffusion.settings.base import Option
from mcrpy_diffusion.settings.generation import GenerationSettings
from mcrpy_diffusion.settings.sampling import SamplingSettings, default_sampling
from mcrpy_diffusion.settings.training import TrainingSettings

PRESETS = ("quick", "small", "paper")
PRESET = Option(
    "preset",
    str,
    "quick",
    help="quick: minutes on a CPU; small: half an hour on a CPU with bfloat16; paper: the published recipe, on a GPU",
    choices=PRESETS,
    beginner=True,
)


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
        "quick": minutes on a laptop's CPU. "small": 20 to 35 minutes on a core with bfloat16; the weights take less
        than 4 MiB as float16. "paper": the published recipe, for a GPU.
    extent : tuple of int
        Rows and columns. The paper's network is made for 64 x 64. For larger structures the preset "paper" folds
        patches of 2 x 2 (from 128), 4 x 4 (from 256) ... pixels into channels. All levels, the attention at 16 x 16
        and the cost of a step stay those of 64 x 64.

    Notes
    -----
    At 256 x 256, with a batch of 32 in bfloat16:

    - patches of 4 x 4: 62 GFLOP an image, 6 GiB
    - seven levels instead (`channel_multipliers` 1 2 2 2 2 2 2, `attention_levels` 4): 970 GFLOP an image, 73 GiB

    Raises
    ------
    InputError
        If there is no such preset.
    """
    PRESET.check(name)
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
        skip_high_snr=True,
        loss="likelihood",
        learning_rate=1e-3,
        learning_rate_schedule="cosine",
        warmup_steps=50,
        n_training_steps=1200,
        batch_size=8,
        ema_decay=0.995,
        checkpoint_seconds=20.0,
    )
    quick = Preset(training=training, sampling=default_sampling(training))
    if name == "quick":
        return quick
    small = training.replace(
        channels=40,  # 1.8 million weights
        n_training_steps=4_000,
        batch_size=16,
        ema_decay=0.999,
        checkpoint_seconds=120.0,
    )
    return replace(quick, training=small)
