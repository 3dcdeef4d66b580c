"""Layers where PyTorch's own are slow: on processors, with channels in the last place.

All give what PyTorch's give. Of images of 128 channels of 64 x 64 in bfloat16, PyTorch 2.15's backward pass of
group normalisation takes about ten times as long, circular padding and dropout three times
(benchmarks/layer_speed.py).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SUM_BLOCK = 64  # pixels whose sum is rounded to bfloat16 before the sums are added up in float32


def group_norm_silu(x: Tensor, norm: nn.GroupNorm, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
    """SiLU of (1 + scale) norm(x) + shift; arguments as in `group_norm`.

    On a processor nothing but x is kept for the backward pass.
    """
    weight, bias = _affine(x, norm, scale, shift)
    if x.device.type != "cpu":
        return functional.silu(_plain_group_norm(x, norm, weight, bias))
    return _GroupNorm.apply(x, weight, bias, norm.num_groups, norm.eps, True)


def group_norm(x: Tensor, norm: nn.GroupNorm, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
    """(1 + scale) norm(x) + shift.

    Parameters
    ----------
    x : Tensor, shape (B, C, I, J)
    norm : nn.GroupNorm
        Its weights, groups and epsilon are taken.
    scale, shift : Tensor, shape (B, C), optional
        Conditioning of each image and channel; 0 by default.
    """
    weight, bias = _affine(x, norm, scale, shift)
    if x.device.type != "cpu":
        return _plain_group_norm(x, norm, weight, bias)
    return _GroupNorm.apply(x, weight, bias, norm.num_groups, norm.eps, False)


class _GroupNorm(torch.autograd.Function):
    """h = a x_hat + b, x_hat = (x - mean) / std over each group of channels, a and b (B, C); then SiLU where wanted."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, b: Tensor, groups: int, eps: float, silu: bool) -> Tensor:
        batch, channels = x.shape[:2]
        pixels = x.shape[2] * x.shape[3]
        x_hat, mean, rstd = torch.native_group_norm(x, None, None, batch, channels, pixels, groups, eps)
        ctx.save_for_backward(x, a, b, mean, rstd)
        ctx.silu = silu
        torch.addcmul(_as_image(b, x), x_hat, _as_image(a, x), out=x_hat)
        return functional.silu(x_hat, inplace=True) if silu else x_hat

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:  # type: ignore[override]
        """With means over a group's pixels and channels: dx = (a dh - <a dh> - x_hat <a dh x_hat>) / std."""
        x, a, b, mean, rstd = ctx.saved_tensors
        batch, channels = x.shape[:2]
        groups = mean.shape[1]
        size = channels // groups
        wide = torch.float64 if x.dtype == torch.float64 else torch.float32
        mean, rstd = (m.to(wide).repeat_interleave(size, 1) for m in (mean, rstd))  # (B, C)
        if ctx.silu:
            h = torch.addcmul(_as_image(b - a * mean * rstd, x), x, _as_image(a * rstd, x))
            dh = torch.ops.aten.silu_backward(dy, h)
        else:
            dh = dy
        db = _pixel_sum(dh, wide)
        da = (_pixel_sum(dh * x, wide) - mean * db) * rstd

        def group_mean(values: Tensor) -> Tensor:
            means = values.reshape(batch, groups, size).sum(2) / (size * x.shape[2] * x.shape[3])
            return means.repeat_interleave(size, 1)

        along, constant = group_mean(a * da), group_mean(a * db)
        # dx = dh (a / std) + x q + r, with x_hat written out
        q = -rstd * rstd * along
        r = -rstd * constant - mean * q
        dx = torch.addcmul(_as_image(r, x), x, _as_image(q, x)).addcmul_(dh, _as_image(rstd * a, x))
        return dx, da.to(a.dtype), db.to(b.dtype), None, None, None


def _affine(x: Tensor, norm: nn.GroupNorm, scale: Tensor | None, shift: Tensor | None) -> tuple[Tensor, Tensor]:
    if norm.weight is None or norm.bias is None:
        raise ValueError("the normalisation must have weights (affine=True), got one without")
    weight, bias = norm.weight.expand(x.shape[:2]), norm.bias.expand(x.shape[:2])
    if scale is None or shift is None:
        return weight, bias
    return weight * (1 + scale), torch.addcmul(shift, bias, 1 + scale)


def _plain_group_norm(x: Tensor, norm: nn.GroupNorm, weight: Tensor, bias: Tensor) -> Tensor:
    x_hat = functional.group_norm(x, norm.num_groups, eps=norm.eps)
    return torch.addcmul(_as_image(bias, x), x_hat, _as_image(weight, x))


def circular_pad(x: Tensor) -> Tensor:
    """Continue images periodically by one pixel on each side, (B, C, I, J) -> (B, C, I + 2, J + 2).

    Channels stay in the last place where they are there, which PyTorch's own circular padding does not keep.
    """
    return _CircularPad.apply(x)


class _CircularPad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rows = torch.cat([x[:, :, -1:], x, x[:, :, :1]], 2)
        return torch.cat([rows[..., -1:], rows, rows[..., :1]], 3)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:  # type: ignore[override]
        """Each pixel gets what its copies got."""
        rows = dy[..., 1:-1].contiguous(memory_format=_dense_format(dy))
        rows[..., 0] += dy[..., -1]
        rows[..., -1] += dy[..., 0]
        dx = rows[:, :, 1:-1].contiguous(memory_format=_dense_format(dy))
        dx[:, :, 0] += rows[:, :, -1]
        dx[:, :, -1] += rows[:, :, 0]
        return dx


def dropout(x: Tensor, p: float, *, training: bool) -> Tensor:
    """Set each number to 0 with probability p (in steps of 1 / 65536) and multiply the others by 1 / (1 - p).

    The global generator is drawn from, 16 bits a number.
    """
    if not training or p == 0:
        return x
    dense = x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
    if x.device.type != "cpu" or not dense:
        return functional.dropout(x, p)
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    kept = words.view(torch.int16)[: x.numel()] >= round(p * 2**16) - 2**15
    return x * kept.to(x.dtype).mul_(1 / (1 - p)).as_strided(x.shape, x.stride())


def _dense_format(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format


def _as_image(values: Tensor, like: Tensor) -> Tensor:
    return values[:, :, None, None].to(like.dtype)


def _pixel_sum(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum over rows and columns, shape (B, C), in a wide precision.

    PyTorch's sum of bfloat16 casts the whole tensor first; a matrix product of blocks does not, and is wide inside.
    """
    flat = x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, x.shape[1])  # no copy where channels are last
    if x.dtype == torch.bfloat16 and flat.shape[1] % SUM_BLOCK == 0:
        blocks = flat.reshape(-1, SUM_BLOCK, flat.shape[2])
        flat = torch.matmul(x.new_ones(1, SUM_BLOCK), blocks).reshape(x.shape[0], -1, x.shape[1])
    return flat.sum(1, dtype=dtype)
