"""Convolution with a kernel of 3 x 3 by Winograd's minimal filtering F(4 x 4, 3 x 3), for processors.

An output tile of 4 x 4 pixels takes 36 multiplications for each pair of channels, where the definition takes 144. With
d the tile of 6 x 6 input pixels behind it, and g the kernel,

    y = A^T [(G g G^T) * (B^T d B)] A,

summed over the input channels: the sums of all tiles are 36 matrix products. Lavin & Gray (2016), "Fast algorithms for
convolutional neural networks", arXiv:1509.09308, equations (6) to (12); the matrices are Toom's and Cook's.

Everything is made of PyTorch's copies and matrix products, in chunks of tiles that stay in the processor's cache. The
transforms are computed anew in the backward pass: nothing is kept but the images and the weights.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

OUT, KERNEL = 4, 3
TILE = OUT + KERNEL - 1
# Where the polynomials are evaluated, besides infinity. With these the rounding error in float32 is 1e-6 of the result
# (root mean square; 2e-7 to 9e-7 of direct convolution), half of what it is with Lavin & Gray's 0, 1, -1, 2, -2.
POINTS = (0.0, 0.75, -0.75, 1.5, -1.5)
CHUNK = 2**20  # numbers in the transformed tiles that are worked on at once: 4 MiB of float32


@dataclass(frozen=True)
class Matrices:
    """The transforms of one dimension.

    `to_tiles` B^T (6, 6), of input tiles; `kernel` G (6, 3), of kernels; `from_tiles` A^T (4, 6), of products.
    """

    to_tiles: Tensor
    kernel: Tensor
    from_tiles: Tensor


@functools.cache
def matrices(dtype: torch.dtype) -> Matrices:
    """Toom's and Cook's matrices for `POINTS`.

    Filtering is the transpose of a product of polynomials: both factors are evaluated at the points, the values
    multiplied, the product interpolated. Powers of two are moved from G to B^T until the rows of G are of order 1,
    which changes nothing but the range of the numbers.
    """
    points = torch.tensor(POINTS, dtype=torch.float64)
    infinity = torch.zeros(1, TILE, dtype=torch.float64)
    infinity[0, -1] = 1
    values = torch.cat([points[:, None] ** torch.arange(TILE), infinity])  # of polynomials of degree up to 5
    from_tiles = values[:, :OUT].clone()
    from_tiles[-1] = infinity[0, -OUT:]
    kernel = values[:, :KERNEL].clone()
    kernel[-1] = infinity[0, -KERNEL:]
    to_tiles = torch.linalg.inv(values).T
    balance = 2 ** kernel.abs().sum(1, keepdim=True).log2().round()
    return Matrices(*(m.to(dtype).contiguous() for m in (to_tiles * balance, kernel / balance, from_tiles.T)))


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, *, circular: bool) -> Tensor:
    """Convolution with padding 1 and stride 1.

    Parameters
    ----------
    x : Tensor, shape (B, C, I, J)
        On a processor, float32 or float64; I and J are multiples of 4.
    weight : Tensor, shape (C_out, C, 3, 3)
    bias : Tensor, shape (C_out,), optional
    circular : bool
        Whether images continue periodically, or with zeros.

    Returns
    -------
    Tensor, shape (B, C_out, I, J), channels in the last place
    """
    if x.shape[-1] % OUT or x.shape[-2] % OUT:
        raise ValueError(f"images are {tuple(x.shape[-2:])}; allowed are multiples of {OUT}")
    return _Convolution.apply(x, weight, bias, circular)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, circular: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.circular = circular
        return _convolve(x, _transformed(weight).transpose(1, 2), bias, circular)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        """The gradient to the image is the convolution of dy with the reversed kernels."""
        x, weight = ctx.saved_tensors
        dx = dw = db = None
        if ctx.needs_input_grad[0]:
            dx = _convolve(dy, _transformed(weight.flip(2, 3)), None, ctx.circular)
        if ctx.needs_input_grad[1]:
            dw = _weight_gradient(x, dy, ctx.circular)
        if ctx.needs_input_grad[2]:
            db = dy.sum((0, 2, 3))
        return dx, dw, db, None


def _convolve(x: Tensor, kernels: Tensor, bias: Tensor | None, circular: bool) -> Tensor:
    """Convolution with transformed kernels (36, C, C_out)."""
    images = x.permute(0, 2, 3, 1).contiguous()
    batch, rows, columns, channels = images.shape
    n_out = kernels.shape[2]
    y = images.new_empty(batch, rows // OUT, OUT, columns // OUT, OUT, n_out)
    for chunk in _chunks(batch, rows // OUT, columns // OUT * max(channels, n_out) * TILE**2):
        products = torch.bmm(_input_tiles(images, chunk, circular), kernels)
        out = y[chunk]
        tiles = _apply(matrices(x.dtype).from_tiles, products)
        tiles = tiles.view(OUT, OUT, out.shape[0], out.shape[1], out.shape[3], n_out).permute(2, 3, 0, 4, 1, 5)
        if bias is None:
            out.copy_(tiles)
        else:
            torch.add(tiles, bias, out=out)
    return y.view(batch, rows, columns, n_out).permute(0, 3, 1, 2)


def _weight_gradient(x: Tensor, dy: Tensor, circular: bool) -> Tensor:
    """Gradient to the weights, (C_out, C, 3, 3): dg = G^T [(A dy A^T) (B^T d B)] G, summed over all tiles."""
    images, slopes = x.permute(0, 2, 3, 1).contiguous(), dy.permute(0, 2, 3, 1).contiguous()
    batch, rows, columns, channels = images.shape
    n_out = slopes.shape[3]
    slopes = slopes.view(batch, rows // OUT, OUT, columns // OUT, OUT, n_out)
    transforms = matrices(x.dtype)
    total = images.new_zeros(TILE**2, n_out, channels)
    for chunk in _chunks(batch, rows // OUT, columns // OUT * max(channels, n_out) * TILE**2):
        tiles = slopes[chunk].permute(2, 4, 0, 1, 3, 5).reshape(OUT**2, -1, n_out)
        total.baddbmm_(_apply(transforms.from_tiles.T, tiles).transpose(1, 2), _input_tiles(images, chunk, circular))
    gradient = _apply(transforms.kernel.T, total)
    return gradient.view(KERNEL, KERNEL, n_out, channels).permute(2, 0, 1, 3).contiguous().permute(0, 3, 1, 2)


def _transformed(weight: Tensor) -> Tensor:
    """G g G^T of all kernels, (C_out, C, 3, 3) -> (36, C_out, C)."""
    return _apply(
        matrices(weight.dtype).kernel, weight.permute(2, 3, 0, 1).reshape(KERNEL**2, weight.shape[0], weight.shape[1])
    )


def _input_tiles(images: Tensor, chunk: tuple[slice, slice], circular: bool) -> Tensor:
    """B^T d B of the overlapping tiles of 6 x 6 pixels of a chunk, (B, I, J, C) -> (36, tiles, C)."""
    padded = _padded(images, chunk, circular)
    batch, rows, columns, channels = padded.shape
    by_image, by_row, by_column, _ = padded.stride()
    rows, columns = rows // OUT, columns // OUT  # of tiles
    tiles = padded.as_strided(
        (TILE, TILE, batch, rows, columns, channels),
        (by_row, by_column, by_image, OUT * by_row, OUT * by_column, 1),
    )
    return _apply(matrices(images.dtype).to_tiles, tiles.reshape(TILE**2, -1, channels))


def _padded(images: Tensor, chunk: tuple[slice, slice], circular: bool) -> Tensor:
    """The images and rows of tiles of a chunk, and one pixel around them."""
    n_rows = images.shape[1]
    first, last = chunk[1].start * OUT, chunk[1].stop * OUT  # rows of pixels
    inner = images[chunk[0], first:last]
    padded = functional.pad(inner, (0, 0, 1, 1, 1, 1))
    for place, row in ((0, first - 1), (-1, last)):
        if circular or 0 <= row < n_rows:
            padded[:, place, 1:-1] = images[chunk[0], row % n_rows]
    if circular:
        padded[:, :, 0] = padded[:, :, -2]
        padded[:, :, -1] = padded[:, :, 1]
    return padded


def _apply(matrix: Tensor, tiles: Tensor) -> Tensor:
    """Multiply tiles (n * n, P, C) from both sides by a matrix (m, n) and its transpose -> (m * m, P, C)."""
    m, n = matrix.shape
    half = torch.mm(matrix, tiles.reshape(n, -1))
    whole = torch.bmm(matrix.expand(m, m, n), half.view(m, n, -1))
    return whole.view(m * m, *tiles.shape[1:])


def _chunks(batch: int, rows: int, numbers_per_row: int) -> Iterator[tuple[slice, slice]]:
    """Split images of so many rows of tiles into chunks of about `CHUNK` numbers: (images, rows of tiles)."""
    rows_at_once = max(CHUNK // numbers_per_row, 1)
    images_at_once = max(rows_at_once // rows, 1)
    for image in range(0, batch, images_at_once):
        images = slice(image, min(image + images_at_once, batch))
        for row in range(0, rows, min(rows_at_once, rows)):
            yield images, slice(row, min(row + rows_at_once, rows))
