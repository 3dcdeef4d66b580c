"""Samples that keep the volume fractions the network was told, where it predicts log odds of the phases."""

from __future__ import annotations

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
from mcrpy_diffusion.diffusion.sampling import Network

LARGEST_SHIFT = 8.0  # turns even odds into 1 : 3000; a pixel whose own evidence says more stays as it is
N_BISECTIONS = 22  # to 4e-6 of the log odds
N_SWEEPS = 8  # over the phases, where there are several


def holding(network: Network, schedule: NoiseSchedule, fractions: Tensor) -> Network:
    """Make a network's expected x_0 keep the volume fractions exactly at each time.

    All images x_0 with the fractions f that a conditioned network is told have the mean f, so E[x_0 | x_t, f] has it
    too, at each t. The network's estimate misses that by a little, always to the same side, and the errors add up
    over the walk. Of all distributions with independent pixels, the one of that mean which is nearest to the
    network's (least Kullback-Leibler divergence) has log odds that are shifted by one number per phase: exponential
    tilting (Csiszar 1975, doi:10.1214/aop/1176996454).

    Parameters
    ----------
    network : callable (x_t (B, C, I, J), t (B,)) -> (B, C, I, J)
        Its outputs are those of the prediction `log_odds`.
    schedule : NoiseSchedule
    fractions : Tensor, shape (B, max(C - 1, 1)), in [0, 1]
        Of phases 1, 2, ...

    Returns
    -------
    callable
        As `network`.
    """

    def held(x: Tensor, t: Tensor) -> Tensor:
        output = network(x, t)
        return output + shifts(schedule.phase_log_odds(output, x, t), fractions) / 2  # log odds are twice the output

    return held


def shifts(log_odds: Tensor, fractions: Tensor) -> Tensor:
    """Find what has to be added to log odds for the probabilities to have the given means.

    Parameters
    ----------
    log_odds : Tensor, shape (B, C, I, J)
        See `NoiseSchedule.phase_log_odds`.
    fractions : Tensor, shape (B, max(C - 1, 1)), in [0, 1]

    Returns
    -------
    Tensor, shape (B, C, 1, 1)
        Within -8 ... 8 for two phases, which leaves a fraction missed where certain pixels would have to change.
    """
    wanted = fractions.to(device=log_odds.device, dtype=log_odds.dtype).clamp(0, 1)
    if log_odds.shape[1] == 1:
        return _shift(log_odds[:, 0], wanted[:, 0])[:, None, None, None]
    wanted = torch.cat([1 - wanted.sum(1, keepdim=True), wanted], dim=1)
    found = torch.zeros_like(wanted)
    for _ in range(N_SWEEPS):  # phase by phase: each step solves its equation, of which all are one convex problem's
        for phase in range(log_odds.shape[1]):
            shifted = log_odds + found[:, :, None, None]
            others = torch.cat([shifted[:, :phase], shifted[:, phase + 1 :]], dim=1).logsumexp(1)
            found[:, phase] += _shift(shifted[:, phase] - others, wanted[:, phase])
    return found[:, :, None, None]


def _shift(log_odds: Tensor, fraction: Tensor) -> Tensor:
    """Find the number per image (B,) that gives sigmoid(log_odds (B, I, J) + number) the mean `fraction`."""
    low, high = torch.full_like(fraction, -LARGEST_SHIFT), torch.full_like(fraction, LARGEST_SHIFT)
    for _ in range(N_BISECTIONS):
        middle = (low + high) / 2
        is_low = (log_odds + middle[:, None, None]).sigmoid().mean((1, 2)) < fraction
        low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
    return (low + high) / 2
