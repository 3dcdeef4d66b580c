"""DPM-Solver++(2M) against the closed form for a Gaussian, and diffusers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from mcrpy_diffusion.diffusion.denoiser import NetworkDenoiser
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
from mcrpy_diffusion.diffusion.samplers import ddim, dpm_solver
from mcrpy_diffusion.diffusion.timesteps import timestep_pairs

MEAN, STD = 0.3, 0.5


def gaussian(schedule, *, clip=False):
    """E[x_0 | x_t] where x_0 ~ N(MEAN, STD^2)."""

    def network(x, t):
        a = schedule.alpha_bar[t].to(x.dtype).reshape(-1, *([1] * (x.ndim - 1)))
        return MEAN + a.sqrt() * STD**2 * (x - a.sqrt() * MEAN) / (a * STD**2 + 1 - a)

    return NetworkDenoiser(network, schedule, "x_0", clip=clip)


def flow(x, schedule, t, t_next):
    """Where the exact probability flow takes x: it keeps the quantile."""

    def mean_and_std(a):
        return a**0.5 * MEAN, (a * STD**2 + 1 - a) ** 0.5

    mean, std = mean_and_std(schedule.alpha_bar_at(t))
    mean_next, std_next = mean_and_std(schedule.alpha_bar_at(t_next))
    return mean_next + std_next * (x - mean) / std


def test_error_on_a_gaussian_falls_as_one_over_the_steps_squared():
    schedule = NoiseSchedule.named("cosine", 4000)
    x = torch.linspace(-2, 2, 41, dtype=torch.float64).reshape(-1, 1)
    first, last = 3600, 400  # the ends of the schedule, where h is large, hide the order
    errors = []
    for steps in (10, 20, 40, 80, 160):
        times = [first + (last - first) * i // steps for i in range(steps + 1)]
        pairs = list(zip(times[:-1], times[1:]))
        found = dpm_solver.sample(gaussian(schedule), x, schedule, pairs)
        errors.append(float((found - flow(x, schedule, first, last)).abs().max()))
    ratios = np.array(errors[:-1]) / np.array(errors[1:])
    assert np.all(ratios[1:] > 3.4), (errors, ratios)


def test_it_needs_fewer_steps_than_ddim():
    schedule = NoiseSchedule.named("cosine", 1000)
    x = torch.linspace(-2, 2, 41, dtype=torch.float64).reshape(-1, 1)
    exact = flow(x, schedule, 999, -1)
    fast = dpm_solver.sample(gaussian(schedule), x, schedule, timestep_pairs(1000, 100))
    slow = ddim.sample(gaussian(schedule), x, schedule, timestep_pairs(1000, 200))
    assert float((fast - exact).abs().max()) < 0.6 * float((slow - exact).abs().max())


def test_log_odds_of_two_coupled_pixels_need_half_the_steps_of_ddim():
    """Two pixels that are of one phase with probability 0.9: what the network predicts is known in closed form."""
    schedule = NoiseSchedule.named("cosine", 4000)

    def network(x, t):
        # evidence of the other pixel, passed through the coupling; half the log odds, as in `LogOdds.context`
        a = schedule.alpha_bar[t].reshape(-1, 1, 1, 1)
        evidence = 2 * a.sqrt() / (1 - a) * x.flip(-1)
        same, other = 0.9, 0.1
        up, down = same * evidence.exp() + other, other * evidence.exp() + same
        return 0.5 * (up / down).log()

    x = torch.tensor([[0.3, -0.8], [1.1, 0.2], [-0.4, 0.45]], dtype=torch.float64).reshape(3, 1, 1, 2)

    def run(sampler, steps):
        first, last = 3200, 800
        times = [first + (last - first) * i // steps for i in range(steps + 1)]
        return sampler(NetworkDenoiser(network, schedule, "log_odds"), x, schedule, list(zip(times[:-1], times[1:])))

    exact = run(ddim.sample, 2400)
    errors = {
        name: [float((run(sampler, s) - exact).abs().max()) for s in (10, 20, 40)]
        for name, sampler in (("ddim", ddim.sample), ("dpm", dpm_solver.sample))
    }
    assert np.all(np.array(errors["dpm"]) < 0.5 * np.array(errors["ddim"])), errors


def test_the_first_and_the_last_step_are_those_of_ddim():
    schedule = NoiseSchedule.named("linear", 100)
    denoise = gaussian(schedule, clip=True)
    x = torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for pair in ((80, 40), (10, -1)):
        found = dpm_solver.sample(denoise, x, schedule, [pair])
        torch.testing.assert_close(found, ddim.sample(denoise, x, schedule, [pair]))


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("steps", [5, 20])
def test_steps_equal_those_of_diffusers(clip, steps):
    theirs = DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_start=1e-4,
        beta_end=0.02,
        solver_order=2,
        algorithm_type="dpmsolver++",
        solver_type="midpoint",
        prediction_type="epsilon",
        final_sigmas_type="zero",
        timestep_spacing="linspace",
    )
    theirs.set_timesteps(steps)
    times = [int(t) for t in theirs.timesteps]
    schedule = NoiseSchedule(theirs.betas.double())
    pairs = list(zip(times, [*times[1:], -1]))

    def network(x, t):
        return 0.3 * x * (1 + (t / 1000).to(x.dtype).reshape(-1, 1, 1, 1))

    x = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # theirs has no plain clipping of x_0: clip inside the network, whose prediction is then x_0
    theirs.register_to_config(prediction_type="sample")

    def predicts_x_0(x, t):
        x_0 = schedule.predict_x_0(network(x, t), x, t)
        return x_0.clamp(-1, 1) if clip else x_0

    expected = x
    for t in theirs.timesteps:
        expected = theirs.step(predicts_x_0(expected, torch.full((3,), int(t))), t, expected).prev_sample
    found = dpm_solver.sample(NetworkDenoiser(network, schedule, clip=clip), x, schedule, pairs)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_callback_sees_every_step():
    schedule, seen = NoiseSchedule.named("cosine", 50), []
    denoise = NetworkDenoiser(lambda x, t: 0 * x, schedule)
    final = dpm_solver.sample(denoise, torch.ones(1, 1), schedule, timestep_pairs(50, 4), callback=seen.append)
    assert [(s["i"], s["t"]) for s in seen] == [(0, 49), (1, 33), (2, 16), (3, 0)]
    torch.testing.assert_close(seen[-1]["x"], final)


def test_log_odds_are_carried_on_to_the_middle_of_each_step():
    """An output that is linear in t is known at the middle of a step; from there on it is a step of DDIM.

    The first step knows its start alone, and the last one, which may be long, takes its start.
    """
    schedule = NoiseSchedule.named("cosine", 100)
    pairs = [(90, 60), (60, 50), (50, 10), (10, -1)]
    x_T = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    middle = {90: 90.0, 60: 55.0, 50: 30.0, 10: 10.0}

    def linear(x, t):
        return (0.02 * t.double() - 0.7).reshape(-1, 1, 1, 1).expand_as(x)

    def at_the_middle(x, t):
        return linear(x, torch.full(t.shape, middle[int(t[0])], dtype=torch.float64))

    denoise, denoise_middle = (NetworkDenoiser(f, schedule, "log_odds") for f in (linear, at_the_middle))
    found = dpm_solver.sample(denoise, x_T, schedule, pairs[:3])
    expected = ddim.sample(denoise_middle, x_T, schedule, pairs[:3])
    torch.testing.assert_close(found, expected)
    seen = []
    dpm_solver.sample(denoise, x_T, schedule, pairs, callback=seen.append)
    ddim_seen = []
    ddim.sample(denoise_middle, x_T, schedule, pairs, callback=ddim_seen.append)
    torch.testing.assert_close(seen[-1]["x"], ddim_seen[-1]["x"])
