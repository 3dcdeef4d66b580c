"""DPM-Solver++(2M): the probability flow in about 20 network evaluations (Lu et al. 2022, arXiv:2211.01095, alg. 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule, Prediction
from mcrpy_diffusion.diffusion.sampling import Callback, Generators, Network, split_output


@torch.no_grad()
def sample(
    network: Network,
    x_T: Tensor,
    schedule: NoiseSchedule,
    pairs: Sequence[tuple[int, int]],
    *,
    clip: bool = True,
    generator: Generators = None,
    callback: Callback | None = None,
    prediction: Prediction = "epsilon",
) -> Tensor:
    """Walk from noise to images, with a straight line through the last two predictions of x_0.

    With alpha = sqrt(alpha_bar), sigma = sqrt(1 - alpha_bar), lambda = log(alpha / sigma), h = lambda' - lambda and
    r = (h of the step before) / h:
    x' = (sigma' / sigma) x + alpha' (1 - exp(-h)) D,   D = x_0 + (x_0 - x_0 of the step before) / (2 r).
    The first step has D = x_0, and so has the last one, to the clean image, where h is infinite: x' = x_0.

    Where the network predicts log odds, x_0 saturates at the phases and is no good to extrapolate. There D is the x_0
    that follows from the network's output carried on linearly in t to the middle of the step, but for the last one.

    Parameters
    ----------
    network, x_T, schedule, pairs, clip, callback
        As in `ddim.sample`; x_0 is always clipped to [-1, 1] where `clip` is set, D is not.
    generator
        Unused: the sampler is deterministic.

    Returns
    -------
    Tensor, shape (B, C, ...)
    """
    x, before, length = x_T, None, math.nan  # the prediction of the step before, and how long that step was
    for i, (t, t_next) in enumerate(pairs):
        times = torch.full((len(x),), t, dtype=torch.long, device=x.device)
        output = split_output(network(x, times), x)[0].to(x.dtype)
        if prediction == "log_odds":
            step = float(t - t_next)
            middle = output if before is None or t_next < 0 else output + (output - before) * (step / (2 * length))
            before, length = output, step
            x_0 = d = schedule.predict_x_0(middle, x, times, prediction)
        else:
            x_0 = schedule.predict_x_0(output, x, times, prediction)
            x_0 = x_0.clamp(-1, 1) if clip else x_0
            step = half_log_snr(schedule, t_next) - half_log_snr(schedule, t)
            d = x_0 if before is None else x_0 + (x_0 - before) * (step / (2 * length))
            before, length = x_0, step
        x = x_0 if t_next < 0 else exponential_step(x, d, schedule, t, t_next)
        if callback is not None:
            callback({"i": i, "t": t, "x": x, "x_0": x_0})
    return x


def half_log_snr(schedule: NoiseSchedule, t: int) -> float:
    """lambda_t = log(alpha / sigma); infinite at t = -1, the clean image."""
    if t < 0:
        return math.inf
    alpha_bar = schedule.alpha_bar_at(t)
    return 0.5 * (math.log(alpha_bar) - math.log1p(-alpha_bar))


def exponential_step(x: Tensor, d: Tensor, schedule: NoiseSchedule, t: int, t_next: int) -> Tensor:
    """Follow the probability flow from t to t_next exactly, for a prediction d of x_0 that stays the same."""
    a, a_next = schedule.alpha_bar_at(t), schedule.alpha_bar_at(t_next)
    h = half_log_snr(schedule, t_next) - half_log_snr(schedule, t)
    return ((1 - a_next) / (1 - a)) ** 0.5 * x - a_next**0.5 * math.expm1(-h) * d
