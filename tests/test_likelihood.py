"""The variational bound against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mcrpy_diffusion.diffusion.denoiser import Denoised, NetworkDenoiser
from mcrpy_diffusion.diffusion.likelihood import prior_term, systematic_times, variational_bound
from mcrpy_diffusion.diffusion.losses import vlb_term
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule

GREY_LEVEL = 2 / 255  # width of the intervals that the decoder integrates over


def images(n=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, 1, 4, 3), generator=generator).double() / 127.5 - 1


def test_the_prior_is_the_kl_of_two_gaussians():
    schedule = NoiseSchedule.named("linear", 30)
    a = float(schedule.alpha_bar[-1])
    x_0 = torch.full((2, 1, 5, 5), 0.6, dtype=torch.float64)
    expected = 0.5 * ((1 - a) + a * 0.36 - 1 - math.log(1 - a)) / math.log(2)
    np.testing.assert_allclose(prior_term(x_0, schedule), expected, rtol=1e-9)


def test_the_exact_posterior_leaves_the_prior_and_the_decoder():
    """A network that knows x_0 has p_theta = q in all steps: only L_T and L_0 are left, the latter in closed form."""
    schedule, x_0 = NoiseSchedule.named("linear", 50), images()

    def network(x, t):
        eps = schedule.predict_noise(x_0, x, t)
        return torch.cat([eps, -torch.ones_like(eps)], dim=1)

    denoise = NetworkDenoiser(network, schedule, clip=False)
    bound = variational_bound(denoise, x_0, schedule, generator=torch.Generator().manual_seed(0))
    assert bound.terms.shape == (4, 49)
    np.testing.assert_allclose(bound.terms, 0, atol=1e-9)
    inside = math.erf(GREY_LEVEL / 2 / math.sqrt(2 * float(schedule.posterior_variance[1])))
    outermost = 0.5 * (1 + inside)
    edge = (x_0.abs() > 0.999).double()
    decoder = -(edge * math.log2(outermost) + (1 - edge) * math.log2(inside)).flatten(1).mean(1)
    np.testing.assert_allclose(bound.decoder, decoder, rtol=1e-9)
    np.testing.assert_allclose(bound.total, bound.prior + decoder, rtol=1e-9)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_bound_of_a_gaussian_is_its_entropy(name):
    """With the exact mean and the exact variance of each step nothing is lost: the chain rule of the likelihood."""
    std, schedule, generator = 0.1, NoiseSchedule.named(name, 300), torch.Generator().manual_seed(1)
    pixels = std * torch.randn(8, 1, 64, 64, generator=generator, dtype=torch.float64)
    x_0 = torch.round((pixels + 1) * 127.5) / 127.5 - 1
    before = torch.cat([torch.ones(1, dtype=torch.float64), schedule.alpha_bar[:-1]])
    variance, variance_before = (a * std**2 + 1 - a for a in (schedule.alpha_bar, before))
    true = (schedule.betas * variance_before / variance).log()  # of q(x_{t-1} | x_t), x_0 unknown
    v = 2 * (true - schedule.posterior_log_variance) / (schedule.log_betas - schedule.posterior_log_variance) - 1

    def network(x, t):
        a = schedule.alpha_bar[t].reshape(-1, 1, 1, 1)
        eps = (1 - a).sqrt() * x / (a * std**2 + 1 - a)
        return torch.cat([eps, v[t].reshape(-1, 1, 1, 1).expand_as(eps)], dim=1)

    denoise = NetworkDenoiser(network, schedule, clip=False)
    bound = variational_bound(denoise, x_0, schedule, generator=generator)
    entropy = 0.5 * math.log2(2 * math.pi * math.e * std**2) - math.log2(GREY_LEVEL)
    np.testing.assert_allclose(bound.total.mean(), entropy, atol=0.02)


def half_of_x_0():
    """A denoiser whose estimate does not depend on x_t, nor do the terms of the bound."""
    return lambda x_t, t: Denoised(0.5 * images())


@pytest.mark.parametrize("n", [1, 4])
def test_the_mean_over_all_draws_of_times_is_the_bound(n):
    """The decoder is by far the largest term: as one of the terms that are averaged it would upset the estimate."""
    schedule, x_0 = NoiseSchedule.named("linear", 40), images()
    whole = variational_bound(half_of_x_0(), x_0, schedule)
    assert float((whole.decoder / whole.terms.mean(1)).min()) > 20
    n_offsets = 156  # so many even offsets meet each time in equal numbers
    estimates = []
    for offset in (torch.arange(n_offsets) + 0.5) / n_offsets:
        times = systematic_times(40, n, offset.expand(4))
        estimates.append(variational_bound(half_of_x_0(), x_0, schedule, times=times).total)
    np.testing.assert_allclose(torch.stack(estimates).mean(0), whole.total, rtol=1e-9)


@pytest.mark.parametrize(("total", "n"), [(2, 1), (40, 5), (40, 39), (1000, 13)])
def test_times_are_drawn_once_and_evenly(total, n):
    drawn = systematic_times(total, n, torch.linspace(0, 1, 20_001, dtype=torch.float64)[:-1])
    assert int((drawn.diff(dim=0) < 1).sum()) == 0
    share = drawn.flatten().bincount(minlength=total)[1:] / 20_000
    np.testing.assert_allclose(share, n / (total - 1), atol=2e-3)


def test_a_term_is_that_of_its_time_and_image():
    schedule, x_0 = NoiseSchedule.named("linear", 40), images()
    denoise = NetworkDenoiser(lambda x, t: 0.5 * x, schedule, clip=False)
    times = torch.tensor([[7, 30, 7, 1]])
    generator = torch.Generator().manual_seed(0)
    found = variational_bound(denoise, x_0, schedule, generator=generator, times=times)
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randn(x_0.shape, generator=generator, dtype=torch.float64) for _ in range(2)]
    x_t = schedule.add_noise(x_0, draws[1], times[0])
    expected = vlb_term(denoise(x_t, times[0]), x_0, x_t, times[0], schedule)
    np.testing.assert_allclose(found.terms[:, 0], expected)
    np.testing.assert_allclose(found.total, found.prior + found.decoder + 39 * expected)


def test_impossible_times_are_refused():
    schedule, x_0 = NoiseSchedule.named("linear", 40), images()
    for times in (torch.full((1, 4), 40), torch.zeros(1, 4), torch.ones(1, 3), torch.ones(4)):
        with pytest.raises(ValueError, match="between 1 and 39"):
            variational_bound(NetworkDenoiser(lambda x, t: x, schedule), x_0, schedule, times=times.long())
