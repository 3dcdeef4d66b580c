"""DDPM: ancestral sampling on all time steps or a subset of them (Lee & Yun 2023, section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.denoiser import Denoiser
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
from mcrpy_diffusion.diffusion.reverse_process import reverse_distribution
from mcrpy_diffusion.diffusion.timesteps import Callback, Generators, Step, batch_of, noise_like, remaining


@torch.no_grad()
def sample(
    denoise: Denoiser,
    x_T: Tensor,
    schedule: NoiseSchedule,
    pairs: Sequence[tuple[int, int]],
    *,
    generator: Generators = None,
    callback: Callback | None = None,
    after: Step | None = None,
) -> Tensor:
    """Sample images from noise: x' = mean + exp(log_variance / 2) z, eq. (2).

    The steps of `pairs` make a process of their own (`NoiseSchedule.subset`), within which a learned variance
    interpolates. The last step, to the clean image, adds no noise.

    Parameters
    ----------
    denoise, x_T, schedule, pairs, generator, callback, after
        As in `ddim.sample`.

    Returns
    -------
    Tensor, shape (B, C, ...)
    """
    process = schedule.subset([t for t, _ in reversed(pairs)])
    x = x_T if after is None else after["x"]
    for i, (t, t_next) in remaining(pairs, after):
        denoised = denoise(x, batch_of(t, x))
        mean, log_variance = reverse_distribution(denoised, x, batch_of(len(pairs) - 1 - i, x), process)
        x = mean if t_next < 0 else mean + (0.5 * log_variance).exp() * noise_like(x, generator)
        if callback is not None:
            callback({"i": i, "t": t, "x": x, "x_0": denoised.x_0, "denoised": denoised})
    return x
