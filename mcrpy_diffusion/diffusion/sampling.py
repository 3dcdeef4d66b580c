"""What the samplers share: the walk through the time steps, one generator per image, the prediction of x_0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule, Prediction

Network = Callable[[Tensor, Tensor], Tensor]
Generators = torch.Generator | Sequence[torch.Generator] | None
Callback = Callable[[dict[str, Any]], None]


def timestep_pairs(
    num_timesteps: int, num_steps: int, *, exponent: float = 1.0, first: int = 0
) -> list[tuple[int, int]]:
    """The walk [(t, t_next), ...] down first + round((T - 1 - first) linspace(0, 1, S)^exponent), then to -1 (clean).

    Parameters
    ----------
    num_timesteps, num_steps : int
        T and S.
    exponent : float, at least 1
        1: even steps; above, steps that grow shorter towards the clean image, and never shorter than 1. Song et al.
        (2021), appendix D.2, have 1 and 2.
    first : int, in 0 ... T-1
        The time from which the walk goes to the clean image; T - S at most, so that there are S times.

    Raises
    ------
    ValueError
        If `num_steps` is not in 1 ... T, or `exponent` below 1.
    """
    if not 1 <= num_steps <= num_timesteps:
        raise ValueError(f"num_steps is {num_steps}; allowed is 1 to {num_timesteps}")
    if exponent < 1:
        raise ValueError(f"exponent is {exponent}; allowed is at least 1")
    if num_steps == 1:
        return [(num_timesteps - 1, -1)]
    first = min(first, num_timesteps - num_steps)
    times = [-1]
    for i in range(num_steps):
        time = first + round((num_timesteps - 1 - first) * (i / (num_steps - 1)) ** exponent)
        times.append(max(time, times[-1] + 1))
    return list(zip(times[:0:-1], times[-2::-1], strict=True))


def noise_like(x: Tensor, generator: Generators) -> Tensor:
    """Standard normal noise of the shape of x, image i from generator i where a sequence is given.

    One generator per image makes image i independent of the batch that it is drawn in.
    """
    if not isinstance(generator, Sequence):
        return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    if len(generator) != len(x):
        raise ValueError(f"{len(generator)} generators were given for {len(x)} images")
    rows = [torch.randn(x.shape[1:], generator=g, dtype=x.dtype, device=g.device) for g in generator]
    return torch.stack(rows).to(x.device)


def split_output(model_output: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor | None]:
    """Separate the prediction from the variance interpolation, which networks without learned variance lack."""
    channels = x_t.shape[1]
    if model_output.shape[1] == channels:
        return model_output, None
    if model_output.shape[1] != 2 * channels:
        raise ValueError(f"the network gave {model_output.shape[1]} channels for {channels}; allowed: once or twice")
    predicted, v = torch.chunk(model_output, 2, dim=1)
    return predicted, v


def predict_x_0(
    network: Network, x: Tensor, t: int, schedule: NoiseSchedule, *, clip: bool, prediction: Prediction
) -> Tensor:
    """Ask the network for the clean images behind x at time t, shape of x; clipped to [-1, 1] where wanted."""
    times = torch.full((len(x),), t, dtype=torch.long, device=x.device)
    output, _ = split_output(network(x, times), x)
    x_0 = schedule.predict_x_0(output.to(x.dtype), x, times, prediction)
    return x_0.clamp(-1, 1) if clip else x_0
