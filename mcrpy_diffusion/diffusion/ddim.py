"""DDIM: sampling on any subset of the time steps (Lee & Yun 2023, eq. (17); Song et al. 2021, eqs. 12 and 16)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.ddpm import split_output
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule, Prediction

Network = Callable[[Tensor, Tensor], Tensor]
Generators = torch.Generator | Sequence[torch.Generator] | None


def timestep_pairs(num_timesteps: int, num_steps: int) -> list[tuple[int, int]]:
    """The walk [(t, t_next), ...] over round(linspace(0, T - 1, S)) from T - 1 down; the last t_next is -1 (clean).

    Raises
    ------
    ValueError
        If `num_steps` is not in 1 ... T.
    """
    if not 1 <= num_steps <= num_timesteps:
        raise ValueError(f"num_steps is {num_steps}; allowed is 1 to {num_timesteps}")
    if num_steps == 1:
        return [(num_timesteps - 1, -1)]
    times = [round(i * (num_timesteps - 1) / (num_steps - 1)) for i in range(num_steps)][::-1]
    return list(zip(times, [*times[1:], -1], strict=True))


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


@torch.no_grad()
def sample(
    network: Network,
    x_T: Tensor,
    schedule: NoiseSchedule,
    pairs: Sequence[tuple[int, int]],
    *,
    eta: float = 0.0,
    clip: bool = True,
    generator: Generators = None,
    callback: Callable[[dict[str, Any]], None] | None = None,
    prediction: Prediction = "epsilon",
) -> Tensor:
    """Walk from noise to images.

    Per pair, with a = alpha_bar_t and a' = alpha_bar_t_next (1 at t_next = -1), eq. (17):
    x' = sqrt(a') x_0 + sqrt(1 - a' - sigma^2) eps + sigma z,
    sigma = eta sqrt((1 - a') / (1 - a)) sqrt(1 - a / a').

    Parameters
    ----------
    network : callable (x_t (B, C, ...), t (B,)) -> (B, C, ...) or (B, 2 C, ...)
    x_T : Tensor, shape (B, C, ...)
        Start, standard normal noise; its precision is kept.
    pairs : sequence of (t, t_next)
        See `timestep_pairs`; neighbouring pairs must join.
    eta : float, in [0, 1]
        0: deterministic (DDIM); 1: the variance of DDPM.
    clip : bool
        Clip the predicted x_0 to [-1, 1] and recompute eps from it.
    generator : torch.Generator, one per image, or None
        Source of z, unused where eta = 0.
    callback : callable
        Called after each step with {"i", "t", "x", "x_0"}.

    Returns
    -------
    Tensor, shape (B, C, ...)
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is {eta}; allowed is 0 to 1")
    x = x_T
    for i, (t, t_next) in enumerate(pairs):
        times = torch.full((len(x),), t, dtype=torch.long, device=x.device)
        output, _ = split_output(network(x, times), x)
        x_0 = schedule.predict_x_0(output.to(x.dtype), x, times, prediction)
        if clip:
            x_0 = x_0.clamp(-1, 1)
        eps = schedule.predict_noise(x_0, x, times)
        a = float(schedule.alpha_bar[t])
        a_next = float(schedule.alpha_bar[t_next]) if t_next >= 0 else 1.0
        sigma = eta * ((1 - a_next) / (1 - a)) ** 0.5 * (1 - a / a_next) ** 0.5
        x = a_next**0.5 * x_0 + (1 - a_next - sigma**2) ** 0.5 * eps
        if sigma > 0:
            x = x + sigma * noise_like(x, generator)
        if callback is not None:
            callback({"i": i, "t": t, "x": x, "x_0": x_0})
    return x
