"""Reverse process p_theta(x_{t-1} | x_t) with a learned variance, and sampling by it (Lee & Yun 2023, section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule, Prediction, at
from mcrpy_diffusion.diffusion.sampling import Callback, Generators, Network, noise_like, split_output


def reverse_distribution(
    model_output: Tensor,
    x_t: Tensor,
    t: Tensor,
    schedule: NoiseSchedule,
    clip: bool = True,
    *,
    prediction: Prediction = "epsilon",
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and log variance of p_theta(x_{t-1} | x_t), and the prediction of x_0.

    The mean is that of the posterior q(x_{t-1} | x_t, x_0) at the predicted x_0. With 2 C output channels the
    second half v interpolates the log variance, v = -1 giving beta_tilde_t and v = 1 beta_t (Nichol & Dhariwal 2021,
    eq. 15); with C channels the variance is beta_tilde_t.

    Parameters
    ----------
    model_output : Tensor, shape (B, C, ...) or (B, 2 C, ...)
    x_t : Tensor, shape (B, C, ...)
    t : Tensor, shape (B,), integers in 0 ... T-1
    clip : bool
        Clip x_0 to [-1, 1], as in sampling.

    Returns
    -------
    mean, log_variance, x_0 : Tensor, each of shape (B, C, ...)
    """
    predicted, v = split_output(model_output, x_t)
    x_0 = schedule.predict_x_0(predicted, x_t, t, prediction)
    if clip:
        x_0 = x_0.clamp(-1, 1)
    mean, low = schedule.posterior(x_0, x_t, t)
    if v is None:
        return mean, low.expand_as(x_t), x_0
    fraction = (v + 1) / 2
    return mean, fraction * at(schedule.log_betas, t, x_t) + (1 - fraction) * low, x_0


@torch.no_grad()
def sample(
    network: Network,
    x_T: Tensor,
    schedule: NoiseSchedule,
    pairs: Sequence[tuple[int, int]],
    *,
    clip: bool = True,
    generator: Generators = None,
    callback: Callback | None = None,
    prediction: Prediction = "epsilon",
) -> Tensor:
    """Walk from noise to images by ancestral sampling: x' = mean + exp(log_variance / 2) z, eq. (2).

    The steps of `pairs` make a process of their own (`NoiseSchedule.subset`), within which the learned variance
    interpolates; the last step, to the clean image, adds no noise.

    Parameters
    ----------
    network, x_T, schedule, pairs, clip, generator, callback
        As in `ddim.sample`; all T steps or any subset of them.

    Returns
    -------
    Tensor, shape (B, C, ...)
    """
    process = schedule.subset([t for t, _ in reversed(pairs)])
    x = x_T
    for i, (t, t_next) in enumerate(pairs):
        times = torch.full((len(x),), t, dtype=torch.long, device=x.device)
        step = torch.full_like(times, len(pairs) - 1 - i)
        output = network(x, times).to(x.dtype)
        mean, log_variance, x_0 = reverse_distribution(output, x, step, process, clip, prediction=prediction)
        x = mean if t_next < 0 else mean + (0.5 * log_variance).exp() * noise_like(x, generator)
        if callback is not None:
            callback({"i": i, "t": t, "x": x, "x_0": x_0})
    return x
