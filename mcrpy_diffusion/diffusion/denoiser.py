"""What x_0 is expected to be at (x_t, t): the one question that samplers, losses and conditions ask.

A network is one denoiser. Self-conditioning and conditions such as a volume fraction are denoisers around a denoiser,
each in a file of its own. None of them switches gradients off or on, so that one may differentiate those inside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.log_odds import LogOdds
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule, Prediction

Network = Callable[..., Tensor]
"""Called with (x_t (B, C, ...), t (B,)) and, where given, `conditions` (B, N) and `estimate` (B, C, ...); returns
(B, C, ...), or (B, 2 C, ...) with the interpolation v of the variance in the second half."""


@dataclass(frozen=True)
class Denoised:
    """Answer of a denoiser; tensors of the shape of x_t (B, C, ...).

    Attributes
    ----------
    x_0 : Tensor
        Expected clean images, E[x_0 | x_t].
    log_odds : LogOdds, optional
        Where phases are predicted; `x_0` follows from them.
    variance : Tensor, optional
        v in [-1, 1], which interpolates the log variance of a step (Nichol & Dhariwal 2021, eq. 15).
    output : Tensor, optional
        What the network itself predicted (eps, v, x_0 or the context of log odds), for the losses.
    """

    x_0: Tensor
    log_odds: LogOdds | None = None
    variance: Tensor | None = None
    output: Tensor | None = None

    @classmethod
    def of_phases(cls, log_odds: LogOdds) -> Denoised:
        """Make the answer that log odds stand for."""
        return cls(log_odds.expected_x_0(), log_odds, output=log_odds.context)

    def clock(self, schedule: NoiseSchedule, t: int) -> float:
        """The time in which predictions change evenly: lambda_t, or for log odds -t (examples/toy_density.py)."""
        return schedule.half_log_snr(t) if self.log_odds is None else -float(t)

    def extrapolated(self, before: Denoised, ratio: float) -> Tensor:
        """x_0 carried on linearly from an earlier answer.

        Log odds are carried on in place of the x_0 that follows from them, which saturates at the phases.
        """
        if self.log_odds is None or before.log_odds is None:
            return self.x_0 + (self.x_0 - before.x_0) * ratio
        return self.log_odds.extrapolated(before.log_odds, ratio).expected_x_0()


class Denoiser(Protocol):
    """Says what x_0 is expected to be at x_t (B, C, ...) and t (B,), given an earlier estimate of x_0 or none."""

    def __call__(self, x_t: Tensor, t: Tensor, estimate: Tensor | None = None, /) -> Denoised: ...


@dataclass(frozen=True)
class NetworkDenoiser:
    """A network as a denoiser: what it predicts, and the clipping of x_0, end here.

    Parameters
    ----------
    network : callable
        See `Network`.
    schedule : NoiseSchedule
    prediction : "epsilon", "v", "x_0" or "log_odds"
    conditions : Tensor, shape (B, N) or (1, N), optional
        Numbers that condition the network; one row holds for all images.
    clip : bool
        Clip x_0 to [-1, 1], as in sampling; without effect for log odds, which are within it.
    """

    network: Network
    schedule: NoiseSchedule
    prediction: Prediction = "epsilon"
    conditions: Tensor | None = None
    clip: bool = True

    def __call__(self, x_t: Tensor, t: Tensor, estimate: Tensor | None = None, /) -> Denoised:
        conditions = None if self.conditions is None else self.conditions.expand(len(x_t), -1)
        given = {"conditions": conditions, "estimate": estimate}
        output = self.network(x_t, t, **{name: value for name, value in given.items() if value is not None})
        return from_output(output.to(x_t.dtype), x_t, t, self.schedule, prediction=self.prediction, clip=self.clip)


def from_output(
    output: Tensor, x_t: Tensor, t: Tensor, schedule: NoiseSchedule, *, prediction: Prediction, clip: bool
) -> Denoised:
    """Interpret a network's output (B, C or 2 C, ...) at x_t (B, C, ...); parameters as in `NetworkDenoiser`."""
    predicted, variance = split_output(output, x_t)
    if prediction == "log_odds":
        return Denoised.of_phases(LogOdds.from_output(predicted, x_t, t, schedule))
    x_0 = schedule.predict_x_0(predicted, x_t, t, prediction)
    return Denoised(x_0.clamp(-1, 1) if clip else x_0, variance=variance, output=predicted)


def split_output(output: Tensor, x_t: Tensor) -> tuple[Tensor, Tensor | None]:
    """Separate the prediction from the interpolation of the variance, which only a learned variance has."""
    channels = x_t.shape[1]
    if output.shape[1] == channels:
        return output, None
    if output.shape[1] != 2 * channels:
        raise ValueError(f"the network's output must have {channels} or {2 * channels} channels, got {output.shape[1]}")
    predicted, variance = torch.chunk(output, 2, dim=1)
    return predicted, variance
