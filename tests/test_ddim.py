"""DDIM against the closed form for a Gaussian, DDPM, and diffusers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from mcrpy_diffusion.diffusion.denoiser import NetworkDenoiser
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
from mcrpy_diffusion.diffusion.reverse_process import reverse_distribution
from mcrpy_diffusion.diffusion.samplers.ddim import sample
from mcrpy_diffusion.diffusion.timesteps import noise_like, timestep_pairs

MEAN, STD = 0.3, 0.5


def gaussian(schedule, clip=False):
    """E[x_0 | x_t] where x_0 ~ N(MEAN, STD^2), by a network that predicts the noise."""

    def network(x, t):
        a = schedule.alpha_bar[t].to(x.dtype).reshape(-1, *([1] * (x.ndim - 1)))
        variance = a * STD**2 + 1 - a
        return (1 - a).sqrt() * (x - a.sqrt() * MEAN) / variance

    return NetworkDenoiser(network, schedule, clip=clip)


@pytest.mark.parametrize(("t", "s"), [(4000, 150), (4000, 1), (1000, 30), (50, 50), (7, 3)])
def test_pairs_join_and_run_from_noise_to_clean(t, s):
    pairs = timestep_pairs(t, s)
    assert len(pairs) == s
    assert pairs[0][0] == t - 1
    assert pairs[-1][1] == -1
    assert all(a[1] == b[0] for a, b in zip(pairs, pairs[1:]))
    assert all(t > t_next for t, t_next in pairs)
    if s > 1:
        np.testing.assert_array_equal([p[0] for p in pairs], np.round(np.linspace(0, t - 1, s))[::-1])


@pytest.mark.parametrize(("t", "s"), [(4000, 20), (1000, 1), (50, 50), (50, 49), (7, 3)])
@pytest.mark.parametrize("exponent", [1.5, 2, 3])
def test_steps_grow_shorter_towards_the_clean_image(t, s, exponent):
    pairs = timestep_pairs(t, s, exponent=exponent)
    assert (len(pairs), pairs[0][0], pairs[-1][1]) == (s, t - 1, -1)
    assert all(a[1] == b[0] for a, b in zip(pairs, pairs[1:]))
    assert all(t > t_next for t, t_next in pairs)
    if s == 20:
        assert pairs[10][0] == round((t - 1) * (9 / 19) ** exponent)
    with pytest.raises(ValueError, match="exponent"):
        timestep_pairs(t, s, exponent=0.5)


@pytest.mark.parametrize(("t", "s", "first"), [(1000, 50, 200), (1000, 900, 200), (50, 50, 10), (1000, 1, 200)])
def test_the_first_times_may_be_left_out(t, s, first):
    pairs = timestep_pairs(t, s, first=first)
    assert len(pairs) == s
    assert pairs[0][0] == t - 1
    assert pairs[-1] == (min(first, t - s) if s > 1 else t - 1, -1)
    assert all(later == pair[0] for (_, later), pair in zip(pairs, pairs[1:], strict=False))
    lengths = [before - after for before, after in pairs[:-1]]
    assert all(max(lengths) - min(lengths) <= 1 for _ in lengths)


@pytest.mark.parametrize("s", [0, -1, 51])
def test_impossible_numbers_of_steps_are_refused(s):
    with pytest.raises(ValueError, match="num_steps"):
        timestep_pairs(50, s)


def test_error_on_a_gaussian_falls_as_one_over_the_steps():
    schedule = NoiseSchedule.named("linear", 1000)
    x_t = torch.linspace(-2, 2, 41, dtype=torch.float64).reshape(-1, 1)
    a = float(schedule.alpha_bar[-1])
    # the probability flow keeps quantiles
    exact = MEAN + STD * (x_t - a**0.5 * MEAN) / (a * STD**2 + 1 - a) ** 0.5
    errors = []
    for steps in (10, 20, 40, 80, 160):
        found = sample(gaussian(schedule), x_t, schedule, timestep_pairs(1000, steps))
        errors.append(float((found - exact).abs().max()))
    ratios = np.array(errors[:-1]) / np.array(errors[1:])
    assert np.all((ratios > 1.8) & (ratios < 2.3)), (errors, ratios)


def test_with_eta_one_and_all_steps_the_distribution_is_the_gaussian():
    schedule = NoiseSchedule.named("linear", 200)
    generator = torch.Generator().manual_seed(1)
    x_t = torch.randn(20_000, 1, generator=generator, dtype=torch.float64)
    pairs = timestep_pairs(200, 200)
    x = sample(gaussian(schedule), x_t, schedule, pairs, eta=1.0, generator=generator)
    # the variance beta_tilde is too small by a discretisation error of a few percent at T = 200
    np.testing.assert_allclose([x.mean(), x.std()], [MEAN, STD], atol=0.02)


def test_one_step_with_eta_one_has_the_mean_and_variance_of_ddpm():
    schedule = NoiseSchedule.named("cosine", 100)
    denoise = gaussian(schedule)
    x = torch.full((50_000, 1), 0.8, dtype=torch.float64)
    t = torch.full((len(x),), 60)
    mean, log_variance = reverse_distribution(denoise(x, t), x, t, schedule)
    generator = torch.Generator().manual_seed(2)
    found = sample(denoise, x, schedule, [(60, 59)], eta=1.0, generator=generator)
    np.testing.assert_allclose(found.mean(), mean[0], atol=4 * float(found.std()) / len(x) ** 0.5)
    np.testing.assert_allclose(found.var(), log_variance[0].exp(), rtol=0.03)
    noise = noise_like(x, torch.Generator().manual_seed(2))
    torch.testing.assert_close(found, mean + (0.5 * log_variance).exp() * noise, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("eta", [0.0, 0.7])
def test_steps_equal_those_of_diffusers_where_its_pairs_join(clip, eta):
    theirs = DDIMScheduler(
        num_train_timesteps=100, beta_start=1e-3, beta_end=0.2, clip_sample=clip, timestep_spacing="trailing"
    )
    theirs.set_timesteps(20)
    schedule = NoiseSchedule(theirs.betas.double())
    pairs = [(int(t), int(t) - 5) for t in theirs.timesteps]
    assert pairs[-1] == (4, -1)

    def network(x, t):
        return x * (t / (t + 1)).to(x.dtype).reshape(-1, 1, 1, 1)

    x = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected, generator = x, torch.Generator().manual_seed(5)
    for t, _ in pairs:
        output = network(expected, torch.full((3,), t))
        noise = noise_like(x, generator)
        expected = theirs.step(output, t, expected, eta=eta, use_clipped_model_output=True, variance_noise=noise)
        expected = expected.prev_sample
    # diffusers adds no noise where its variance is 0; ours draws none there
    denoise = NetworkDenoiser(network, schedule, clip=clip)
    found = sample(denoise, x, schedule, pairs, eta=eta, generator=torch.Generator().manual_seed(5))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_an_image_does_not_depend_on_its_batch():
    schedule = NoiseSchedule.named("cosine", 50)
    template = torch.empty(4, 1, 3, 3, dtype=torch.float64)

    def run(seeds):
        generators = [torch.Generator().manual_seed(s) for s in seeds]
        x = noise_like(template[: len(seeds)], generators)
        pairs = timestep_pairs(50, 10)
        return sample(gaussian(schedule, clip=True), x, schedule, pairs, eta=1.0, generator=generators)

    torch.testing.assert_close(run([7, 8, 9, 3])[2], run([9])[0], rtol=0, atol=0)


def test_callback_sees_every_step():
    schedule = NoiseSchedule.named("cosine", 50)
    seen = []
    x = torch.zeros(1, 1)
    final = sample(gaussian(schedule), x, schedule, timestep_pairs(50, 4), callback=seen.append)
    assert [s["i"] for s in seen] == [0, 1, 2, 3]
    assert [s["t"] for s in seen] == [49, 33, 16, 0]
    torch.testing.assert_close(seen[-1]["x"], final)


def test_a_wrong_number_of_generators_or_channels_is_refused():
    schedule = NoiseSchedule.named("cosine", 50)
    x = torch.zeros(2, 1, 2, 2)
    with pytest.raises(ValueError, match="got 1 for 2"):
        noise_like(x, [torch.Generator()])
    with pytest.raises(ValueError, match="got 3"):
        NetworkDenoiser(lambda x, t: x.repeat(1, 3, 1, 1), schedule)(x, torch.tensor([3, 3]))
    with pytest.raises(ValueError, match="eta"):
        sample(gaussian(schedule), x, schedule, timestep_pairs(50, 2), eta=2)
