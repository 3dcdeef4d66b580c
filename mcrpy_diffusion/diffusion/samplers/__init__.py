"""Samplers: from noise to images. A new one is a file here and a line in `settings.sampling.SAMPLERS`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from torch import Tensor


def sampler(name: str) -> Callable[..., Tensor]:
    """Return the function `sample` of the sampler of that name; see `ddim.sample` for its parameters."""
    sample: Callable[..., Tensor] = import_module(f"{__name__}.{name}").sample
    return sample
