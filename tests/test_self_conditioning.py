"""Networks that are told their estimate of the step before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_train import TINY, data

from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
from mcrpy_diffusion.diffusion.self_conditioning import remembering, twice
from mcrpy_diffusion.models.checkpoint import ModelInfo, build_network
from mcrpy_diffusion.models.model import Model
from mcrpy_diffusion.runtime.parallel import make_accelerator
from mcrpy_diffusion.settings import SamplingSettings
from mcrpy_diffusion.training.train import TrainingData, TrainingRun

SETTINGS = replace(TINY, prediction="log_odds", schedule="cosine", learned_variance=False, self_condition=True)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "log_odds"])
def test_each_call_is_told_what_the_one_before_expected(prediction):
    schedule = NoiseSchedule.named("cosine", 100)
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(5, 2, 1, 4, 4, generator=generator)
    x = torch.randn(5, 2, 1, 4, 4, generator=generator)
    told = []

    def network(x, t, estimate):
        told.append(estimate)
        return outputs[len(told) - 1]

    walking = remembering(network, schedule, prediction)
    times = (99, 85, 75, 60, 30)  # the noise of the first two lets less than 1 : 10 of x_0 through
    for i, time in enumerate(times):
        assert torch.equal(walking(x[i], torch.full((2,), time)), outputs[i])
    assert told[:2] == [None, None]
    for i, time in list(enumerate(times))[1:4]:
        expected = schedule.predict_x_0(outputs[i], x[i], torch.full((2,), time), prediction).clamp(-1, 1)
        torch.testing.assert_close(told[i + 1], expected)


def test_a_single_call_is_told_what_a_first_one_expected():
    schedule = NoiseSchedule.named("cosine", 100)
    x, t = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([80, 20])
    alone = twice(lambda x, t, estimate: 0.1 * x if estimate is None else estimate, schedule, "v")
    expected = schedule.predict_x_0(0.1 * x, x, t, "v").clamp(-1, 1)
    for _ in range(2):  # nothing is kept
        torch.testing.assert_close(alone(x, t), expected)


def model(**changes) -> Model:
    info = ModelInfo(settings=replace(SETTINGS, **changes), n_phases=2, extent=(8, 8), periodic=True)
    torch.manual_seed(0)
    network = build_network(info)
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.1)
    return Model(network, info, device="cpu")


def test_a_walk_differs_from_one_without_memory_and_begins_alike():
    walks, firsts = model(), []
    for network in (None, lambda x, t: walks.network(x, t, None, None), walks.conditioned_network(None, walks=False)):
        seen = []
        if network is not None:
            walks.conditioned_network = lambda *given, network=network, **options: network
        walks.sample(
            2, n_steps=4, precision="float32", callback=lambda state, seen=seen: seen.append(state["x_0"].clone())
        )
        firsts.append(seen)
    told, untold, twice_each = firsts
    torch.testing.assert_close(told[0], untold[0])
    assert not torch.allclose(told[1], untold[1])
    assert not torch.allclose(told[0], twice_each[0], atol=1e-3)


def test_every_walk_begins_without_an_estimate():
    told = model()
    first = told.sample(2, n_steps=4, batch_size=1)
    np.testing.assert_array_equal(first, told.sample(2, n_steps=4, batch_size=1))
    np.testing.assert_array_equal(first[1:], told.sample(1, n_steps=4, seed=1))


def test_a_walk_skips_the_times_that_were_never_trained():
    skips = model(skip_high_snr=True)
    times = [t for t, _ in skips.walk(SamplingSettings(n_sampling_steps=10))]
    assert times[-1] == skips.schedule.first_uncertain_time > 10
    assert model().walk(SamplingSettings(n_sampling_steps=10))[-1][0] == 0


def run(structures: TrainingData | None = None, **changes) -> TrainingRun:
    structures = structures or data()
    info = ModelInfo(settings=replace(SETTINGS, **changes), n_phases=2, extent=(8, 8), periodic=True)
    return TrainingRun(structures, info, make_accelerator("cpu"), np.zeros((len(structures.phases), 1)))


def test_only_the_images_that_are_told_get_an_estimate_and_it_has_no_gradient():
    training = run(dropout=0.0)
    for parameter in training.network.parameters():
        parameter.data.normal_(0, 0.1)
    generator = torch.Generator().manual_seed(0)
    x_t, t = torch.randn(4, 1, 8, 8, generator=generator), torch.tensor([50, 60, 70, 80])
    told = torch.tensor([True, False, True, False])
    found = training.first_estimate(x_t, t, None, told)
    assert not found.requires_grad
    assert bool((found[~told] == 0).all())
    expected = training.schedule.predict_x_0(training.network(x_t, t), x_t, t, "log_odds")
    torch.testing.assert_close(found[told], expected[told], rtol=1e-4, atol=1e-5)
    nobody = training.first_estimate(x_t, t, None, torch.zeros(4, dtype=torch.bool))
    assert bool((nobody == 0).all())


def test_half_of_the_images_are_told_at_uncertain_times_only():
    training = run(skip_high_snr=True, batch_size=8)
    first = training.schedule.first_uncertain_time
    drawn = [training.draw_batch(torch.Generator().manual_seed(i)) for i in range(200)]
    times, told = torch.stack([batch[2] for batch in drawn]), torch.stack([batch[3] for batch in drawn])
    assert int(times.min()) == first
    assert int(times.max()) == SETTINGS.n_timesteps - 1
    assert abs(float(told.float().mean()) - 0.5) < 0.05
    assert abs(float(told[:, 0].float().mean()) - 0.5) < 0.15  # also at the lowest times


def test_an_estimate_is_made_use_of():
    """Stripes in noise that hides them: where the network was told to expect them, it expects them."""
    training = run(channels=16, dropout=0.0, learning_rate=3e-3, n_training_steps=150, batch_size=16)
    for _ in range(150):
        training.do_step()
    x_0 = torch.from_numpy(data().phases[:16, None]).float() * 2 - 1
    t = torch.full((16,), 90)
    x_t = training.schedule.add_noise(x_0, torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0)), t)
    found = []
    for estimate in (-0.9 * x_0, None, 0.9 * x_0):
        with torch.no_grad():
            output = training.network(x_t, t, None, estimate)
        found.append(float((training.schedule.predict_x_0(output, x_t, t, "log_odds") * x_0).mean()))
    assert found[0] < found[1] < found[2]
    assert found[2] > 0.5
