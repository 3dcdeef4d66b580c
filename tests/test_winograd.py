"""Winograd's convolution against PyTorch's direct one, and the choice between them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from mcrpy_diffusion.diffusion import winograd
from mcrpy_diffusion.diffusion.convolution import Convolution, can_be_winograd, winograd_pays
from mcrpy_diffusion.diffusion.unet import UNet

FORMATS = [torch.contiguous_format, torch.channels_last]


def direct(x, weight, bias, *, circular):
    if circular:
        x = functional.pad(x, (1, 1, 1, 1), mode="circular")
    return functional.conv2d(x, weight, bias, padding=0 if circular else 1)


def draw(dtype=torch.float64, shape=(3, 5, 8, 12), n_out=7, memory_format=torch.contiguous_format):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=dtype).to(memory_format=memory_format)
    weight = torch.randn(n_out, shape[1], 3, 3, generator=generator, dtype=dtype) / (9 * shape[1]) ** 0.5
    bias = torch.randn(n_out, generator=generator, dtype=dtype)
    return [tensor.requires_grad_() for tensor in (x, weight.to(memory_format=memory_format), bias)]


def test_the_matrices_filter_exactly():
    m = winograd.matrices(torch.float64)
    d, g = torch.randn(6, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    expected = functional.conv1d(d[None, None], g[None, None])[0, 0]
    torch.testing.assert_close(m.from_tiles @ ((m.kernel @ g) * (m.to_tiles @ d)), expected)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("circular", [True, False])
@pytest.mark.parametrize("chunk", [2**20, 36 * 7 * 3 * 2 * 2, 1])  # all, an image, a row of tiles at once
def test_values_and_gradients_are_those_of_the_direct_convolution(chunk, circular, memory_format, monkeypatch):
    monkeypatch.setattr(winograd, "CHUNK", chunk)
    leaves = draw(memory_format=memory_format)
    found, expected = (f(*leaves, circular=circular) for f in (winograd.convolve, direct))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    dy = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for ours, theirs in zip(torch.autograd.grad(found, leaves, dy), torch.autograd.grad(expected, leaves, dy)):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-11)


@pytest.mark.parametrize("circular", [True, False])
def test_the_gradients_are_those_of_finite_differences(circular):
    leaves = draw(shape=(2, 2, 4, 8), n_out=3)
    assert torch.autograd.gradcheck(lambda x, w, b: winograd.convolve(x, w, b, circular=circular), leaves)


def test_without_a_bias_and_with_gradients_of_some_alone():
    x, weight, _ = draw()
    y = winograd.convolve(x.detach(), weight, None, circular=False)
    torch.testing.assert_close(y, direct(x, weight, None, circular=False), rtol=0, atol=1e-12)
    y.sum().backward()
    assert weight.grad is not None
    assert x.grad is None


def test_rounding_errors_are_small():
    x, weight, _ = draw(torch.float32, (1, 128, 16, 16), 128)
    dy = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))

    def results(convolution, dtype):
        leaves = [x.to(dtype), weight.to(dtype)]
        y = convolution(*leaves, None, circular=False)
        return [t.detach().double() for t in (y, *torch.autograd.grad(y, leaves, dy.to(dtype)))]

    for exact, found in zip(results(direct, torch.float64), results(winograd.convolve, torch.float32)):
        assert float((found - exact).norm() / exact.norm()) < 1.6e-6  # 2.4e-6 with the points 0, 1, -1, 2, -2
        assert float((found - exact).abs().max() / exact.std()) < 2e-5


def test_the_same_images_give_the_same_bits():
    x, weight, bias = draw(torch.float32, (3, 64, 16, 16), 48)

    def everything():
        y = winograd.convolve(x, weight, bias, circular=True)
        return [y, *torch.autograd.grad(y.square().sum(), (x, weight, bias))]

    assert all(torch.equal(a, b) for a, b in zip(everything(), everything()))


def test_an_extent_that_cannot_be_cut_into_tiles_is_refused():
    x, weight, bias = draw(shape=(1, 2, 8, 6))
    with pytest.raises(ValueError, match="multiples of 4"):
        winograd.convolve(x, weight, bias, circular=False)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("circular", [True, False])
@pytest.mark.parametrize("channels", [4, 128])
def test_the_layer_is_torch_s(channels, circular, stride):
    ours = Convolution(channels, channels, circular=circular, stride=stride)
    mode = "circular" if circular else "zeros"
    theirs = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, padding_mode=mode)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, channels, 16, 24)
    torch.testing.assert_close(ours(x), theirs(x))


def test_the_choice_does_not_depend_on_the_number_of_images_where_no_gradient_is_wanted():
    weight = nn.Parameter(torch.randn(128, 128, 3, 3))
    for extent, pays in ((8, False), (16, True), (64, True)):
        with torch.no_grad():
            assert {winograd_pays(torch.empty(n, 128, extent, extent), weight) for n in (1, 2, 64)} == {pays}


@pytest.mark.parametrize(
    ("shape", "n_out", "circular", "pays"),
    [
        ((4, 256, 32, 32), 256, False, True),
        ((4, 256, 4, 4), 256, False, False),
        ((4, 1, 64, 64), 128, True, False),
        ((4, 128, 64, 64), 2, True, False),
        ((8, 96, 32, 32), 192, False, True),
        ((8, 96, 32, 32), 96, False, False),
        ((8, 48, 32, 32), 48, True, True),
        ((8, 32, 32, 32), 32, True, False),
    ],
)
def test_many_channels_and_pixels_make_it_pay(shape, n_out, circular, pays):
    weight = nn.Parameter(torch.empty(n_out, shape[1], 3, 3))
    assert winograd_pays(torch.empty(shape), weight, circular) is pays


def test_it_is_for_float32_on_processors_alone():
    x, weight = torch.empty(1, 8, 8, 8), torch.empty(8, 8, 3, 3)
    assert can_be_winograd(x, weight)
    assert not can_be_winograd(x[..., :6], weight)
    assert not can_be_winograd(x.bfloat16(), weight.bfloat16())
    assert not can_be_winograd(x.to("meta"), weight.to("meta"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not can_be_winograd(x, weight)


@pytest.mark.parametrize("padding", ["zeros", "circular"])
def test_the_network_predicts_the_same_with_and_without(padding, monkeypatch):
    torch.manual_seed(0)
    network = UNet(1, 2, channels=128, channel_multipliers=(1, 2), n_residual_blocks=1, dropout=0.0, padding=padding)
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.05)
    x, t = torch.randn(2, 1, 32, 32), torch.tensor([3, 500])
    calls = []
    convolve = winograd.convolve
    monkeypatch.setattr(winograd, "convolve", lambda *a, **k: calls.append(1) or convolve(*a, **k))

    def evaluate():
        network.zero_grad()
        y = network(x, t)
        y.square().mean().backward()
        return y.detach(), torch.cat([p.grad.flatten() for p in network.parameters()])

    found = evaluate()
    assert len(calls) > 3
    monkeypatch.setattr("mcrpy_diffusion.diffusion.convolution.winograd_pays", lambda *_: False)
    for ours, theirs in zip(found, evaluate()):
        assert float((ours - theirs).norm() / theirs.norm()) < 1e-4
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
