"""Losses against closed forms and diffusers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from mcrpy_diffusion.diffusion.denoiser import from_output
from mcrpy_diffusion.diffusion.log_odds import LogOdds
from mcrpy_diffusion.diffusion.losses import (
    discretised_gaussian_nll,
    hybrid_loss,
    likelihood_loss,
    normal_kl,
    simple_loss,
    velocity_loss,
    vlb_term,
)
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
from mcrpy_diffusion.diffusion.reverse_process import reverse_distribution


def draw(n=6, channels=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x_0 = torch.rand(n, channels, 4, 5, generator=generator, dtype=torch.float64) * 2 - 1
    return x_0, torch.randn(x_0.shape, generator=generator, dtype=torch.float64)


def denoised(output, x_t, t, schedule, *, clip=False):
    """What a network of this output, which predicts the noise, answers."""
    return from_output(output, x_t, t, schedule, prediction="epsilon", clip=clip)


def test_kl_equals_its_integral():
    x = np.linspace(-30, 30, 400_001)
    m_1, s_1, m_2, s_2 = 0.3, 0.7, -0.5, 1.4
    log_p = -((x - m_1) ** 2) / (2 * s_1**2) - math.log(s_1)
    log_q = -((x - m_2) ** 2) / (2 * s_2**2) - math.log(s_2)
    expected = np.sum(np.exp(log_p) / math.sqrt(2 * math.pi) * (log_p - log_q)) * (x[1] - x[0])
    arguments = [torch.tensor(v, dtype=torch.float64) for v in (m_1, 2 * math.log(s_1), m_2, 2 * math.log(s_2))]
    np.testing.assert_allclose(normal_kl(*arguments), expected, rtol=1e-6)


def test_the_probabilities_of_all_grey_levels_add_up_to_one():
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    for mean, log_variance in ((0.2, -3.0), (-0.99, -6.0), (0.0, 1.0)):
        nll = discretised_gaussian_nll(levels, torch.tensor(mean), torch.tensor(log_variance, dtype=torch.float64))
        np.testing.assert_allclose(torch.exp(-nll).sum(), 1, atol=1e-8)


@pytest.mark.parametrize("t", [1, 5, 50, 99])
def test_the_bound_of_the_exact_posterior_is_zero(t):
    """The true noise and v = -1 (the posterior's own variance): p_theta is q, and the KL is 0."""
    schedule = NoiseSchedule.named("linear", 100)
    x_0, noise = draw()
    times = torch.full((len(x_0),), t)
    x_t = schedule.add_noise(x_0, noise, times)
    output = torch.cat([noise, -torch.ones_like(noise)], dim=1)
    np.testing.assert_allclose(
        vlb_term(denoised(output, x_t, times, schedule), x_0, x_t, times, schedule), 0, atol=1e-9
    )
    wrong = torch.cat([noise + 0.1, -torch.ones_like(noise)], dim=1)
    assert float(vlb_term(denoised(wrong, x_t, times, schedule), x_0, x_t, times, schedule).min()) > 1e-4


def test_the_bound_at_zero_is_the_decoder_in_bits_per_dimension():
    schedule = NoiseSchedule.named("linear", 100)
    x_0, noise = draw()
    times = torch.zeros(len(x_0), dtype=torch.long)
    x_t = schedule.add_noise(x_0, noise, times)
    output = torch.cat([noise, torch.zeros_like(noise)], dim=1)
    answer = denoised(output, x_t, times, schedule)
    mean, log_variance = reverse_distribution(answer, x_t, times, schedule)
    expected = discretised_gaussian_nll(x_0, mean, log_variance).flatten(1).mean(1) / math.log(2)
    np.testing.assert_allclose(
        vlb_term(denoised(output, x_t, times, schedule), x_0, x_t, times, schedule), expected, rtol=1e-12
    )


def test_exact_noise_has_no_simple_loss_and_the_total_is_equation_12():
    schedule = NoiseSchedule.named("linear", 400)
    x_0, noise = draw(channels=2)
    t = torch.tensor([0, 1, 20, 100, 300, 399])
    x_t = schedule.add_noise(x_0, noise, t)
    v = torch.rand(noise.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    exact = hybrid_loss(torch.cat([noise, v], 1), x_0, x_t, t, noise, schedule)
    np.testing.assert_allclose(exact.simple, 0)
    off = hybrid_loss(torch.cat([noise + 0.5, v], 1), x_0, x_t, t, noise, schedule)
    np.testing.assert_allclose(off.simple, 0.25)
    np.testing.assert_allclose(off.total, 0.25 + 0.001 * 400 * off.vlb, rtol=1e-12)
    assert off.simple.shape == off.vlb.shape == off.total.shape == (6,)


def test_the_bound_trains_the_variance_alone():
    schedule = NoiseSchedule.named("linear", 100)
    x_0, noise = draw()
    t = torch.full((len(x_0),), 40)
    x_t = schedule.add_noise(x_0, noise, t)
    output = torch.cat([noise + 0.3, torch.zeros_like(noise)], dim=1).requires_grad_()
    (gradient,) = torch.autograd.grad(hybrid_loss(output, x_0, x_t, t, noise, schedule).vlb.sum(), output)
    assert float(gradient[:, :1].abs().max()) == 0
    assert float(gradient[:, 1:].abs().min()) > 0


@pytest.mark.parametrize("t", [0, 1, 37, 99])
def test_reverse_distribution_equals_that_of_diffusers(t):
    theirs = DDPMScheduler(
        num_train_timesteps=100, beta_start=1e-3, beta_end=0.2, variance_type="learned_range", clip_sample=True
    )
    schedule = NoiseSchedule(theirs.betas.double())
    x_t, output = draw(channels=1, seed=3)[1], draw(channels=2, seed=4)[1].clamp(-1, 1)
    times = torch.full((len(x_t),), t)
    answer = denoised(output, x_t, times, schedule, clip=True)
    mean, log_variance = reverse_distribution(answer, x_t, times, schedule)
    step = theirs.step(output, t, x_t, generator=torch.Generator().manual_seed(6))
    torch.testing.assert_close(answer.x_0, step.pred_original_sample, rtol=1e-5, atol=1e-5)
    noise = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(6), dtype=x_t.dtype)
    expected = mean if t == 0 else mean + (0.5 * log_variance).exp() * noise
    torch.testing.assert_close(expected, step.prev_sample, rtol=1e-5, atol=1e-5)


def test_the_variance_runs_from_beta_tilde_to_beta():
    schedule = NoiseSchedule.named("linear", 100)
    x_t = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
    t = torch.tensor([50])
    for v, expected in ((-1, schedule.posterior_variance[50]), (1, schedule.betas[50])):
        output = torch.cat([x_t, torch.full_like(x_t, v)], dim=1)
        _, log_variance = reverse_distribution(denoised(output, x_t, t, schedule), x_t, t, schedule)
        np.testing.assert_allclose(log_variance.exp(), float(expected), rtol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_without_surroundings_the_phase_probabilities_are_bayes_rule(channels):
    """A network that adds nothing: the odds are those of normal densities around the coded phases."""
    schedule = NoiseSchedule.named("cosine", 100)
    t, n = torch.tensor([60]), 2 if channels == 1 else channels
    codes = np.array([[-1.0], [1.0]]) if channels == 1 else 2 * np.eye(n) - 1
    x_t = np.random.default_rng(0).normal(size=channels)
    a = float(schedule.alpha_bar[60])
    likelihood = np.exp(-((x_t - a**0.5 * codes) ** 2).sum(1) / (2 * (1 - a)))
    expected = likelihood / likelihood.sum()
    x = torch.from_numpy(x_t).reshape(1, channels, 1, 1)
    log_odds = LogOdds.from_output(torch.zeros_like(x), x, t, schedule)
    found = log_odds.probabilities()[0, :, 0, 0].numpy()
    np.testing.assert_allclose(found, expected[1:] if channels == 1 else expected, rtol=1e-9)
    x_0 = log_odds.expected_x_0()[0, :, 0, 0].numpy()
    np.testing.assert_allclose(x_0, (expected[:, None] * codes).sum(0), rtol=1e-9)


def test_the_velocity_loss_is_the_simple_loss_of_the_predicted_velocity():
    schedule = NoiseSchedule.named("cosine", 100)
    x_0, noise = draw()
    t = torch.tensor([0, 5, 30, 60, 90, 97])
    x_t = schedule.add_noise(x_0, noise, t)
    output = draw(seed=8)[1]
    expected = simple_loss(output, schedule.target(x_0, noise, t, "v"))
    found = velocity_loss(schedule.predict_x_0(output, x_t, t, "v"), x_0, t, schedule)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_the_likelihood_loss_is_the_divergence_of_one_step_times_all_steps():
    schedule = NoiseSchedule.named("cosine", 100)
    x_0, noise = draw()
    t = torch.tensor([1, 5, 30, 60, 90, 97])
    x_t = schedule.add_noise(x_0, noise, t)
    predicted = draw(seed=8)[0]
    mean, log_variance = schedule.posterior(x_0, x_t, t)
    expected = normal_kl(mean, log_variance, schedule.posterior(predicted, x_t, t)[0], log_variance)
    found = likelihood_loss(predicted, x_0, t, schedule)
    torch.testing.assert_close(found, 100 * expected.flatten(1).mean(1), rtol=1e-9, atol=1e-9)
    at_zero, at_one = (likelihood_loss(predicted, x_0, torch.full_like(t, time), schedule) for time in (0, 1))
    torch.testing.assert_close(at_zero, at_one)  # the decoder's place


def test_the_likelihood_loss_of_independent_pixels_is_their_entropy():
    """Of fair coins the best network adds nothing to a pixel's own evidence, and the loss is log 2 a pixel."""
    schedule = NoiseSchedule.named("cosine", 1000)
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.randint(2, (1000, 1, 16, 16), generator=generator).double() * 2 - 1
    t = torch.arange(1000)
    x_t = schedule.add_noise(x_0, torch.randn(x_0.shape, generator=generator, dtype=torch.float64), t)
    predicted = LogOdds.from_output(torch.zeros_like(x_t), x_t, t, schedule).expected_x_0()
    assert abs(likelihood_loss(predicted, x_0, t, schedule).mean() - math.log(2)) < 0.01
