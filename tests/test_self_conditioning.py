"""Self-conditioning on the previous estimate of x_0."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_train import TINY, data

from mcrpy_diffusion.diffusion.denoiser import Denoised, NetworkDenoiser, from_output
from mcrpy_diffusion.diffusion.losses import velocity_loss
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
from mcrpy_diffusion.diffusion.samplers import ddim, ddpm
from mcrpy_diffusion.diffusion.self_conditioning import SelfConditioned, two_pass_self_conditioning
from mcrpy_diffusion.diffusion.timesteps import timestep_pairs
from mcrpy_diffusion.diffusion.volume_fraction import constrain_volume_fraction
from mcrpy_diffusion.models.checkpoint import ModelInfo, build_network
from mcrpy_diffusion.models.model import Model
from mcrpy_diffusion.runtime.parallel import make_accelerator
from mcrpy_diffusion.settings import SamplingSettings
from mcrpy_diffusion.training.data import TrainingData
from mcrpy_diffusion.training.run import TrainingRun

SETTINGS = replace(TINY, prediction="log_odds", schedule="cosine", learned_variance=False, self_condition=True)


def recorder(schedule, outputs, prediction):
    """A denoiser that answers with the outputs one after the other, and the list of the estimates that it was given."""
    given = []

    def network(x, t, estimate=None):
        given.append(estimate)
        return outputs[len(given) - 1]

    return NetworkDenoiser(network, schedule, prediction, clip=False), given


@pytest.mark.parametrize("prediction", ["epsilon", "v", "log_odds"])
def test_each_call_is_given_the_estimate_of_the_previous_one(prediction):
    schedule = NoiseSchedule.named("cosine", 100)
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(5, 2, 1, 4, 4, generator=generator)
    x = torch.randn(5, 2, 1, 4, 4, generator=generator)
    denoise, given = recorder(schedule, outputs, prediction)
    self_conditioned = SelfConditioned(denoise, schedule)
    times = (99, 85, 75, 60, 30)  # at the first two the signal is below a tenth of the noise
    expected = [
        from_output(outputs[i], x[i], torch.full((2,), time), schedule, prediction=prediction, clip=False).x_0
        for i, time in enumerate(times)
    ]
    for i, time in enumerate(times):
        torch.testing.assert_close(self_conditioned(x[i], torch.full((2,), time)).x_0, expected[i])
    assert given[:2] == [None, None]
    for i in range(1, 4):
        torch.testing.assert_close(given[i + 1], expected[i].clamp(-1, 1))


def test_two_passes_are_a_function_of_the_image_and_the_time_alone():
    schedule = NoiseSchedule.named("cosine", 100)
    x, t = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([80, 20])

    def network(x, t, estimate=None):
        return 0.1 * x if estimate is None else estimate

    denoise = two_pass_self_conditioning(NetworkDenoiser(network, schedule, "v"))
    first = schedule.predict_x_0(0.1 * x, x, t, "v").clamp(-1, 1)
    expected = schedule.predict_x_0(first, x, t, "v").clamp(-1, 1)
    for _ in range(2):  # nothing is kept
        torch.testing.assert_close(denoise(x, t).x_0, expected)


def test_gradients_flow_through_a_self_conditioned_and_constrained_denoiser_during_sampling():
    """What a guided wrapper needs: under the no_grad of a sampler it may still differentiate what it wraps."""
    schedule = NoiseSchedule.named("cosine", 100)
    gradients = []

    def guided(denoise):
        def wrapper(x_t, t, estimate=None, /):
            with torch.enable_grad():
                leaf = x_t.detach().requires_grad_()
                answer = denoise(leaf, t, estimate)
                gradients.append(torch.autograd.grad(answer.x_0.square().sum(), leaf)[0])
            return Denoised.of_phases(answer.log_odds)

        return wrapper

    inner = SelfConditioned(NetworkDenoiser(lambda x, t, estimate=None: 0.3 * x, schedule, "log_odds"), schedule)
    denoise = guided(constrain_volume_fraction(inner, torch.tensor([[0.3]])))
    x_T = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    x = ddpm.sample(denoise, x_T, schedule, timestep_pairs(100, 5), generator=torch.Generator().manual_seed(1))
    assert len(gradients) == 5
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients[:-1])  # at t = 0 the phases are decided
    assert not x.requires_grad


def model(**changes) -> Model:
    info = ModelInfo(settings=replace(SETTINGS, **changes), n_phases=2, extent=(8, 8), periodic=True)
    torch.manual_seed(0)
    network = build_network(info)
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.1)
    return Model(network, info, device="cpu")


def test_sampling_starts_without_an_estimate_and_then_uses_it():
    trained, estimates = model(), []
    plain = NetworkDenoiser(trained.network, trained.schedule, "log_odds")
    modes = (trained.denoiser(None), plain, trained.denoiser(None, self_cond_mode="two_pass"))
    for denoise in modes:
        seen = []
        noise = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        pairs = trained.timesteps(SamplingSettings(n_sampling_steps=4))
        ddim.sample(denoise, noise, trained.schedule, pairs, callback=lambda s, seen=seen: seen.append(s["x_0"]))
        estimates.append(seen)
    conditioned, without, two_pass = estimates
    torch.testing.assert_close(conditioned[0], without[0])
    assert not torch.allclose(conditioned[1], without[1])
    assert not torch.allclose(conditioned[0], two_pass[0], atol=1e-3)


def test_each_batch_starts_without_an_estimate():
    trained = model()
    first = trained.sample(2, n_steps=4, batch_size=1)
    np.testing.assert_array_equal(first, trained.sample(2, n_steps=4, batch_size=1))
    np.testing.assert_array_equal(first[1:], trained.sample(1, n_steps=4, seed=1))


def test_sampling_skips_the_times_that_were_never_trained():
    skips = model(skip_high_snr=True)
    times = [t for t, _ in skips.timesteps(SamplingSettings(n_sampling_steps=10))]
    assert times[-1] == skips.schedule.min_timestep > 10
    assert model().timesteps(SamplingSettings(n_sampling_steps=10))[-1][0] == 0


def run(structures: TrainingData | None = None, **changes) -> TrainingRun:
    structures = structures or data()
    info = ModelInfo(settings=replace(SETTINGS, **changes), n_phases=2, extent=(8, 8), periodic=True)
    return TrainingRun(structures, info, make_accelerator("cpu"), np.zeros((len(structures.phases), 1)))


def test_the_images_of_the_mask_get_an_estimate_and_it_has_no_gradient():
    training = run(dropout=0.0)
    for parameter in training.network.parameters():
        parameter.data.normal_(0, 0.1)
    generator = torch.Generator().manual_seed(0)
    x_t, t = torch.randn(4, 1, 8, 8, generator=generator), torch.tensor([50, 60, 70, 80])
    mask = torch.tensor([True, False, True, False])
    found = training.first_estimate(x_t, t, None, mask)
    assert not found.requires_grad
    assert bool((found[~mask] == 0).all())
    expected = NetworkDenoiser(training.network, training.schedule, "log_odds")(x_t, t).x_0
    torch.testing.assert_close(found[mask], expected[mask], rtol=1e-4, atol=1e-5)
    nobody = training.first_estimate(x_t, t, None, torch.zeros(4, dtype=torch.bool))
    assert bool((nobody == 0).all())


def test_half_of_the_images_are_given_an_estimate():
    training = run(skip_high_snr=True, batch_size=8)
    first = training.schedule.min_timestep
    drawn = [training.draw_batch(torch.Generator().manual_seed(i)) for i in range(200)]
    times, mask = torch.stack([batch[2] for batch in drawn]), torch.stack([batch[3] for batch in drawn])
    assert int(times.min()) == first
    assert int(times.max()) == SETTINGS.n_timesteps - 1
    assert abs(float(mask.float().mean()) - 0.5) < 0.05
    assert abs(float(mask[:, 0].float().mean()) - 0.5) < 0.15  # also at the lowest times


def test_the_loss_is_that_of_the_network_given_its_own_first_estimate():
    """Against a network made for it, which answers with the estimate: the gradient passes the second pass alone."""
    training = run(dropout=0.0)
    schedule, x_0 = training.schedule, torch.from_numpy(data().phases[:4, None]).float() * 2 - 1
    noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))
    t, mask = torch.tensor([30, 50, 60, 80]), torch.tensor([True, True, False, False])
    gain = torch.tensor(0.7, requires_grad=True)

    def network(x_t, t, conditions=None, estimate=None):
        return gain * (x_t if estimate is None else estimate)

    training.network = training.predict = network
    found = training.loss(x_0, noise, t, mask, None)
    x_t = schedule.add_noise(x_0, noise, t)
    first = NetworkDenoiser(lambda x, t: 0.7 * x, schedule, "log_odds")(x_t, t).x_0
    shown = torch.where(mask[:, None, None, None], first, torch.zeros(()))
    twin = torch.tensor(0.7, requires_grad=True)
    answer = NetworkDenoiser(lambda x, t: twin * shown, schedule, "log_odds")(x_t, t)
    expected = velocity_loss(answer.x_0, x_0, t, schedule).mean()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(loss, leaf)[0] for loss, leaf in ((found, gain), (expected, twin)))
    )


def test_the_network_makes_use_of_its_estimate():
    """A weight on the estimate's channel reaches the output; training moves that weight from the first step on."""
    training = run(dropout=0.0, batch_size=16)
    before = training.network.first.weight.detach().clone()
    for _ in range(3):
        training.do_step()
    patches = training.network.patch_size**2
    moved = (training.network.first.weight.detach() - before).abs().amax((0, 2, 3))
    assert float(moved[patches:].min()) > 0
    for parameter in training.network.parameters():
        parameter.data.normal_(0, 0.1)
    x_t, t = torch.zeros(1, 1, 8, 8), torch.tensor([50])
    outputs = [training.network(x_t, t, estimate=torch.full_like(x_t, value)) for value in (-1.0, 1.0)]
    assert not torch.allclose(*outputs)
