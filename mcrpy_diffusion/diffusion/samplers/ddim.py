"""DDIM: sampling on any subset of the time steps (Lee & Yun 2023, eq. (17); Song et al. 2021, eqs. 12 and 16)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.denoiser import Denoiser
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
from mcrpy_diffusion.diffusion.timesteps import Callback, Generators, Step, batch_of, noise_like, remaining


@torch.no_grad()
def sample(
    denoise: Denoiser,
    x_T: Tensor,
    schedule: NoiseSchedule,
    pairs: Sequence[tuple[int, int]],
    *,
    eta: float = 0.0,
    generator: Generators = None,
    callback: Callback | None = None,
    after: Step | None = None,
) -> Tensor:
    """Sample images from noise.

    Per pair, with a = alpha_bar_t and a' = alpha_bar_t_next (1 at t_next = -1), eq. (17):
    x' = sqrt(a') x_0 + sqrt(1 - a' - sigma^2) eps + sigma z,
    sigma = eta sqrt((1 - a') / (1 - a)) sqrt(1 - a / a').

    Parameters
    ----------
    denoise : Denoiser
    x_T : Tensor, shape (B, C, ...)
        Standard normal noise; its precision is kept.
    pairs : sequence of (t, t_next)
        See `timesteps.timestep_pairs`; neighbouring pairs must join.
    eta : float, in [0, 1]
        0: deterministic (DDIM); 1: the variance of DDPM.
    generator : torch.Generator, one per image, or None
        Source of z, unused where eta = 0.
    callback : callable
        Called after each step with {"i", "t", "x", "x_0", "denoised"}.
    after : dict, optional
        What the callback got after a step: sampling continues there, in place of from noise, and gives the same image
        if the generators and the denoiser are in the state of then.

    Returns
    -------
    Tensor, shape (B, C, ...)
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be between 0 and 1, got {eta}")
    x = x_T if after is None else after["x"]
    for i, (t, t_next) in remaining(pairs, after):
        denoised = denoise(x, batch_of(t, x))
        x_0 = denoised.x_0
        a, a_next = schedule.alpha_bar_at(t), schedule.alpha_bar_at(t_next)
        eps = (x - a**0.5 * x_0) / (1 - a) ** 0.5
        sigma = eta * ((1 - a_next) / (1 - a)) ** 0.5 * (1 - a / a_next) ** 0.5
        x = a_next**0.5 * x_0 + (1 - a_next - sigma**2) ** 0.5 * eps
        if sigma > 0:
            x = x + sigma * noise_like(x, generator)
        if callback is not None:
            callback({"i": i, "t": t, "x": x, "x_0": denoised.x_0, "denoised": denoised})
    return x
