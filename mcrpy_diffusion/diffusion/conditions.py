"""What samples can be asked to satisfy, one denoiser around a denoiser each. A new one is a file and a line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from mcrpy_diffusion.diffusion.denoiser import Denoiser
from mcrpy_diffusion.diffusion.known_pixels import keep_known_pixels, paste
from mcrpy_diffusion.diffusion.steering import steer
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
    finish : callable, optional
        (x_0 (B, C, ...), value) -> x_0, before any of them is rounded.
    inside : bool
        Whether self-conditioning is given the estimate that keeps to the value, in place of the network's own.
    """

    title: str
    wrap: Callable[[Denoiser, Any], Denoiser]
    to_phases: Callable[[Tensor, Any], Tensor] | None = None
    finish: Callable[[Tensor, Any], Tensor] | None = None
    inside: bool = False


CONDITIONS = {
    "known_pixels": Condition("known pixels", keep_known_pixels, finish=paste, inside=True),
    "descriptors": Condition("descriptors", steer),
    "volume_fraction": Condition("volume fractions of phases 1, 2, ...", constrain_volume_fraction, exact_phases),
    "requested_volume_fraction": Condition(
        "volume fractions of phases 1, 2, ... that were asked for",
        constrain_volume_fraction,
        partial(exact_phases, confident=1.0),
    ),
}
