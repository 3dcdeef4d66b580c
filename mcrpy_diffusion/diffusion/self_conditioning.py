"""Networks that are told what they expected one step before (Chen et al. 2023, "Analog bits", arXiv:2208.04202).

The steps of a walk share most of what they have to find out. A network that sees its last estimate of x_0 corrects that
one in place of beginning anew, so that a small network goes through its layers many times on the way.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule, Prediction
from mcrpy_diffusion.diffusion.sampling import Network, split_output


def remembering(
    network: Callable[[Tensor, Tensor, Tensor | None], Tensor], schedule: NoiseSchedule, prediction: Prediction
) -> Network:
    """Make the network of one walk: each call is told what the call before expected x_0 to be.

    Not so at the walk's beginning, `schedule.last_telling_time`: an estimate from noise alone is what the network likes
    best, say one direction of lamellae, and fed back from step to step that would grow into all structures.

    Parameters
    ----------
    network : callable (x_t (B, C, I, J), t (B,), estimate (B, C, I, J) or None) -> (B, C or 2 C, I, J)
    schedule : NoiseSchedule
    prediction : str

    Returns
    -------
    callable (x_t, t) -> (B, C or 2 C, I, J)
        For one batch from noise to images; the next one needs another.
    """
    estimate: Tensor | None = None
    first_told = schedule.last_telling_time

    def walking(x: Tensor, t: Tensor) -> Tensor:
        nonlocal estimate
        output = network(x, t, estimate if int(t.max()) <= first_told else None)
        estimate = estimate_of(output, x, t, schedule, prediction)
        return output

    return walking


def twice(
    network: Callable[[Tensor, Tensor, Tensor | None], Tensor], schedule: NoiseSchedule, prediction: Prediction
) -> Network:
    """Make a network of single calls, without a walk: each is told what a call before it, told nothing, expected.

    That is what it learns from, and a function of (x_t, t) alone. Parameters and result as in `remembering`.
    """

    def told(x: Tensor, t: Tensor) -> Tensor:
        return network(x, t, estimate_of(network(x, t, None), x, t, schedule, prediction))

    return told


def estimate_of(output: Tensor, x_t: Tensor, t: Tensor, schedule: NoiseSchedule, prediction: Prediction) -> Tensor:
    """The expected x_0 in [-1, 1] that an output stands for, shape of x_t."""
    predicted, _ = split_output(output, x_t)
    return schedule.predict_x_0(predicted.to(x_t.dtype), x_t, t, prediction).clamp(-1, 1)
