"""Samples that keep the volume fractions the network was told, where it predicts log odds of the phases."""

from __future__ import annotations

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
from mcrpy_diffusion.diffusion.sampling import Network

LARGEST_SHIFT = 8.0  # turns even odds into 1 : 3000; a pixel whose own evidence says more stays as it is
N_BISECTIONS = 22  # to 4e-6 of the log odds
N_SWEEPS = 8  # over the phases, where there are several
CERTAIN = 0.99  # E[x_0] in [-1, 1] that no rounding turns: odds of 200 : 1


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


def exact_phases(x_0: Tensor, fractions: Tensor) -> Tensor:
    """Round the expected x_0 to phases that have the volume fractions to the pixel.

    Pixel by pixel, the undecided ones could all go the same way. Here those change to a neighbouring phase that lose
    the least by it, until the numbers of pixels are right; pixels that are certain stay, which leaves a fraction missed
    where they would have to change.

    Parameters
    ----------
    x_0 : Tensor, shape (B, C, I, J), in [-1, 1]
    fractions : Tensor, shape (B, max(C - 1, 1)), in [0, 1]
        Of phases 1, 2, ...

    Returns
    -------
    Tensor, shape (B, I, J), uint8
    """
    scores = (torch.cat([-x_0, x_0], dim=1) if x_0.shape[1] == 1 else x_0).flatten(2)
    phases = scores.argmax(1)
    for image, wanted in enumerate(_numbers_of_pixels(fractions, scores.shape[2])):
        surplus = phases[image].bincount(minlength=len(wanted)).cpu() - wanted
        forbidden = torch.zeros(len(wanted), len(wanted), dtype=torch.bool)
        while True:  # each round settles a phase, or finds that certain pixels forbid this pair
            movable = torch.minimum(surplus[:, None], -surplus).masked_fill(forbidden, 0)
            too_many, too_few = divmod(int(movable.argmax()), len(wanted))
            n_wanted = int(movable[too_many, too_few])
            if n_wanted <= 0:
                break
            loss = scores[image, too_many] - scores[image, too_few]
            loss = loss.masked_fill((phases[image] != too_many) | (loss > 2 * CERTAIN), float("inf"))
            n = min(n_wanted, int(loss.isfinite().sum()))
            phases[image, loss.sort(stable=True).indices[:n]] = too_few
            surplus[too_many] -= n
            surplus[too_few] += n
            forbidden[too_many, too_few] = n < n_wanted
    return phases.reshape(len(x_0), *x_0.shape[2:]).to(torch.uint8)


def _numbers_of_pixels(fractions: Tensor, n: int) -> Tensor:
    """Pixels of each phase, (B, P), n in all: the largest remainders are rounded up."""
    exact = fractions.double().cpu().clamp(0, 1) * n
    exact = torch.cat([(n - exact.sum(1, keepdim=True)).clamp(min=0), exact], dim=1)
    numbers = exact.floor().long()
    missing = n - numbers.sum(1, keepdim=True)
    rank = (numbers - exact).argsort(dim=1, stable=True).argsort(dim=1)
    return numbers + (rank < missing)


def _shift(log_odds: Tensor, fraction: Tensor) -> Tensor:
    """Find the number per image (B,) that gives sigmoid(log_odds (B, I, J) + number) the mean `fraction`."""
    low, high = torch.full_like(fraction, -LARGEST_SHIFT), torch.full_like(fraction, LARGEST_SHIFT)
    for _ in range(N_BISECTIONS):
        middle = (low + high) / 2
        is_low = (log_odds + middle[:, None, None]).sigmoid().mean((1, 2)) < fraction
        low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
    return (low + high) / 2
