"""The full variational bound on minus log likelihood, term by term (Lee & Yun 2023, eqs. (7)-(10))."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.denoiser import Denoiser
from mcrpy_diffusion.diffusion.losses import mean_per_image, normal_kl, vlb_term
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
from mcrpy_diffusion.diffusion.timesteps import Generators, batch_of, noise_like


@dataclass(frozen=True)
class VariationalBound:
    """L_vlb of eq. (7) in bits per dimension.

    Attributes
    ----------
    times : tuple of int
        The time steps whose terms were computed.
    terms : Tensor, shape (B, len(times))
        L_0, the decoder (8), at t = 0; L_{t}, the KL of one step (9), above.
    prior : Tensor, shape (B,)
        L_T, eq. (10).
    total : Tensor, shape (B,)
        prior + T / len(times) * sum of the terms: the bound itself where all T times were taken, else an estimate.
    """

    times: tuple[int, ...]
    terms: Tensor
    prior: Tensor
    total: Tensor


def prior_term(x_0: Tensor, schedule: NoiseSchedule) -> Tensor:
    """L_T of eq. (10), KL(q(x_T | x_0) || N(0, I)), in bits per dimension, shape (B,)."""
    alpha_bar = float(schedule.alpha_bar[-1])
    zero = torch.zeros_like(x_0)
    kl = normal_kl(alpha_bar**0.5 * x_0, zero + math.log1p(-alpha_bar), zero, zero)
    return mean_per_image(kl) / math.log(2)


@torch.no_grad()
def variational_bound(
    denoise: Denoiser,
    x_0: Tensor,
    schedule: NoiseSchedule,
    *,
    generator: Generators = None,
    times: Sequence[int] | None = None,
    callback: Callable[[int], None] | None = None,
) -> VariationalBound:
    """Bound minus log likelihood of images, with one draw of x_t for each term.

    Parameters
    ----------
    denoise : Denoiser
        Without clipping.
    x_0 : Tensor, shape (B, C, ...), in [-1, 1]
        The likelihood is that of 256 levels: the decoder integrates over intervals of 2 / 255.
    generator : torch.Generator, one per image, or None
        Source of x_t.
    times : sequence of int, optional
        All of 0 ... T-1 by default, which costs T network evaluations.
    callback : callable
        Called with the number of terms done.

    Returns
    -------
    VariationalBound
    """
    chosen = tuple(range(schedule.num_timesteps)) if times is None else tuple(times)
    if not chosen or min(chosen) < 0 or max(chosen) >= schedule.num_timesteps:
        raise ValueError(f"times must be between 0 and {schedule.num_timesteps - 1}, got {chosen}")
    terms = []
    for done, time in enumerate(chosen, 1):
        t = batch_of(time, x_0)
        x_t = schedule.add_noise(x_0, noise_like(x_0, generator), t)
        terms.append(vlb_term(denoise(x_t, t), x_0, x_t, t, schedule))
        if callback is not None:
            callback(done)
    stacked, prior = torch.stack(terms, dim=1), prior_term(x_0, schedule)
    return VariationalBound(chosen, stacked, prior, prior + schedule.num_timesteps * stacked.mean(1))
