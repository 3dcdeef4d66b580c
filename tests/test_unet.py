"""The network: size, shapes, symmetries."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mcrpy_diffusion.diffusion.unet import UNet, n_groups


def small(**options):
    torch.manual_seed(0)
    settings = {"channels": 16, "channel_multipliers": (1, 2), "n_residual_blocks": 1, "attention_levels": (1,)}
    network = UNet(**{"in_channels": 1, "out_channels": 1, **settings, "dropout": 0.0, **options}).eval()
    for parameter in network.parameters():  # the zero-initialised layers would hide everything
        parameter.data.normal_(0, 0.1)
    return network


def test_the_papers_network_has_65_million_weights_and_62_gflop():
    with torch.device("meta"):
        network = UNet(1, 2)
        assert sum(p.numel() for p in network.parameters()) == 64_867_458
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(torch.zeros(1, 1, 64, 64), torch.zeros(1))
    assert counter.get_total_flops() == pytest.approx(62e9, rel=0.01)


def test_a_new_network_predicts_zero():
    network = UNet(1, 1, channels=16, channel_multipliers=(1, 2), n_residual_blocks=1)
    assert float(network(torch.randn(2, 1, 8, 8), torch.tensor([0, 5])).abs().max()) == 0


@pytest.mark.parametrize(("patch_size", "shape"), [(1, (8, 12)), (2, (8, 16)), (4, (16, 24))])
def test_shapes_of_any_channels_and_extents(patch_size, shape):
    network = small(in_channels=3, out_channels=6, patch_size=patch_size)
    assert network(torch.randn(2, 3, *shape), torch.tensor([1, 2])).shape == (2, 6, *shape)


def test_an_extent_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="multiples of 8"):
        small(patch_size=4)(torch.zeros(1, 1, 12, 8), torch.zeros(1))


def test_circular_padding_makes_the_network_periodic_and_zero_padding_does_not():
    x, t = torch.randn(1, 1, 16, 16), torch.tensor([3])
    for padding, equal in (("circular", True), ("zeros", False)):
        network = small(padding=padding)
        with torch.no_grad():
            shifted = network(x.roll((4, -6), (2, 3)), t)
            expected = network(x, t).roll((4, -6), (2, 3))
        assert torch.allclose(shifted, expected, atol=1e-4) is equal


def test_the_time_and_the_conditions_matter_and_images_do_not_mix():
    network = small(n_conditions=2)
    x = torch.randn(3, 1, 8, 8)
    t, c = torch.tensor([1, 50, 50]), torch.tensor([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    with torch.no_grad():
        together = network(x[:1].repeat(3, 1, 1, 1), t, c)
        alone = network(x[:1], t[1:2], c[1:2])
    assert not torch.allclose(together[0], together[1], atol=1e-3)
    assert not torch.allclose(together[1], together[2], atol=1e-3)
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="conditions"):
        network(x, t)


def test_groups_divide_the_channels():
    assert [n_groups(c) for c in (128, 48, 96, 7, 2)] == [32, 24, 32, 7, 2]
