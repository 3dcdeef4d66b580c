"""Grey values of colours."""

from __future__ import annotations

from typing import Any

import numpy as np

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601), as in Pillow's conversion to grey."""


def luminance(image: Any) -> np.ndarray:
    """Return the grey values (I, J) of a Pillow image; transparency is ignored."""
    if image.mode in ("1", "L", "F", "I") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    if image.mode in ("LA", "La"):
        return np.asarray(image.convert("LA"))[..., 0].copy()
    return grey_of(np.asarray(image.convert("RGB")))


def grey_of(samples: np.ndarray) -> np.ndarray:
    """Return the grey values (I, J) of samples (I, J, 1 to 4): grey and alpha, or red, green, blue and alpha."""
    if samples.shape[-1] < 3:
        return samples[..., 0].copy()
    red, green, blue = (samples[..., k] for k in range(3))
    if (red == green).all() and (red == blue).all():
        return red.copy()  # grey already
    grey = sum(
        weight * channel.astype(np.float64) for weight, channel in zip(LUMINANCE, (red, green, blue), strict=True)
    )
    return np.asarray(grey if samples.dtype.kind == "f" else np.rint(grey)).astype(samples.dtype)
