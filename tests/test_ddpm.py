"""Ancestral sampling against the closed form for a Gaussian, DDIM, and diffusers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler

from mcrpy_diffusion.diffusion.denoiser import Denoised, NetworkDenoiser
from mcrpy_diffusion.diffusion.log_odds import LogOdds
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
from mcrpy_diffusion.diffusion.samplers import analytic_ddpm, ddim, ddpm
from mcrpy_diffusion.diffusion.timesteps import noise_like, timestep_pairs

MEAN, STD = 0.3, 0.5


def gaussian(schedule, v=None, *, clip=False):
    """The exact E[x_0 | x_t] where x_0 ~ N(MEAN, STD^2), with a variance interpolation v, one for all times or each."""

    def network(x, t):
        a = schedule.alpha_bar[t].to(x.dtype).reshape(-1, *([1] * (x.ndim - 1)))
        eps = (1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * STD**2 + 1 - a)
        if v is None:
            return eps
        values = torch.as_tensor(v, dtype=x.dtype).expand(schedule.num_timesteps)[t]
        return torch.cat([eps, values.reshape(a.shape).expand_as(eps)], dim=1)

    return NetworkDenoiser(network, schedule, clip=clip)


def optimal_v(schedule):
    """The interpolation at which p_theta has the variance of the true q(x_{t-1} | x_t) of the Gaussian."""
    before = torch.cat([torch.ones(1, dtype=torch.float64), schedule.alpha_bar[:-1]])
    variance, variance_before = (a * STD**2 + 1 - a for a in (schedule.alpha_bar, before))
    true = schedule.betas * variance_before / variance
    low, high = schedule.posterior_log_variance, schedule.log_betas
    return 2 * (true.log() - low) / (high - low).clamp(min=1e-12) - 1


def test_all_steps_with_the_right_variance_give_the_gaussian():
    """Unlike with beta_tilde (see test_ddim), the learned variance can be exact: no discretisation error is left."""
    schedule = NoiseSchedule.named("linear", 100)
    generator = torch.Generator().manual_seed(1)
    x_T = torch.randn(100_000, 1, generator=generator, dtype=torch.float64)
    x = ddpm.sample(
        gaussian(schedule, optimal_v(schedule)), x_T, schedule, timestep_pairs(100, 100), generator=generator
    )
    # the last step adds no noise, which lacks the posterior variance of x_0 at t = 0
    lacking = STD**2 * (1 - schedule.alpha_bar[0]) / (schedule.alpha_bar[0] * STD**2 + 1 - schedule.alpha_bar[0])
    np.testing.assert_allclose(x.mean(), MEAN, atol=0.006)
    np.testing.assert_allclose(x.var(), STD**2 - float(lacking), atol=0.005)


@pytest.mark.parametrize("steps", [1, 2, 30, 100])
def test_without_a_learned_variance_it_is_ddim_with_eta_one(steps):
    schedule = NoiseSchedule.named("cosine", 100)
    x_T = torch.randn(6, 1, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pairs = timestep_pairs(100, steps)
    found = [
        sampler(
            gaussian(schedule, clip=True), x_T, schedule, pairs, generator=torch.Generator().manual_seed(3), **options
        )
        for sampler, options in ((ddpm.sample, {}), (ddim.sample, {"eta": 1.0}))
    ]
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("v", [-1.0, 0.3, 1.0])
def test_a_step_has_the_variance_between_beta_tilde_and_beta_of_its_pair(v):
    schedule = NoiseSchedule.named("linear", 100)
    x = torch.full((40_000, 1), 0.8, dtype=torch.float64)
    pairs = [(60, 20), (20, -1)]
    seen = []
    ddpm.sample(
        gaussian(schedule, v, clip=True),
        x,
        schedule,
        pairs,
        generator=torch.Generator().manual_seed(2),
        callback=seen.append,
    )
    a, b = (float(schedule.alpha_bar[t]) for t in (60, 20))
    beta = 1 - a / b
    beta_tilde = beta * (1 - b) / (1 - a)
    expected = beta_tilde ** ((1 - v) / 2) * beta ** ((1 + v) / 2)
    np.testing.assert_allclose(float(seen[0]["x"].var()), expected, rtol=0.03)


def test_all_steps_equal_those_of_diffusers():
    theirs = DDPMScheduler(
        num_train_timesteps=40, beta_start=1e-3, beta_end=0.2, variance_type="learned_range", clip_sample=True
    )
    theirs.set_timesteps(40)
    schedule = NoiseSchedule(theirs.betas.double())

    def network(x, t):
        scale = (t / (t + 1)).to(x.dtype).reshape(-1, 1, 1, 1)
        return torch.cat([x * scale, torch.cos(3 * x)], dim=1)

    x = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected, generator = x, torch.Generator().manual_seed(5)
    for t in theirs.timesteps:
        output = network(expected, torch.full((3,), int(t)))
        expected = theirs.step(output, int(t), expected, generator=generator).prev_sample
    denoise = NetworkDenoiser(network, schedule)
    found = ddpm.sample(denoise, x, schedule, timestep_pairs(40, 40), generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_an_image_does_not_depend_on_its_batch():
    schedule = NoiseSchedule.named("cosine", 50)
    template = torch.empty(3, 1, 3, 3, dtype=torch.float64)

    def run(seeds):
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        x_T = noise_like(template[: len(seeds)], generators)
        return ddpm.sample(
            gaussian(schedule, 0.2, clip=True), x_T, schedule, timestep_pairs(50, 10), generator=generators
        )

    torch.testing.assert_close(run([7, 8, 9])[2], run([9])[0], rtol=0, atol=0)


def independent_pixels(schedule, share):
    """The exact denoiser of images whose pixels are 1 with the probability `share`, independently."""
    context = 0.5 * float(np.log(share / (1 - share)))
    return lambda x, t: Denoised.of_phases(LogOdds.from_output(torch.full_like(x, context), x, t, schedule))


@pytest.mark.parametrize(("share", "n_steps"), [(0.02, 50), (0.1, 50), (0.1, 25), (0.4, 25)])
def test_coarse_steps_with_the_variance_of_x_0_keep_rare_pixels(share, n_steps):
    """In 50 steps, ddpm makes 0.1 of the pixels to 0.0945 and 0.02 to 0.018."""
    schedule, shares = NoiseSchedule.named("cosine", 1000), {}
    for name, sampler in (("ddpm", ddpm), ("analytic", analytic_ddpm)):
        generator = torch.Generator().manual_seed(3)
        x_T = torch.randn(1, 1, 400, 300, generator=generator)
        pairs = timestep_pairs(1000, n_steps)
        x = sampler.sample(independent_pixels(schedule, share), x_T, schedule, pairs, generator=generator)
        shares[name] = float((x > 0).double().mean())
    scatter = (share * (1 - share) / 120_000) ** 0.5
    assert abs(shares["analytic"] - share) < 0.35 * abs(shares["ddpm"] - share) + 3 * scatter
    assert share - shares["ddpm"] > 4 * scatter


def test_without_log_odds_it_is_ddpm():
    schedule = NoiseSchedule.named("linear", 100)
    x_T = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = [
        sampler.sample(
            gaussian(schedule, 0.2),
            x_T,
            schedule,
            timestep_pairs(100, 10),
            generator=torch.Generator().manual_seed(1),
        )
        for sampler in (ddpm, analytic_ddpm)
    ]
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
