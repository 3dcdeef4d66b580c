"""Schedules and the forward process against closed forms and diffusers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule, cosine_beta_schedule, linear_beta_schedule


def test_linear_schedule_ends_and_total_noise_do_not_depend_on_the_number_of_steps():
    betas = linear_beta_schedule(4000)
    assert betas.dtype == torch.float64
    assert betas.shape == (4000,)
    np.testing.assert_allclose([betas[0], betas[-1]], [2.5e-5, 5e-3], rtol=1e-12)
    ends = [float(NoiseSchedule.named("linear", n).alpha_bar[-1].log()) for n in (1000, 4000)]
    np.testing.assert_allclose(ends[0], ends[1], rtol=0.01)


@pytest.mark.parametrize(("name", "peer"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_betas_equal_those_of_diffusers(name, peer):
    theirs = DDPMScheduler(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule=peer)
    np.testing.assert_allclose(NoiseSchedule.named(name, 1000).betas, theirs.betas, rtol=1e-5)


def test_cosine_alpha_bar_is_the_squared_cosine_until_the_last_steps():
    t = np.arange(1, 1001) / 1000
    expected = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    alpha_bar = NoiseSchedule(cosine_beta_schedule(1000)).alpha_bar
    np.testing.assert_allclose(alpha_bar[:-2], expected[:-2], rtol=1e-9)


def test_noise_is_added_with_the_variance_of_equation_3():
    schedule = NoiseSchedule.named("linear", 100)
    x_0 = torch.tensor([[2.0], [2.0]], dtype=torch.float64)
    t = torch.tensor([0, 70])
    x_t = schedule.add_noise(x_0, torch.ones_like(x_0), t)
    a = np.cumprod(1 - schedule.betas.numpy())[[0, 70]]
    np.testing.assert_allclose(x_t[:, 0], 2 * np.sqrt(a) + np.sqrt(1 - a), rtol=1e-12)


def test_steps_of_equation_1_compose_to_equation_3():
    schedule = NoiseSchedule.named("cosine", 50)
    mean, variance = 1.0, 0.0
    for beta in schedule.betas.tolist():
        mean, variance = (1 - beta) ** 0.5 * mean, (1 - beta) * variance + beta
    np.testing.assert_allclose([mean, variance], [schedule.alpha_bar[-1] ** 0.5, 1 - schedule.alpha_bar[-1]], rtol=1e-9)


def test_posterior_equals_bayes_rule_on_a_grid():
    schedule = NoiseSchedule.named("linear", 30)
    t, x_0, x_t = 12, 0.4, -0.7
    x = np.linspace(-6, 6, 200_001)
    beta, a = float(schedule.betas[t]), float(schedule.alpha_bar[t - 1])
    log_density = -((x_t - (1 - beta) ** 0.5 * x) ** 2) / (2 * beta) - (x - a**0.5 * x_0) ** 2 / (2 * (1 - a))
    weights = np.exp(log_density - log_density.max())
    weights /= weights.sum()
    mean = (weights * x).sum()
    variance = (weights * (x - mean) ** 2).sum()
    one = torch.ones(1, 1, dtype=torch.float64)
    got_mean, got_log_variance = schedule.posterior(x_0 * one, x_t * one, torch.tensor([t]))
    np.testing.assert_allclose([got_mean.item(), got_log_variance.exp().item()], [mean, variance], rtol=1e-6)


def test_posterior_log_variance_at_zero_is_that_of_one():
    schedule = NoiseSchedule.named("linear", 1000)
    assert schedule.posterior_variance[0] == 0
    assert schedule.posterior_log_variance[0] == schedule.posterior_log_variance[1]


@pytest.mark.parametrize("prediction", ["epsilon", "v", "x_0"])
def test_predictions_are_solved_back_to_x_0_and_noise(prediction):
    schedule = NoiseSchedule.named("cosine", 200)
    generator = torch.Generator().manual_seed(0)
    x_0, noise = (torch.randn(5, 2, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0, 3, 100, 180, 198])
    x_t = schedule.add_noise(x_0, noise, t)
    found = schedule.predict_x_0(schedule.target(x_0, noise, t, prediction), x_t, t, prediction)
    torch.testing.assert_close(found, x_0, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(schedule.predict_noise(x_0, x_t, t), noise, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("betas", [[0.0, 0.1], [0.1, 1.0], [], [[0.1, 0.2]], [float("nan"), 0.1]])
def test_impossible_variances_are_refused(betas):
    with pytest.raises(ValueError):
        NoiseSchedule(torch.tensor(betas))


def test_a_subset_keeps_alpha_bar_and_is_the_marginal_process():
    schedule = NoiseSchedule.named("linear", 100)
    times = [0, 7, 40, 99]
    subset = schedule.subset(times)
    torch.testing.assert_close(subset.alpha_bar, schedule.alpha_bar[times], rtol=1e-12, atol=0)
    # q(x_40 | x_7) composed from the 33 single steps
    kept = torch.prod(1 - schedule.betas[8:41])
    torch.testing.assert_close(subset.betas[2], 1 - kept, rtol=1e-12, atol=0)
    torch.testing.assert_close(schedule.subset(range(100)).betas, schedule.betas, rtol=1e-9, atol=0)
    assert schedule.subset([99]).num_timesteps == 1


@pytest.mark.parametrize("times", [[], [3, 3], [5, 2], [-1, 4]])
def test_impossible_subsets_are_refused(times):
    with pytest.raises(ValueError, match="rise"):
        NoiseSchedule.named("linear", 100).subset(times)


@pytest.mark.parametrize(("name", "steps"), [("cosine", 1000), ("linear", 4000), ("cosine", 30)])
def test_before_min_timestep_next_to_no_pixel_is_misread(name, steps):
    schedule = NoiseSchedule.named(name, steps)
    first = schedule.min_timestep
    share = [0.5 * math.erfc((float(a) / (1 - float(a)) / 2) ** 0.5) for a in schedule.alpha_bar]
    assert 0 < first < steps / 2
    assert share[first - 1] < 0.00136 <= share[first]
    assert NoiseSchedule(torch.tensor([0.9, 0.9])).min_timestep == 0
    assert NoiseSchedule(torch.tensor([1e-4, 1e-4])).min_timestep == 1


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_after_self_cond_max_timestep_the_noise_has_ten_times_the_variance_of_the_image(name):
    schedule = NoiseSchedule.named(name, 1000)
    last = schedule.self_cond_max_timestep
    snr = schedule.alpha_bar / (1 - schedule.alpha_bar)
    assert snr[last] >= 0.1 > snr[last + 1]
    assert NoiseSchedule(torch.tensor([0.99, 0.5])).self_cond_max_timestep == 0
