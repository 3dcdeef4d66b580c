"""The U-Net of Ho et al. (2020) as extended by Nichol & Dhariwal (2021): predicts from (x_t, t).

Two options beyond the paper make a network that a CPU can train in minutes: `patch_size` folds blocks of pixels into
channels before the first convolution, and `n_conditions` numbers per image (volume fractions) join the time embedding.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mcrpy_diffusion.diffusion.layers import circular_pad, dropout, group_norm, group_norm_silu


def timestep_embedding(t: Tensor, dim: int, *, max_period: float = 10000.0) -> Tensor:
    """Cosines and sines of t at `dim` / 2 geometric frequencies from 1 to 1 / max_period, shape (B, dim), float32."""
    half = dim // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, device=t.device) / half)
    angles = t[:, None].float() * frequencies[None]
    return torch.cat([angles.cos(), angles.sin()], dim=1)


Padding = Literal["zeros", "circular"]


class Convolution(nn.Conv2d):
    """Convolution with a 3 x 3 kernel that keeps the extent, or divides it by the stride."""

    def __init__(self, n_in: int, n_out: int, padding: Padding, *, stride: int = 1) -> None:
        super().__init__(n_in, n_out, 3, stride=stride, padding=0 if padding == "circular" else 1)
        self.circular = padding == "circular"

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(circular_pad(x) if self.circular else x)


class ResidualBlock(nn.Module):
    """GroupNorm, SiLU, convolution, twice; the embedding scales and shifts the second norm."""

    def __init__(self, n_in: int, n_out: int, n_embedding: int, dropout: float, padding: Padding) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(n_groups(n_in), n_in)
        self.conv_1 = Convolution(n_in, n_out, padding)
        self.embedding = nn.Linear(n_embedding, 2 * n_out)
        self.norm_2 = nn.GroupNorm(n_groups(n_out), n_out)
        self.dropout = dropout
        self.conv_2 = zeroed(Convolution(n_out, n_out, padding))
        self.skip = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv_1(group_norm_silu(x, self.norm_1))
        scale, shift = self.embedding(embedding).chunk(2, dim=1)
        h = group_norm_silu(h, self.norm_2, scale, shift)
        return self.skip(x) + self.conv_2(dropout(h, self.dropout, training=self.training))


class Attention(nn.Module):
    """Self-attention over all pixels, residual."""

    def __init__(self, channels: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.GroupNorm(n_groups(channels), channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        qkv = self.qkv(group_norm(x, self.norm)).reshape(
            batch, 3, self.n_heads, channels // self.n_heads, height * width
        )
        query, key, value = qkv.transpose(-1, -2).unbind(1)
        h = functional.scaled_dot_product_attention(query, key, value)
        return x + self.out(h.transpose(-1, -2).reshape(batch, channels, height, width))


class Downsample(nn.Module):
    """Convolution with stride 2."""

    def __init__(self, channels: int, padding: Padding) -> None:
        super().__init__()
        self.conv = Convolution(channels, channels, padding, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Nearest neighbour times 2, then a convolution."""

    def __init__(self, channels: int, padding: Padding) -> None:
        super().__init__()
        self.conv = Convolution(channels, channels, padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """A residual block and, on some levels, attention."""

    def __init__(self, block: ResidualBlock, attention: Attention | None) -> None:
        super().__init__()
        self.block = block
        self.attention = attention

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        x = self.block(x, embedding)
        return x if self.attention is None else self.attention(x)


class UNet(nn.Module):
    """Predict from a noisy image x_t and its time t.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of x_t and of the prediction (twice as many where the variance is learned).
    channels : int
        Width of the first level.
    channel_multipliers : sequence of int
        Width of each level over `channels`; each level has half the resolution of the one before.
    n_residual_blocks : int
        Residual blocks per level on the way down; one more on the way up.
    attention_levels : sequence of int
        Levels (0 is the finest) with self-attention; between the two ways there always is one.
    n_heads : int
    dropout : float, in [0, 1)
    patch_size : int
        p: blocks of p x p pixels become p^2 channels (pixel unshuffle).
    padding : "zeros" or "circular"
        Circular for periodic structures.
    n_conditions : int
        Numbers per image that condition the prediction.
    self_condition : bool
        Whether an estimate of the clean image joins x_t as further channels.
    time_scale : float
        Multiplies t before its embedding; 1000 / T makes embeddings independent of T.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        channels: int = 128,
        channel_multipliers: Sequence[int] = (1, 2, 2, 2, 2),
        n_residual_blocks: int = 3,
        attention_levels: Sequence[int] = (2,),
        n_heads: int = 1,
        dropout: float = 0.1,
        patch_size: int = 1,
        padding: Padding = "zeros",
        n_conditions: int = 0,
        self_condition: bool = False,
        time_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.channels, self.patch_size, self.time_scale = channels, patch_size, time_scale
        self.n_conditions, self.self_condition = n_conditions, self_condition
        self.stride = patch_size * 2 ** (len(channel_multipliers) - 1)
        n_embedding = 4 * channels
        self.time = nn.Sequential(nn.Linear(channels, n_embedding), nn.SiLU(), nn.Linear(n_embedding, n_embedding))
        self.condition = (
            nn.Sequential(nn.Linear(n_conditions, n_embedding), nn.SiLU(), nn.Linear(n_embedding, n_embedding))
            if n_conditions
            else None
        )

        def level(n_in: int, n_out: int, attend: bool) -> Level:
            block = ResidualBlock(n_in, n_out, n_embedding, dropout, padding)
            return Level(block, Attention(n_out, n_heads) if attend else None)

        width = channels * channel_multipliers[0]
        self.first = Convolution((1 + self_condition) * in_channels * patch_size**2, width, padding)
        self.down = nn.ModuleList()
        skips = [width]
        for i, multiplier in enumerate(channel_multipliers):
            for _ in range(n_residual_blocks):
                self.down.append(level(width, channels * multiplier, i in attention_levels))
                width = channels * multiplier
                skips.append(width)
            if i + 1 < len(channel_multipliers):
                self.down.append(Downsample(width, padding))
                skips.append(width)
        self.middle = nn.ModuleList([level(width, width, True), level(width, width, False)])
        self.up = nn.ModuleList()
        for i, multiplier in reversed(list(enumerate(channel_multipliers))):
            for _ in range(n_residual_blocks + 1):
                self.up.append(level(width + skips.pop(), channels * multiplier, i in attention_levels))
                width = channels * multiplier
            if i > 0:
                self.up.append(Upsample(width, padding))
        self.last_norm = nn.GroupNorm(n_groups(width), width)
        self.last = zeroed(Convolution(width, out_channels * patch_size**2, padding))

    def forward(self, x: Tensor, t: Tensor, conditions: Tensor | None = None, estimate: Tensor | None = None) -> Tensor:
        """Predict.

        Parameters
        ----------
        x : Tensor, shape (B, in_channels, I, J)
            I and J are multiples of `stride`.
        t : Tensor, shape (B,)
        conditions : Tensor, shape (B, n_conditions), where the network was made with some
        estimate : Tensor, shape of x, optional
            Estimate of the clean image, where the network was made with `self_condition`; 0 by default.

        Returns
        -------
        Tensor, shape (B, out_channels, I, J)
        """
        if x.shape[-1] % self.stride or x.shape[-2] % self.stride:
            raise ValueError(f"rows and columns must be multiples of {self.stride}, got {tuple(x.shape[-2:])}")
        embedding = self.time(timestep_embedding(t * self.time_scale, self.channels))
        if self.condition is not None:
            if conditions is None:
                raise ValueError(f"conditions must have {self.n_conditions} numbers per image, got none")
            embedding = embedding + self.condition(conditions)
        embedding = functional.silu(embedding)
        if self.self_condition:
            x = torch.cat([x, torch.zeros_like(x) if estimate is None else estimate], dim=1)
        x = x.to(memory_format=torch.channels_last)
        h = self.first(functional.pixel_unshuffle(x, self.patch_size).to(self.first.weight.dtype))
        skips = [h]
        for module in self.down:
            h = module(h) if isinstance(module, Downsample) else module(h, embedding)
            skips.append(h)
        for module in self.middle:
            h = module(h, embedding)
        for module in self.up:
            h = module(h) if isinstance(module, Upsample) else module(torch.cat([h, skips.pop()], dim=1), embedding)
        h = self.last(group_norm_silu(h, self.last_norm))
        return functional.pixel_shuffle(h, self.patch_size)


def with_convolutions_in(network: UNet, dtype: torch.dtype) -> UNet:
    """Return a copy whose convolutions, and the images between them, are of another precision.

    Cheaper than autocast where a network is only evaluated: the weights are cast once. The embeddings stay as they
    are; the output is of the new precision.
    """
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.to(dtype)
    return network


def n_groups(channels: int) -> int:
    """32 groups, as in the paper's network, or the largest number below that divides the channels."""
    return next(g for g in range(min(32, channels), 0, -1) if channels % g == 0)


def zeroed(module: nn.Conv2d) -> nn.Conv2d:
    """Set weights and bias to zero: residual branches start as the identity, the network as zero."""
    nn.init.zeros_(module.weight)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module
