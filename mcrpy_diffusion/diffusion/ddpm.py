"""Reverse process p_theta(x_{t-1} | x_t) with a learned variance (Lee & Yun 2023, section 2.1)."""

from __future__ import annotations

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule, Prediction, at


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


def split_output(model_output: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor | None]:
    """Separate the prediction from the variance interpolation, which networks without learned variance lack."""
    channels = x_t.shape[1]
    if model_output.shape[1] == channels:
        return model_output, None
    if model_output.shape[1] != 2 * channels:
        raise ValueError(f"the network gave {model_output.shape[1]} channels for {channels}; allowed: once or twice")
    predicted, v = torch.chunk(model_output, 2, dim=1)
    return predicted, v
