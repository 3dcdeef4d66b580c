"""Encoding of phases as network channels in [-1, 1], and decoding.

Two phases are one channel (0 -> -1, 1 -> +1). More phases are one-hot channels with -1 and +1. Grey values g are one
channel 2 g - 1. `n_phases` is the number of phases, or 0 for grey values. Phases are 0 .. n_phases - 1, grey values are
in [0, 1].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mcrpy_diffusion.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def n_channels(n_phases: int) -> int:
    """Return the number of channels C; raise InputError unless `n_phases` is 0 or between 2 and 256."""
    if n_phases != 0 and not 2 <= n_phases <= 256:
        raise InputError(f"n_phases must be between 2 and 256, or 0 for grey values, got {n_phases!r}")
    return n_phases if n_phases > 2 else 1


def encode(phases: Tensor, n_phases: int) -> Tensor:
    """Encode phases or grey values (N, I, J) or (N, I, J, K) as channels (N, C, ...) float32 in [-1, 1].

    Raises
    ------
    InputError
        If a value is out of range, or `phases` has another number of axes.
    """
    import torch

    channels = n_channels(n_phases)
    _check(phases, n_phases)
    if n_phases == 0:
        return 2 * phases[:, None].float() - 1
    numbers = torch.arange(channels, device=phases.device).reshape(-1, *[1] * (phases.ndim - 1)) if channels > 1 else 1
    return (phases[:, None] == numbers).float() * 2 - 1


def decode(x: Tensor, n_phases: int) -> Tensor:
    """Decode channels (N, C, I, J) or (N, C, I, J, K): the sign for two phases, the largest channel for more.

    Returns
    -------
    (N, ...) uint8 phases, or float32 grey values (x + 1) / 2 clipped to [0, 1]

    Raises
    ------
    InputError
        If the number of axes or channels is wrong, or a value is NaN.
    """
    if x.ndim not in (4, 5) or x.shape[1] != n_channels(n_phases):
        raise InputError(f"x must have the shape (N, {n_channels(n_phases)}, I, J[, K]), got {tuple(x.shape)}")
    if x.isnan().any():
        raise InputError("x must not contain NaN; the network has diverged")
    if n_phases == 0:
        return ((x[:, 0] + 1) / 2).float().clip(0, 1)
    return (x[:, 0] > 0 if n_phases == 2 else x.argmax(1)).byte()


def volume_fractions(phases: np.ndarray, n_phases: int) -> np.ndarray:
    """Return the volume fractions (N, max(n_phases, 2) - 1) float64 of phases 1, 2, ... of images.

    `phases` are (N, I, J) or (N, I, J, K).

    For grey values it is the mean grey value. Raises as `encode`.
    """
    n_channels(n_phases)
    _check(phases, n_phases)
    flat = phases.reshape(len(phases), -1)
    if n_phases == 0:
        return flat.mean(axis=1, dtype=np.float64)[:, None]
    return np.stack([(flat == phase).mean(axis=1, dtype=np.float64) for phase in range(1, n_phases)], axis=1)


def _check(values: Any, n_phases: int) -> None:
    high = 1 if n_phases == 0 else n_phases - 1
    if values.ndim not in (3, 4):
        raise InputError(f"phases must have the shape (N, I, J) or (N, I, J, K), got {tuple(values.shape)}")
    if 0 not in values.shape and not (bool((values >= 0).all()) and bool((values <= high).all())):
        raise InputError(f"phases must be between 0 and {high}, got {values.min()} to {values.max()}")
