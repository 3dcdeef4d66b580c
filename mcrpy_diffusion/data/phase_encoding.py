"""Encoding of phases as network channels in [-1, 1], and back.

Two phases are one channel (0 -> -1, 1 -> +1), more phases one channel each (one-hot, -1 and +1), grey values g one
channel 2 g - 1. `n_phases` is the number of phases, 0 for grey values.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from mcrpy_diffusion.errors import InputError


def n_channels(n_phases: int) -> int:
    """Return the number of network channels C for `n_phases` phases (0: grey values).

    Raises
    ------
    InputError
        If `n_phases` is 1, negative or above 256.
    """
    if n_phases != 0 and not 2 <= n_phases <= 256:
        raise InputError(f"n_phases must be between 2 and 256, or 0 for grey values, got {n_phases!r}")
    return n_phases if n_phases > 2 else 1


def encode(phases: Any, n_phases: int) -> Any:
    """Encode phases as channels in [-1, 1].

    Parameters
    ----------
    phases : numpy array or torch tensor (N, I, J)
        Phases 0 .. n_phases - 1; for `n_phases` 0 grey values in [0, 1].
    n_phases : int
        Number of phases, 0 for grey values.

    Returns
    -------
    (N, C, I, J) float32, of the kind given (numpy or torch), C = `n_channels(n_phases)`

    Raises
    ------
    InputError
        If a value is outside the range above, or `phases` has not three axes.
    """
    channels = n_channels(n_phases)
    _check(phases, n_dims=3, low=0, high=1 if n_phases == 0 else n_phases - 1)
    if n_phases == 0:
        return 2 * _as_float32(phases[:, None]) - 1
    if n_phases == 2:
        return _as_float32(phases[:, None] == 1) * 2 - 1
    return _as_float32(phases[:, None] == _arange(channels, like=phases)[:, None, None]) * 2 - 1


def decode(x: Any, n_phases: int) -> Any:
    """Turn channels into phases: the sign for two phases, the largest channel for more, (x + 1) / 2 for grey.

    Parameters
    ----------
    x : numpy array or torch tensor (N, C, I, J)
        Channels, nominally in [-1, 1]; values outside are allowed. Two phases: 0 and below is phase 0.
    n_phases : int
        Number of phases, 0 for grey values.

    Returns
    -------
    (N, I, J) uint8 phases, or float32 grey values clipped to [0, 1]; of the kind given (numpy or torch)

    Raises
    ------
    InputError
        If the number of axes or channels does not fit, or a value is NaN.
    """
    if x.ndim != 4 or x.shape[1] != n_channels(n_phases):
        raise InputError(f"x must have the shape (N, {n_channels(n_phases)}, I, J), got {tuple(x.shape)}")
    if _holds_nan(x):
        raise InputError("x holds NaN; the network that made it has diverged")
    if n_phases == 0:
        return _as_float32((x[:, 0] + 1) / 2).clip(0, 1)
    return _as_uint8(x[:, 0] > 0 if n_phases == 2 else x.argmax(1))


def volume_fractions(phases: Any, n_phases: int) -> np.ndarray:
    """Return the volume fractions of the phases 1 .. n_phases - 1 of every image.

    Parameters
    ----------
    phases : numpy array or torch tensor (N, I, J)
        Phases 0 .. n_phases - 1; for `n_phases` 0 grey values in [0, 1].
    n_phases : int
        Number of phases, 0 for grey values.

    Returns
    -------
    numpy array (N, max(n_phases, 2) - 1) float64
        Fractions in [0, 1]; the fraction of phase 0 is 1 minus their sum. For grey values the mean grey value.
    """
    n_channels(n_phases)
    values = phases.detach().cpu().numpy() if _is_tensor(phases) else np.asarray(phases)
    _check(values, n_dims=3, low=0, high=1 if n_phases == 0 else n_phases - 1)
    if n_phases == 0:
        return values.mean(axis=(1, 2), dtype=np.float64)[:, None]
    return np.stack([(values == phase).mean(axis=(1, 2), dtype=np.float64) for phase in range(1, n_phases)], axis=1)


def _check(values: Any, *, n_dims: int, low: float, high: float) -> None:
    if values.ndim != n_dims:
        raise InputError(f"phases must have the shape (N, I, J), got {tuple(values.shape)}")
    if 0 not in values.shape and not (bool((values >= low).all()) and bool((values <= high).all())):
        raise InputError(f"phases must be between {low} and {high}, got {values.min()} to {values.max()}")


def _is_tensor(values: Any) -> bool:
    """Whether these are torch's; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(values, torch.Tensor)


def _holds_nan(values: Any) -> bool:
    return bool(values.isnan().any() if _is_tensor(values) else np.isnan(values).any())


def _as_float32(values: Any) -> Any:
    return values.float() if _is_tensor(values) else np.asarray(values, dtype=np.float32)


def _as_uint8(values: Any) -> Any:
    return values.byte() if _is_tensor(values) else np.asarray(values, dtype=np.uint8)


def _arange(stop: int, *, like: Any) -> Any:
    return sys.modules["torch"].arange(stop, device=like.device) if _is_tensor(like) else np.arange(stop)
