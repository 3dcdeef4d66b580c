"""Samples that keep given volume fractions, where the log odds of the phases are predicted."""

from __future__ import annotations

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.denoiser import Denoised, Denoiser

MAX_TILT = 8.0  # turns even odds into 1 : 3000; more confident pixels are left unchanged
N_BISECTIONS = 22  # to 4e-6 of the log odds
N_SWEEPS = 8  # over the phases, where there are several
CONFIDENT = 0.99  # |E[x_0]| that no rounding changes: odds of 200 : 1


def constrain_volume_fraction(denoise: Denoiser, fractions: Tensor) -> Denoiser:
    """Make the expected x_0 keep the volume fractions exactly at each time.

    All images x_0 with the volume fractions f that condition a network have the mean f, so E[x_0 | x_t, f] has it too,
    at each t. The network's estimate misses that slightly, always to the same side, and the errors add up during
    sampling. Of all distributions with independent pixels and that mean, the one closest to the network's (least
    Kullback-Leibler divergence) has log odds that are shifted by one number per phase: exponential tilting
    (Csiszar 1975, doi:10.1214/aop/1176996454).

    Parameters
    ----------
    denoise : Denoiser
        Predicts log odds.
    fractions : Tensor, shape (B, max(C - 1, 1)), in [0, 1]
        Of phases 1, 2, ...; of the whole image or volume.

    Returns
    -------
    Denoiser
    """

    def constrained(x_t: Tensor, t: Tensor, estimate: Tensor | None = None, /) -> Denoised:
        log_odds = denoise(x_t, t, estimate).log_odds
        if log_odds is None:
            raise ValueError("a volume fraction must be constrained in a denoiser of log odds, got one without")
        return Denoised.of_phases(log_odds.shifted(tilt_log_odds(log_odds.total, fractions)))

    return constrained


def tilt_log_odds(log_odds: Tensor, fractions: Tensor) -> Tensor:
    """Find what to add to log odds so that the probabilities have the given means.

    Parameters
    ----------
    log_odds : Tensor, shape (B, C, ...)
        See `LogOdds.total`.
    fractions : Tensor, shape (B, max(C - 1, 1)), in [0, 1]

    Returns
    -------
    Tensor, shape (B, C, 1, ...)
        Within -8 ... 8 for two phases, which leaves a fraction missed where confident pixels would have to change.
    """
    wanted = fractions.to(device=log_odds.device, dtype=log_odds.dtype).clamp(0, 1)
    per_phase = (*log_odds.shape[:2], *[1] * (log_odds.ndim - 2))
    if log_odds.shape[1] == 1:
        return _tilt(log_odds[:, 0], wanted[:, 0]).reshape(per_phase)
    wanted = torch.cat([1 - wanted.sum(1, keepdim=True), wanted], dim=1)
    found = torch.zeros_like(wanted)
    for _ in range(N_SWEEPS):  # coordinate by coordinate of one convex problem: each step solves one phase's equation
        for phase in range(log_odds.shape[1]):
            tilted = log_odds + found.reshape(per_phase)
            others = torch.cat([tilted[:, :phase], tilted[:, phase + 1 :]], dim=1).logsumexp(1)
            found[:, phase] += _tilt(tilted[:, phase] - others, wanted[:, phase])
    return found.reshape(per_phase)


