"""DDPM with the variance that is right for steps of any length, where the network predicts phases.

Reference: F. Bao et al., "Estimating the Optimal Covariance with Imperfect Mean in Diffusion Probabilistic Models",
arXiv:2206.07309, section 3.1; after "Analytic-DPM", arXiv:2201.06503.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.denoiser import Denoiser
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule, at
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
    """Sample images from noise: as `ddpm.sample`, with the variance of x_0 added to that of each step.

    In a step from t to s, q(x_s | x_t) is the posterior q(x_s | x_t, x_0), averaged over x_0. Its variance is
    beta_tilde + c^2 Var[x_0 | x_t], c = sqrt(alpha_bar_s) (1 - alpha_bar_t / alpha_bar_s) / (1 - alpha_bar_t). The
    second part is lost where x_0 is replaced by its expected value: little in 1,000 steps, but in 50 steps rare pixels
    become rarer. Of phases it is known: 1 - E[x_0 | x_t]^2 in each channel.

    Parameters
    ----------
    denoise, x_T, schedule, pairs, generator, callback, after
        As in `ddim.sample`. Without log odds it is `ddpm.sample`.

    Returns
    -------
    Tensor, shape (B, C, ...)
    """
    process = schedule.subset([t for t, _ in reversed(pairs)])
    x = x_T if after is None else after["x"]
    for i, (t, t_next) in remaining(pairs, after):
        denoised, step = denoise(x, batch_of(t, x)), batch_of(len(pairs) - 1 - i, x)
        mean, log_variance = reverse_distribution(denoised, x, step, process)
        variance = log_variance.exp()
        if denoised.log_odds is not None:
            variance = variance + at(process.posterior_x_0, step, x) ** 2 * (1 - denoised.x_0**2)
        x = mean if t_next < 0 else mean + variance.sqrt() * noise_like(x, generator)
        if callback is not None:
            callback({"i": i, "t": t, "x": x, "x_0": denoised.x_0, "denoised": denoised})
    return x
