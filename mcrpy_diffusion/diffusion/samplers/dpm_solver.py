"""DPM-Solver++(2M): the probability flow in about 20 network evaluations (Lu et al. 2022, arXiv:2211.01095, alg. 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.denoiser import Denoised, Denoiser
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
from mcrpy_diffusion.diffusion.timesteps import Callback, Generators, Step, batch_of, remaining


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
    """Sample images from noise, with a straight line through the last two predictions of x_0.

    With alpha = sqrt(alpha_bar), sigma = sqrt(1 - alpha_bar), lambda = log(alpha / sigma), h = lambda' - lambda and
    r = (h of the previous step) / h:
    x' = (sigma' / sigma) x + alpha' (1 - exp(-h)) D,   D = x_0 + (x_0 - previous x_0) / (2 r).
    The first step has D = x_0. So has the last one, to the clean image, where h is infinite: x' = x_0.
    What changes evenly in another time than lambda is extrapolated in that one, see `Denoised.clock`.

    Parameters
    ----------
    denoise, x_T, schedule, pairs, callback, after
        As in `ddim.sample`.
    generator
        Unused: the sampler is deterministic.

    Returns
    -------
    Tensor, shape (B, C, ...)
    """
    x, before = (x_T, None) if after is None else (after["x"], after["denoised"])  # the previous answer
    for i, (t, t_next) in remaining(pairs, after):
        denoised: Denoised = denoise(x, batch_of(t, x))
        if t_next < 0:
            x = denoised.x_0
        else:
            d = denoised.x_0
            if before is not None:
                now, then = denoised.clock(schedule, t), denoised.clock(schedule, pairs[i - 1][0])
                d = denoised.extrapolated(before, (denoised.clock(schedule, t_next) - now) / (2 * (now - then)))
            x, before = exponential_step(x, d, schedule, t, t_next), denoised
        if callback is not None:
            callback({"i": i, "t": t, "x": x, "x_0": denoised.x_0, "denoised": denoised})
    return x


def exponential_step(x: Tensor, d: Tensor, schedule: NoiseSchedule, t: int, t_next: int) -> Tensor:
    """Follow the probability flow exactly from t to t_next, for a constant prediction d of x_0."""
    a, a_next = schedule.alpha_bar_at(t), schedule.alpha_bar_at(t_next)
    h = schedule.half_log_snr(t_next) - schedule.half_log_snr(t)
    return ((1 - a_next) / (1 - a)) ** 0.5 * x - a_next**0.5 * math.expm1(-h) * d
