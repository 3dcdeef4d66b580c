"""Reverse process p_theta(x_{t-1} | x_t) with a learned or a fixed variance (Lee & Yun 2023, section 2.1)."""

from __future__ import annotations

from torch import Tensor

from mcrpy_diffusion.diffusion.denoiser import Denoised
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule, at


def reverse_distribution(denoised: Denoised, x_t: Tensor, t: Tensor, schedule: NoiseSchedule) -> tuple[Tensor, Tensor]:
    """Mean and log variance of p_theta(x_{t-1} | x_t), each of the shape of x_t (B, C, ...).

    The mean is that of the posterior q(x_{t-1} | x_t, x_0) at the expected x_0. A learned variance v interpolates the
    log variance: v = -1 gives beta_tilde_t and v = 1 beta_t (Nichol & Dhariwal 2021, eq. 15). Without one it is
    beta_tilde_t.

    Parameters
    ----------
    denoised : Denoised
        At x_t.
    t : Tensor, shape (B,), integers in 0 ... T-1 of `schedule`
    """
    mean, low = schedule.posterior(denoised.x_0, x_t, t)
    if denoised.variance is None:
        return mean, low.expand_as(x_t)
    fraction = (denoised.variance + 1) / 2
    return mean, fraction * at(schedule.log_betas, t, x_t) + (1 - fraction) * low
