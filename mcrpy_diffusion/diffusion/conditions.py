"""What samples can be asked to satisfy, one denoiser around a denoiser each. A new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from mcrpy_diffusion.diffusion.denoiser import Denoiser
from mcrpy_diffusion.diffusion.volume_fraction import constrain_volume_fraction, exact_phases


@dataclass(frozen=True)
class Condition:
    """A condition on samples.

    Attributes
    ----------
    title : str
    wrap : callable
        (denoiser, value for the batch) -> denoiser that keeps to the value.
    to_phases : callable, optional
        (x_0 (B, C, ...), value) -> phases (B, ...), in place of rounding each pixel.
    """

    title: str
    wrap: Callable[[Denoiser, Any], Denoiser]
    to_phases: Callable[[Tensor, Any], Tensor] | None = None


CONDITIONS = {
    "volume_fraction": Condition("volume fractions of phases 1, 2, ...", constrain_volume_fraction, exact_phases),
    "requested_volume_fraction": Condition(
        "volume fractions of phases 1, 2, ... that were asked for",
        constrain_volume_fraction,
        partial(exact_phases, confident=1.0),
    ),
}
