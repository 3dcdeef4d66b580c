"""Sampling from an image in place of noise: SDEdit (Meng et al. 2022, doi:10.48550/arXiv.2108.01073)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
from mcrpy_diffusion.diffusion.timesteps import Generators, batch_of, noise_like


def start_from(
    x_0: Tensor,
    strength: float,
    pairs: Sequence[tuple[int, int]],
    schedule: NoiseSchedule,
    generator: Generators,
) -> tuple[Tensor, list[tuple[int, int]]]:
    """Noise images up to a share of the process, and keep the steps from there on.

    Parameters
    ----------
    x_0 : Tensor, shape (B, C, ...), in [-1, 1]
    strength : float, in (0, 1]
        Share of the times 0 ... T-1. Near 0 the images stay as they are; at 1 nothing is left of them.
    pairs : sequence of (t, t_next)

    Returns
    -------
    x_t, pairs : Tensor, list
        What a sampler starts from; without pairs the noise would be too weak to change anything, and x_t is x_0.
    """
    latest = round(strength * (schedule.num_timesteps - 1))
    kept = [pair for pair in pairs if pair[0] <= latest]
    if not kept:
        return x_0, kept
    return schedule.add_noise(x_0, noise_like(x_0, generator), batch_of(kept[0][0], x_0)), kept
