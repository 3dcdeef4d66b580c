"""Samples in which some pixels are known: inpainting, continuing beyond an edge, a volume through given slices."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.denoiser import Denoised, Denoiser

CERTAIN = 40.0  # log odds whose probability is 1 in float32


@dataclass(frozen=True, eq=False)
class KnownPixels:
    """Pixels of all structures that are known.

    Parameters
    ----------
    image : Tensor, shape (C, ...), in [-1, 1]
    mask : Tensor of bool, shape (...)
        True where the image is known.
    """

    image: Tensor
    mask: Tensor

    def whole_fractions(self, fractions: Tensor) -> Tensor:
        """Volume fractions (B, C') of whole structures whose unknown pixels have the given ones."""
        means = ((self.image.double() + 1) / 2).where(self.mask, 0.0).flatten(1).mean(1)
        own = means if len(means) == 1 else means[1:]
        return own + fractions.double() * float((~self.mask).double().mean())


def keep_known_pixels(denoise: Denoiser, known: KnownPixels) -> Denoiser:
    """Make the expected x_0 that of the image where it is known.

    The log odds of known pixels are certain. Their noise is that of all pixels, so that no step has to be repeated, in
    contrast to noised pixels that are pasted into x_t (RePaint, Lugmayr et al. 2022,
    doi:10.1109/CVPR52688.2022.01117). Inside self-conditioning the network's next estimate starts from them too.
    """

    def constrained(x_t: Tensor, t: Tensor, estimate: Tensor | None = None, /) -> Denoised:
        denoised = denoise(x_t, t, estimate)
        image, mask = known.image.to(x_t), known.mask.to(x_t.device)
        log_odds = denoised.log_odds
        if log_odds is None:
            return replace(denoised, x_0=torch.where(mask, image, denoised.x_0))
        return Denoised.of_phases(log_odds.shifted(torch.where(mask, CERTAIN * image - log_odds.total, 0)))

    return constrained


def paste(x_0: Tensor, known: KnownPixels) -> Tensor:
    """Put the known pixels into sampled images (B, C, ...).

    Phases become -2 and 2, beyond all estimates, so that no rounding to a volume fraction changes them.
    """
    image = known.image.to(x_0)
    return torch.where(known.mask.to(x_0.device), torch.where(image.abs() == 1, 2 * image, image), x_0)
