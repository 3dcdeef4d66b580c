"""L_simple, the terms of L_vlb, and L_hybrid (Lee & Yun 2023, eqs. (7)-(12); Nichol & Dhariwal 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.denoiser import Denoised, from_output
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule, Prediction, at
from mcrpy_diffusion.diffusion.reverse_process import reverse_distribution

VLB_WEIGHT = 0.001  # lambda of eq. (12)


@dataclass(frozen=True)
class HybridLoss:
    """Loss per image: `simple` (11), `vlb` in bits per dimension, `total` (12); each of shape (B,)."""

    simple: Tensor
    vlb: Tensor
    total: Tensor


def mean_per_image(x: Tensor) -> Tensor:
    """Mean over all axes but the first, shape (B,)."""
    return x.flatten(1).mean(1)


def simple_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error per image, L_simple of eq. (11), shape (B,)."""
    return mean_per_image((prediction - target) ** 2)


def velocity_loss(predicted_x_0: Tensor, x_0: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Error of a predicted x_0, weighted as if v had been predicted: |x_0 - x_0_hat|^2 / (1 - alpha_bar_t). Shape (B,).

    With v = (sqrt(alpha_bar) x_t - x_0) / sqrt(1 - alpha_bar), from eq. (3); Salimans & Ho (2022), appendix D.
    """
    return mean_per_image((predicted_x_0 - x_0) ** 2 / at(1 - schedule.alpha_bar, t, x_0))


def likelihood_loss(predicted_x_0: Tensor, x_0: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """Term L_t of L_vlb times T, eq. (9), in nats per channel where the variance is beta_tilde_t. Shape (B,).

    |x_0 - x_0_hat|^2 (SNR_{t-1} - SNR_t) T / 2 with SNR = alpha_bar / (1 - alpha_bar) (Kingma et al. 2021,
    arXiv:2107.00630, section 4). Its mean over all t is the bound on minus log likelihood without the decoder;
    t = 0 has the weight of t = 1. The noisiest times, at which little can be known, count less than in the velocity
    loss.
    """
    return mean_per_image((predicted_x_0 - x_0) ** 2 * at(schedule.likelihood_weights, t, x_0))


def normal_kl(mean_1: Tensor, log_variance_1: Tensor, mean_2: Tensor, log_variance_2: Tensor) -> Tensor:
    """KL divergence of two normal distributions in nats, element by element."""
    difference = log_variance_2 - log_variance_1
    ratio = torch.exp(-difference) + (mean_1 - mean_2) ** 2 * torch.exp(-log_variance_2)
    return 0.5 * (difference + ratio - 1)


def discretised_gaussian_nll(x_0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Minus log likelihood in nats of grey levels k / 127.5 - 1, k = 0 ... 255, under a normal density (L_0, eq. (8)).

    Each level owns the interval of width 2 / 255 around it; the outermost two reach to infinity
    (Ho et al. 2020, eq. 13).
    """
    scale = torch.exp(-0.5 * log_variance) / math.sqrt(2)
    upper = torch.erf((x_0 + 1 / 255 - mean) * scale)
    lower = torch.erf((x_0 - 1 / 255 - mean) * scale)
    upper = torch.where(x_0 > 0.999, torch.ones_like(upper), upper)
    lower = torch.where(x_0 < -0.999, -torch.ones_like(lower), lower)
    return -torch.log((0.5 * (upper - lower)).clamp(min=1e-12))


def vlb_term(denoised: Denoised, x_0: Tensor, x_t: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """The term of L_vlb at time t in bits per dimension: L_0 (8) at t = 0, else the KL L_{t-1} (9). Shape (B,).

    The expected x_0 is not clipped, as in the published code: `denoised` comes from a denoiser without clipping.
    """
    mean, log_variance = reverse_distribution(denoised, x_t, t, schedule)
    true_mean, true_log_variance = schedule.posterior(x_0, x_t, t)
    kl = mean_per_image(normal_kl(true_mean, true_log_variance, mean, log_variance))
    decoder = mean_per_image(discretised_gaussian_nll(x_0, mean, log_variance))
    return torch.where(t.to(kl.device) == 0, decoder, kl) / math.log(2)


def hybrid_loss(
    model_output: Tensor,
    x_0: Tensor,
    x_t: Tensor,
    t: Tensor,
    noise: Tensor,
    schedule: NoiseSchedule,
    *,
    prediction: Prediction = "epsilon",
) -> HybridLoss:
    """L_simple + 0.001 T L_t: eq. (12) with one of the T terms of L_vlb drawn per image.

    Parameters
    ----------
    model_output : Tensor, shape (B, 2 C, ...)
        Prediction and variance interpolation v in [-1, 1]. The prediction is stopped in the VLB term, so that
        this term trains the variance alone.
    x_0, x_t, noise : Tensor, shape (B, C, ...)
    t : Tensor, shape (B,)

    Returns
    -------
    HybridLoss
    """
    denoised = from_output(model_output, x_t, t, schedule, prediction=prediction, clip=False)
    return hybrid_loss_of(denoised, x_0, x_t, t, noise, schedule, prediction=prediction)


def hybrid_loss_of(
    denoised: Denoised,
    x_0: Tensor,
    x_t: Tensor,
    t: Tensor,
    noise: Tensor,
    schedule: NoiseSchedule,
    *,
    prediction: Prediction,
) -> HybridLoss:
    """`hybrid_loss` of what a denoiser without clipping answers at x_t."""
    if denoised.output is None or denoised.variance is None:
        raise ValueError("the hybrid loss must have a network with learned variance, got one without")
    simple = simple_loss(denoised.output, schedule.target(x_0, noise, t, prediction))
    vlb = vlb_term(replace(denoised, x_0=denoised.x_0.detach()), x_0, x_t, t, schedule)
    return HybridLoss(simple, vlb, simple + VLB_WEIGHT * schedule.num_timesteps * vlb)
