"""Samples that are steered to descriptors by a gradient on the log odds of the expected structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.denoiser import Denoised, Denoiser
from mcrpy_diffusion.diffusion.descriptors import Target
from mcrpy_diffusion.diffusion.log_odds import LogOdds
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
from mcrpy_diffusion.diffusion.volume_fraction import tilt_log_odds

N_INNER_STEPS = 4


@dataclass(frozen=True, eq=False)
class Steering:
    """What the structures of a batch are steered to.

    Parameters
    ----------
    targets : sequence of Target
    schedule : NoiseSchedule
    fractions : Tensor, shape (B, C'), optional
        Volume fractions that the expected structure has before and after steering.
    """

    targets: Sequence[Target]
    schedule: NoiseSchedule
    fractions: Tensor | None = None


def steer(denoise: Denoiser, steering: Steering) -> Denoiser:
    """Change the log odds so that the expected structure comes closer to descriptors.

    Each of `N_INNER_STEPS` steps goes against the normalised gradient of the weighted sum of the relative errors. Its
    length is that sum, at most 1, times sqrt(alpha_bar): the log odds change by less than 1, root mean square.
    The gradient is taken at the expected structure, not through the network (MPGD, He et al. 2024, arXiv:2311.16424),
    and in the log odds, where pixels that are decided stay so.

    Parameters
    ----------
    denoise : Denoiser
        Predicts log odds.
    steering : Steering

    Returns
    -------
    Denoiser
    """

    def steered(x_t: Tensor, t: Tensor, estimate: Tensor | None = None, /) -> Denoised:
        denoised = denoise(x_t, t, estimate)
        log_odds = denoised.log_odds
        if log_odds is None:
            raise ValueError("descriptors must be steered to in a denoiser of log odds, got one without")
        alpha_bar = steering.schedule.alpha_bar_at(int(t[0]))
        active = [target for target in steering.targets if target.min_alpha_bar < alpha_bar]
        if not active:
            return denoised
        if steering.fractions is not None:
            log_odds = log_odds.shifted(tilt_log_odds(log_odds.total, steering.fractions))
        return Denoised.of_phases(log_odds.shifted(_change(log_odds, active, alpha_bar**0.5)))

    return steered


def _change(log_odds: LogOdds, targets: Sequence[Target], length: float) -> Tensor:
    """Find what to add to the log odds (B, C, ...)."""
    change = torch.zeros_like(log_odds.context)
    per_image = (-1, *[1] * (change.ndim - 1))
    for _ in range(N_INNER_STEPS):
        change = change.detach().requires_grad_()
        with torch.enable_grad():
            probabilities = all_phases(log_odds.shifted(change).probabilities())
            errors = [target.strength * target.error(probabilities) for target in targets]
            error = torch.stack(errors).sum(0)
            (gradient,) = torch.autograd.grad(error.sum(), change)
        rms = gradient.flatten(1).square().mean(1).sqrt() + 1e-20
        step = error.detach().clamp(max=1) * length / N_INNER_STEPS / rms
        change = change.detach() - step.reshape(per_image) * gradient
    return change


def all_phases(probabilities: Tensor) -> Tensor:
    """Probabilities of all phases (B, P, ...), where those of two may be given by phase 1 alone."""
    if probabilities.shape[1] > 1:
        return probabilities
    return torch.cat([1 - probabilities, probabilities], dim=1)
