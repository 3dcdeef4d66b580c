"""The package's own group normalisation and dropout against PyTorch's."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from mcrpy_diffusion.diffusion.layers import (
    circular_pad,
    dropout,
    group_norm,
    group_norm_silu,
)

FORMATS = [torch.contiguous_format, torch.channels_last]


def draw(dtype, memory_format, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, 12, 8, 16, generator=generator, dtype=dtype) * 2 + 0.7
    scale, shift = (torch.randn(3, 12, generator=generator, dtype=dtype) for _ in range(2))
    norm = nn.GroupNorm(4, 12, dtype=dtype)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(12, generator=generator, dtype=dtype))
        norm.bias.copy_(torch.randn(12, generator=generator, dtype=dtype))
    leaves = [x.to(memory_format=memory_format), scale, shift]
    return norm, [leaf.requires_grad_() for leaf in leaves]


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("conditioned", [True, False])
@pytest.mark.parametrize("silu", [True, False])
def test_values_and_gradients_equal_those_of_torch(memory_format, conditioned, silu):
    norm, (x, scale, shift) = draw(torch.float64, memory_format)
    given = (scale, shift) if conditioned else ()
    found = (group_norm_silu if silu else group_norm)(x, norm, *given)
    expected = norm(x)
    if conditioned:
        expected = (1 + scale[:, :, None, None]) * expected + shift[:, :, None, None]
    if silu:
        expected = functional.silu(expected)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)  # PyTorch keeps mean and std in float32
    leaves = [x, norm.weight, norm.bias, *given]
    dy = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    for ours, theirs in zip(torch.autograd.grad(found, leaves, dy), torch.autograd.grad(expected, leaves, dy)):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_bfloat16_is_as_close_to_the_truth_as_torch(memory_format):
    truth_norm, truth = draw(torch.float64, memory_format)
    dy = torch.randn(truth[0].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scaled = (1 + truth[1][:, :, None, None]) * truth_norm(truth[0]) + truth[2][:, :, None, None]
    (exact,) = torch.autograd.grad(scaled, truth[:1], dy)

    def error(gradient):
        return float((gradient.double() - exact).norm() / exact.norm())

    x, scale, shift = (leaf.detach().bfloat16().requires_grad_() for leaf in truth)
    norm = nn.GroupNorm(4, 12)
    norm.load_state_dict({k: v.float() for k, v in truth_norm.state_dict().items()})
    ours = torch.autograd.grad(group_norm(x, norm, scale.float(), shift.float()), x, dy.bfloat16())[0]
    theirs = (1 + scale[:, :, None, None]) * norm.bfloat16()(x) + shift[:, :, None, None]
    theirs = torch.autograd.grad(theirs, x, dy.bfloat16())[0]
    assert error(ours) < 1.5 * error(theirs) + 0.005


def test_a_norm_without_weights_is_refused():
    with pytest.raises(ValueError, match="affine"):
        group_norm(torch.zeros(1, 4, 2, 2), nn.GroupNorm(2, 4, affine=False))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_keeps_the_mean_and_drops_the_right_share_everywhere(memory_format, p):
    torch.manual_seed(0)
    x = torch.ones(40, 25, 20, 10).to(memory_format=memory_format)
    y = dropout(x, p, training=True)
    assert y.is_contiguous(memory_format=memory_format)
    values = y.unique()
    torch.testing.assert_close(values, torch.tensor([0.0, 1 / (1 - p)]))
    sigma = (p / (1 - p) / x.numel()) ** 0.5
    assert abs(float(y.mean()) - 1) < 4 * sigma
    # each fourth number comes from the same bits of a word: none is special
    flat = (y if memory_format is torch.contiguous_format else y.permute(0, 2, 3, 1)).reshape(-1, 4)
    assert float((flat.mean(0) - 1).abs().max()) < 4 * 2 * sigma
    # neighbours are independent
    centred = (flat - 1) / (p / (1 - p)) ** 0.5
    correlation = centred.T @ centred / len(flat)
    assert float((correlation - torch.diag(correlation.diag())).abs().max()) < 5 / len(flat) ** 0.5
    torch.manual_seed(0)
    assert torch.equal(dropout(x, p, training=True), y)


def test_dropout_passes_the_gradient_of_what_it_keeps():
    x = torch.randn(2, 4, 6, 6).requires_grad_()
    y = dropout(x, 0.3, training=True)
    (dx,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(dx * x, y)


def test_dropout_does_nothing_in_evaluation_or_at_zero():
    x = torch.randn(2, 4, 6, 6)
    assert dropout(x, 0.3, training=False) is x
    assert dropout(x, 0.0, training=True) is x


def test_torch_s_dropout_takes_over_where_memory_is_not_dense():
    torch.manual_seed(0)
    x = torch.ones(4, 8, 20, 20)[:, ::2]
    y = dropout(x, 0.5, training=True)
    torch.manual_seed(0)
    assert torch.equal(y, functional.dropout(x, 0.5))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("extent", [(5, 7), (2, 3), (1, 4)])
def test_circular_padding_and_its_gradient_equal_those_of_torch(memory_format, extent):
    x = torch.randn(2, 3, *extent, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    found, expected = circular_pad(x), functional.pad(x, (1, 1, 1, 1), mode="circular")
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    dy = torch.randn(found.shape, dtype=x.dtype).to(memory_format=memory_format)
    (ours,), (theirs,) = torch.autograd.grad(found, x, dy), torch.autograd.grad(expected, x, dy)
    torch.testing.assert_close(ours, theirs)
    assert found.is_contiguous(memory_format=memory_format)
    assert ours.is_contiguous(memory_format=memory_format)
