"""What the samplers share: pairs of time steps, and one generator per image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator] | None
Step = dict[str, Any]
"""What a sampler tells after a step, see `samplers.ddim.sample`."""
Callback = Callable[[Step], None]


def timestep_pairs(
    num_timesteps: int, num_steps: int, *, exponent: float = 1.0, first: int = 0
) -> list[tuple[int, int]]:
    """Pairs [(t, t_next), ...] down first + round((T - 1 - first) linspace(0, 1, S)^exponent), then to -1 (clean).

    Parameters
    ----------
    num_timesteps, num_steps : int
        T and S.
    exponent : float, at least 1
        1: even steps; above, steps that grow shorter towards the clean image, and never shorter than 1. Song et al.
        (2021), appendix D.2, have 1 and 2.
    first : int, in 0 ... T-1
        The last time before the clean image; T - S at most, so that there are S times.

    Raises
    ------
    ValueError
        If `num_steps` is not in 1 ... T, or `exponent` below 1.
    """
    if not 1 <= num_steps <= num_timesteps:
        raise ValueError(f"num_steps must be between 1 and {num_timesteps}, got {num_steps}")
    if exponent < 1:
        raise ValueError(f"exponent must be at least 1, got {exponent}")
    if num_steps == 1:
        return [(num_timesteps - 1, -1)]
    first = min(first, num_timesteps - num_steps)
    times = [-1]
    for i in range(num_steps):
        time = first + round((num_timesteps - 1 - first) * (i / (num_steps - 1)) ** exponent)
        times.append(max(time, times[-1] + 1))
    return list(zip(times[:0:-1], times[-2::-1], strict=True))


def remaining(pairs: Sequence[tuple[int, int]], after: Step | None) -> Iterator[tuple[int, tuple[int, int]]]:
    """Yield (i, pair) of the steps that follow a step, or of all."""
    first = 0 if after is None else after["i"] + 1
    yield from enumerate(pairs[first:], first)


def batch_of(t: int, x: Tensor) -> Tensor:
    """The time t for each image of x, shape (B,)."""
    return torch.full((len(x),), t, dtype=torch.long, device=x.device)


def noise_like(x: Tensor, generator: Generators) -> Tensor:
    """Standard normal noise of the shape of x, image i from generator i where a sequence is given.

    One generator per image makes image i independent of the batch that it is drawn in.
    """
    if not isinstance(generator, Sequence):
        return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    if len(generator) != len(x):
        raise ValueError(f"generator must be one per image, got {len(generator)} for {len(x)} images")
    rows = [torch.randn(x.shape[1:], generator=g, dtype=x.dtype, device=g.device) for g in generator]
    return torch.stack(rows).to(x.device)
