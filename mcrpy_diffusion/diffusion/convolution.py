"""The network's convolutions with a kernel of 3 x 3, and the choice of how they are computed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mcrpy_diffusion.diffusion import winograd
from mcrpy_diffusion.diffusion.fast_layers import circular_pad


class Convolution(nn.Conv2d):
    """Convolution with a 3 x 3 kernel and padding 1.

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    circular : bool
        Whether images continue periodically, or with zeros.
    stride : int
    """

    def __init__(self, n_in: int, n_out: int, *, circular: bool, stride: int = 1) -> None:
        super().__init__(n_in, n_out, 3, stride=stride, padding=0 if circular else 1)
        self.circular = circular

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, n_in, I, J)."""
        if self.stride == (1, 1) and can_be_winograd(x, self.weight) and winograd_pays(x, self.weight, self.circular):
            return winograd.convolve(x, self.weight, self.bias, circular=self.circular)
        return super().forward(circular_pad(x) if self.circular else x)


def can_be_winograd(x: Tensor, weight: Tensor) -> bool:
    """Whether the images are float32 ones of a processor that can be cut into tiles, outside torch.compile."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and x.shape[-2] % winograd.OUT == x.shape[-1] % winograd.OUT == 0
    )


def winograd_pays(x: Tensor, weight: Tensor, circular: bool = False) -> bool:
    """Whether Winograd's convolution is faster than PyTorch's, as measured on an AVX2 processor.

    The transforms of the tiles are work for each of C + C_out channels, those of the weights work for each weight:
    there have to be enough channels, and enough tiles. From 128 channels on, a forward pass is 1.4 to 2 times as fast,
    a forward and a backward pass together 1.6 to 2.4 times. With gradients and circular padding, which costs PyTorch's
    convolution copies of the images and of their gradients, 40 channels are enough. benchmarks/README.md has the
    figures.

    Where no gradient is wanted the choice is the same for any number of images, so that a structure does not depend on
    those that are sampled with it.
    """
    n_out, n_in = weight.shape[:2]
    tiles = x.shape[-2] * x.shape[-1] // winograd.OUT**2
    if torch.is_grad_enabled() and weight.requires_grad:
        return x.shape[0] * tiles >= 64 and 1 / n_in + 1 / n_out <= (1 / 20 if circular else 1 / 64)
    return tiles >= 16 and 1 / n_in + 1 / n_out <= 1 / 64
