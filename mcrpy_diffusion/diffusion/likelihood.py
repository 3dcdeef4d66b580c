"""The full variational bound on minus log likelihood, term by term (Lee & Yun 2023, eqs. (7)-(10))."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.denoiser import Denoiser
from mcrpy_diffusion.diffusion.losses import mean_per_image, normal_kl, vlb_term
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
from mcrpy_diffusion.diffusion.timesteps import Generators, noise_like


@dataclass(frozen=True)
class VariationalBound:
    """L_vlb of eq. (7) in bits per dimension.

    Attributes
    ----------
    decoder : Tensor, shape (B,)
        L_0, eq. (8).
    terms : Tensor, shape (B, n)
        L_t, the KL of one step (9), at n times of each image above 0.
    prior : Tensor, shape (B,)
        L_T, eq. (10).
    total : Tensor, shape (B,)
        prior + decoder + (T - 1) times the mean of the terms: the bound itself where all T - 1 times were taken, else
        an estimate, without bias if each time is as likely as any other.
    """

    decoder: Tensor
    terms: Tensor
    prior: Tensor
    total: Tensor


def prior_term(x_0: Tensor, schedule: NoiseSchedule) -> Tensor:
    """L_T of eq. (10), KL(q(x_T | x_0) || N(0, I)), in bits per dimension, shape (B,)."""
    alpha_bar = float(schedule.alpha_bar[-1])
    zero = torch.zeros_like(x_0)
    kl = normal_kl(alpha_bar**0.5 * x_0, zero + math.log1p(-alpha_bar), zero, zero)
    return mean_per_image(kl) / math.log(2)


def systematic_times(num_timesteps: int, n: int, offsets: Tensor) -> Tensor:
    """Draw n times of 1 ... T-1 for each image, evenly spread from a random start (systematic sampling).

    Parameters
    ----------
    num_timesteps : int
        T, at least 2.
    n : int, in 1 ... T-1
    offsets : Tensor, shape (B,), in [0, 1)
        The start, in units of the spacing. Uniform offsets give each time the same probability, n / (T - 1).

    Returns
    -------
    Tensor, shape (n, B), int64
        All different in each image.
    """
    spacing = (num_timesteps - 1) / n
    place = (torch.arange(n, dtype=torch.float64)[:, None] + offsets.double()) * spacing
    return 1 + place.long().clamp(max=num_timesteps - 2)


@torch.no_grad()
def variational_bound(
    denoise: Denoiser,
    x_0: Tensor,
    schedule: NoiseSchedule,
    *,
    generator: Generators = None,
    times: Tensor | None = None,
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
    times : Tensor, shape (n, B), integers in 1 ... T-1, optional
        Times of the terms of each image, such as `systematic_times`; all by default, which costs T network evaluations.
    callback : callable
        Called with the number of terms done, that of the decoder included.

    Returns
    -------
    VariationalBound

    Notes
    -----
    The decoder is larger than any other term by orders of magnitude, so it is always computed, and no mean over terms
    includes it.
    """
    last = schedule.num_timesteps - 1
    chosen = torch.arange(1, last + 1)[:, None].expand(-1, len(x_0)) if times is None else times
    if chosen.ndim != 2 or chosen.shape[1] != len(x_0) or not bool(((chosen >= 1) & (chosen <= last)).all()):
        raise ValueError(f"times must be (n, {len(x_0)}) integers between 1 and {last}, got {chosen.tolist()!r:.100}")
    terms = []
    for done, t in enumerate([torch.zeros(len(x_0), dtype=torch.int64), *chosen], 1):
        t = t.to(x_0.device)
        x_t = schedule.add_noise(x_0, noise_like(x_0, generator), t)
        terms.append(vlb_term(denoise(x_t, t), x_0, x_t, t, schedule))
        if callback is not None:
            callback(done)
    decoder, prior = terms[0], prior_term(x_0, schedule)
    others = torch.stack(terms[1:], dim=1) if len(terms) > 1 else decoder.new_zeros(len(x_0), 0)
    rest = last * others.mean(1) if others.shape[1] else torch.zeros_like(decoder)
    return VariationalBound(decoder, others, prior, prior + decoder + rest)