def exact_phases(x_0: Tensor, fractions: Tensor, *, confident: float = CONFIDENT) -> Tensor:
    """Round the expected x_0 to phases that have the volume fractions to the pixel.

    Rounding pixel by pixel could turn all undecided pixels the same way. Here the pixels that lose the least by it
    change their phase until the numbers of pixels are right. Where no pixel can go from a phase with too many to one
    with too few, pixels move along a chain of phases: the shortest augmenting path of a flow between phases (Edmonds &
    Karp 1972, doi:10.1145/321694.321699). Confident pixels are left unchanged, which leaves a fraction missed where
    they would have to change.

    Parameters
    ----------
    x_0 : Tensor, shape (B, C, ...), in [-1, 1]
    fractions : Tensor, shape (B, max(C - 1, 1)), in [0, 1]
        Of phases 1, 2, ...
    confident : float
        |x_0| above which a pixel is left unchanged; at 1 every pixel whose x_0 is in [-1, 1] can change.

    Returns
    -------
    Tensor, shape (B, ...), uint8
    """
    scores = (torch.cat([-x_0, x_0], dim=1) if x_0.shape[1] == 1 else x_0).flatten(2)
    phases = scores.argmax(1)
    for image, wanted in enumerate(_numbers_of_pixels(fractions, scores.shape[2])):
        surplus = phases[image].bincount(minlength=len(wanted)).cpu() - wanted
        # the phases (P, N) that the scores of a pixel do not rule out with confidence
        is_open = scores[image].amax(0) - scores[image] <= 2 * confident
        forbidden = torch.zeros(len(wanted), len(wanted), dtype=torch.bool)
        while True:  # each round settles a phase, or finds that confident pixels forbid this pair
            movable = torch.minimum(surplus[:, None], -surplus).masked_fill(forbidden, 0)
            too_many, too_few = divmod(int(movable.argmax()), len(wanted))
            n_wanted = int(movable[too_many, too_few])
            if n_wanted <= 0:
                break
            n = _move(phases[image], scores[image], is_open, too_many, too_few, n_wanted)
            surplus[too_many] -= n
            surplus[too_few] += n
            forbidden[too_many, too_few] = n < n_wanted
        while bool(surplus.any()):
            capacity = _capacity(phases[image], is_open)
            chain = _shortest_chain(capacity, surplus)
            if not chain:
                break
            pairs = [*zip(chain, chain[1:])]
            n = min(int(surplus[chain[0]]), int(-surplus[chain[-1]]), *(int(capacity[pair]) for pair in pairs))
            for pair in reversed(pairs):  # the last pair first, so that no pixel moves twice
                _move(phases[image], scores[image], is_open, *pair, n)
            surplus[chain[0]] -= n
            surplus[chain[-1]] += n
    return phases.reshape(len(x_0), *x_0.shape[2:]).to(torch.uint8)


def _move(phases: Tensor, scores: Tensor, is_open: Tensor, source: int, target: int, n: int) -> int:
    """Move up to n pixels of `phases` (N,), those that lose the least, to another phase; return how many moved."""
    loss = scores[source] - scores[target]
    loss = loss.masked_fill((phases != source) | ~is_open[target], float("inf"))
    moved = min(n, int(loss.isfinite().sum()))
    phases[loss.sort(stable=True).indices[:moved]] = target
    return moved


def _capacity(phases: Tensor, is_open: Tensor) -> Tensor:
    """Numbers of pixels (P, P) that can go from each phase to each other one."""
    is_now = torch.nn.functional.one_hot(phases, len(is_open)).double()
    return (is_now.T @ is_open.double().T).long().cpu()


def _shortest_chain(capacity: Tensor, surplus: Tensor) -> list[int]:
    """Find phases from one with too many pixels to one with too few, each with pixels for the next; empty if none."""
    chains = [[phase] for phase in range(len(surplus)) if surplus[phase] > 0]
    seen = {chain[0] for chain in chains}
    for chain in chains:  # grows on the way: breadth first
        if surplus[chain[-1]] < 0:
            return chain
        for phase in range(len(surplus)):
            if phase not in seen and capacity[chain[-1], phase] > 0:
                seen.add(phase)
                chains.append([*chain, phase])
    return []


def _numbers_of_pixels(fractions: Tensor, n: int) -> Tensor:
    """Pixels of each phase, (B, P), n in all: the largest remainders are rounded up."""
    exact = fractions.double().cpu().clamp(0, 1) * n
    exact = torch.cat([(n - exact.sum(1, keepdim=True)).clamp(min=0), exact], dim=1)
    numbers = exact.floor().long()
    missing = n - numbers.sum(1, keepdim=True)
    rank = (numbers - exact).argsort(dim=1, stable=True).argsort(dim=1)
    return numbers + (rank < missing)


def _tilt(log_odds: Tensor, fraction: Tensor) -> Tensor:
    """Find the number per image (B,) that gives sigmoid(log_odds (B, ...) + number) the mean `fraction`."""
    pixels = tuple(range(1, log_odds.ndim))
    low, high = torch.full_like(fraction, -MAX_TILT), torch.full_like(fraction, MAX_TILT)
    for _ in range(N_BISECTIONS):
        middle = (low + high) / 2
        is_low = (log_odds + middle.reshape(-1, *[1] * len(pixels))).sigmoid().mean(pixels) < fraction
        low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
    return (low + high) / 2
