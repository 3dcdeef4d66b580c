"""Log odds of the phases of each pixel: its own evidence, which is exact, and what its surroundings say.

Phases are -1 and 1 in each channel, so eq. (3) gives the evidence of a pixel's own noisy value by Bayes' rule,
2 sqrt(alpha_bar) x_t / (1 - alpha_bar). A network with the prediction `log_odds` adds what follows from all the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule, at

SMALLEST_FRACTION = 1e-6  # keeps log odds finite


@dataclass(frozen=True)
class LogOdds:
    """Log odds in two parts, each half of its share; shapes (B, C, ...).

    Attributes
    ----------
    evidence : Tensor
        Of the pixel's own value.
    context : Tensor
        Of its surroundings: the output of the network, and what conditions add to it.
    """

    evidence: Tensor
    context: Tensor

    @classmethod
    def from_output(cls, output: Tensor, x_t: Tensor, t: Tensor, schedule: NoiseSchedule) -> LogOdds:
        """Combine a network's output at (x_t, t) with the evidence of x_t."""
        return cls(at(schedule.alpha_bar.sqrt() / (1 - schedule.alpha_bar), t, x_t) * x_t, output)

    @property
    def total(self) -> Tensor:
        """The log odds: of phase 1 where there is one channel, else of phase c up to a constant per pixel."""
        return 2 * (self.evidence + self.context)

    def probabilities(self) -> Tensor:
        """Probability of phase 1 where there is one channel, else of each phase, shape (B, C, ...)."""
        return self.total.sigmoid() if self.context.shape[1] == 1 else self.total.softmax(dim=1)

    def expected_x_0(self) -> Tensor:
        """E[x_0 | x_t] in [-1, 1]."""
        return 2 * self.probabilities() - 1

    def shifted(self, by: Tensor) -> LogOdds:
        """Add to the total, for instance (B, C, 1, 1)."""
        return LogOdds(self.evidence, self.context + by / 2)

    def extrapolated(self, before: LogOdds, ratio: float) -> LogOdds:
        """Carry the context on linearly from an earlier one; the evidence is that of now."""
        return LogOdds(self.evidence, self.context + (self.context - before.context) * ratio)


def prior_log_odds(fractions: Tensor) -> Tensor:
    """Half log odds of phases of which nothing but the volume fractions is known, as in `LogOdds.context`.

    Parameters
    ----------
    fractions : Tensor, shape (B, max(C - 1, 1)), in [0, 1]
        Of phases 1, 2, ...

    Returns
    -------
    Tensor, shape (B, C)
    """
    all_phases = torch.cat([1 - fractions.sum(1, keepdim=True), fractions], dim=1)
    half = all_phases.clamp(min=SMALLEST_FRACTION).log() / 2
    return half if half.shape[1] > 2 else half[:, 1:] - half[:, :1]
