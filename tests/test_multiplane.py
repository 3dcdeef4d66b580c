"""Volumes from a 2D denoiser: exact cases, slices one by one as an oracle, symmetries."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.denoiser import NetworkDenoiser
from mcrpy_diffusion.diffusion.log_odds import prior_log_odds
from mcrpy_diffusion.diffusion.multiplane import MultiPlane, turned, turned_back
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule

SCHEDULE = NoiseSchedule.named("cosine", 100)
T = torch.tensor([60])


def neighbours(x: Tensor) -> Tensor:
    """The sum of the four neighbours of each pixel, periodic."""
    return sum(x.roll(shift, axis) for axis in (-2, -1) for shift in (-1, 1))


def volume(*shape: int, channels: int = 1, seed: int = 0) -> Tensor:
    return torch.randn(1, channels, *shape, generator=torch.Generator().manual_seed(seed))


def multiplane(
    networks, prior: float | None = 0.3, prediction="log_odds", seed: int = 0, weight=0.45, **options
) -> MultiPlane:
    planes = [NetworkDenoiser(network, SCHEDULE, prediction, clip=False) for network in networks]
    half_odds = None if prior is None else torch.tensor([[prior]])
    return MultiPlane(planes, SCHEDULE, half_odds, torch.Generator().manual_seed(seed), weight=weight, **options)


def test_prior_and_own_evidence_count_once():
    """Independent voxels: the posterior of each follows from its own value by Bayes' rule."""
    x, fraction = volume(4, 6, 8), torch.tensor([[0.2]])
    prior = prior_log_odds(fraction)
    denoise = multiplane([lambda x, t: prior.reshape(1, 1, 1, 1).expand_as(x)] * 3, float(prior), weight=0.7)
    a = SCHEDULE.alpha_bar_at(60)
    likelihoods = [torch.exp(-((x - sign * a**0.5) ** 2) / (2 * (1 - a))) for sign in (-1, 1)]
    p = 0.2 * likelihoods[1] / (0.8 * likelihoods[0] + 0.2 * likelihoods[1])
    torch.testing.assert_close(denoise(x, T).x_0, 2 * p - 1)


def test_half_a_weight_is_exact_where_the_directions_are_independent():
    """Six neighbours that are independent given the voxel: each of them is seen in two planes."""
    x, prior = volume(8, 8, 8), 0.3
    denoise = multiplane([lambda x, t: prior + neighbours(x)] * 3, prior, weight=0.5)
    six = sum(x.roll(shift, axis) for axis in (2, 3, 4) for shift in (-1, 1))
    log_odds = denoise(x, T).log_odds
    assert log_odds is not None
    torch.testing.assert_close(log_odds.context, prior + six)


def test_planes_are_the_slices_perpendicular_to_the_axes():
    """Three networks that tell rows from columns, against loops over the slices."""
    x, estimate = volume(3, 4, 5), volume(3, 4, 5, seed=1)
    networks = [
        lambda x, t, estimate=None, k=k: k * x.cumsum(-1) - x.cumsum(-2) + (0 if estimate is None else estimate * k)
        for k in (1, 2, 3)
    ]
    denoise = multiplane(networks, 0.1, weight=0.4, symmetric=False, periodic=False)
    expected = torch.full_like(x, 0.1)
    for axis, network in enumerate(networks):
        for i in range(x.shape[2 + axis]):
            here = (slice(None), slice(None), *[slice(None)] * axis, i)
            expected[here] += 0.4 * (network(x[here], T, estimate[here]) - 0.1)
    log_odds = denoise(x, T, estimate).log_odds
    assert log_odds is not None
    torch.testing.assert_close(log_odds.context, expected)


def test_slabs_do_not_change_the_answer(monkeypatch):
    x = volume(6, 4, 8)
    whole = multiplane([lambda x, t: neighbours(x)] * 3)(x, T)
    monkeypatch.setattr("mcrpy_diffusion.diffusion.multiplane.SLAB_PIXELS", 70)
    torch.testing.assert_close(multiplane([lambda x, t: neighbours(x)] * 3)(x, T).x_0, whole.x_0)


def test_symmetries_and_shifts_leave_a_network_without_preferences_as_it_is():
    x = volume(8, 12, 4)
    plain = multiplane([lambda x, t: neighbours(x)] * 3, symmetric=False, periodic=False)(x, T)
    for seed in range(4):
        torch.testing.assert_close(multiplane([lambda x, t: neighbours(x)] * 3, seed=seed)(x, T).x_0, plain.x_0)


def test_symmetries_average_out_what_tells_rows_from_columns():
    x = volume(4, 4, 4)
    networks = [lambda x, t: x.roll(1, -1)] * 3
    denoise = multiplane(networks, 0.0, weight=0.5, periodic=False)
    answers = [denoise(x, T).log_odds for _ in range(400)]
    mean = torch.stack([each.context for each in answers if each is not None]).mean(0)
    six = sum(x.roll(shift, axis) for axis in (2, 3, 4) for shift in (-1, 1))
    torch.testing.assert_close(mean, six / 4, atol=0.2, rtol=0)


@pytest.mark.parametrize("k", range(8))
def test_each_symmetry_is_undone(k):
    x = volume(2, 4, 6)
    torch.testing.assert_close(turned_back(turned(x, k), k), x)
    assert len({tuple(turned(volume(1, 3, 3), i).flatten().tolist()) for i in range(8)}) == 8


def test_estimates_of_grey_values_and_their_variance_are_averaged():
    x = volume(4, 4, 4)
    networks = [lambda x, t, k=k: torch.cat([k * x, torch.full_like(x, k / 4)], dim=1) for k in (1, 2, 3)]
    denoised = multiplane(networks, None, "x_0", periodic=False, symmetric=False)(x, T)
    torch.testing.assert_close(denoised.x_0, 2 * x)
    torch.testing.assert_close(denoised.variance, torch.full_like(x, 0.5))


def test_the_prior_of_several_phases_gives_their_fractions():
    fractions = torch.tensor([[0.2, 0.5], [0.0, 1.0]])
    probabilities = (2 * prior_log_odds(fractions)).softmax(1)
    torch.testing.assert_close(probabilities, torch.tensor([[0.3, 0.2, 0.5], [0, 0, 1]]), atol=1e-5, rtol=0)
    assert prior_log_odds(fractions[:, :1]).shape == (2, 1)


def test_gradients_flow_through_the_planes():
    x = volume(4, 4, 4).requires_grad_()
    multiplane([lambda x, t: neighbours(x)] * 3)(x, T).x_0.sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().min()) > 0


def test_three_planes_are_needed():
    with pytest.raises(ValueError, match="planes must be 3"):
        multiplane([lambda x, t: x] * 2)
