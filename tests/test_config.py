"""Settings: checks, JSON, presets."""

from __future__ import annotations

import json

import pytest

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.provenance import differences
from mcrpy_diffusion.materials.generate import Reference, recipe, resolve
from mcrpy_diffusion.settings import GenerationSettings, SamplingSettings, TrainingSettings, preset


@pytest.mark.parametrize("name", ["quick", "small", "paper"])
def test_settings_survive_json(name):
    for settings in (preset(name).generation, preset(name).training, preset(name).sampling):
        assert type(settings).from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_the_paper_preset_is_the_papers_recipe():
    training, sampling = preset("paper").training, preset("paper").sampling
    assert (training.n_timesteps, training.schedule, training.prediction) == (4000, "linear", "epsilon")
    assert training.learned_variance
    assert (training.channels, training.channel_multipliers) == (128, (1, 2, 2, 2, 2))
    assert (training.n_residual_blocks, training.attention_levels, training.n_heads) == (3, (2,), 1)
    assert (training.dropout, training.learning_rate, training.ema_decay) == (0.1, 1e-4, 0.9999)
    assert (training.n_training_steps, training.batch_size) == (100_000, 32)
    assert (sampling.sampler, sampling.n_sampling_steps, sampling.eta) == ("ddim", 150, 0.0)
    assert preset("paper").generation.n_training_samples == 1000


@pytest.mark.parametrize("prediction", ["v", "x_0", "epsilon"])
def test_the_likelihoods_loss_stays_with_log_odds(prediction):
    quick = preset("quick").training
    assert quick.loss == quick.replace(n_training_steps=5, prediction="log_odds").loss == "likelihood"
    assert quick.replace(prediction=prediction).loss == "simple"
    with pytest.raises(InputError, match="prediction must be log_odds"):
        quick.replace(prediction=prediction, loss="likelihood")


@pytest.mark.parametrize(
    ("settings", "values", "message"),
    [
        (SamplingSettings, {"n_samples": 0}, "n_samples must be at least 1, got 0"),
        (SamplingSettings, {"eta": 1.5}, "eta must be between 0 and 1, got 1.5"),
        (SamplingSettings, {"eta": float("nan")}, "eta must be between 0 and 1, got nan"),
        (SamplingSettings, {"sampler": "euler"}, "sampler must be one of ddim, ddpm, dpm_solver, got 'euler'"),
        (TrainingSettings, {"schedule": "sigmoid"}, "schedule must be one of linear, cosine"),
        (
            TrainingSettings,
            {"loss": "likelihood"},
            "prediction must be log_odds with the loss likelihood",
        ),
        (TrainingSettings, {"learning_rate": -1.0}, "learning_rate must be between 1e-09 and 1, got -1.0"),
        (TrainingSettings, {"channel_multipliers": []}, "channel_multipliers"),
        (TrainingSettings, {"nonsense": 1}, "unknown TrainingSettings nonsense"),
        (GenerationSettings, {"extent_x": 4}, "extent_x must be at least 8, got 4"),
        (GenerationSettings, {"training_data": "magic"}, "training_data must be one of auto, crops, descriptors"),
        (
            GenerationSettings,
            {"grey_values": True, "use_multiphase": True},
            "only one of grey_values and use_multiphase",
        ),
    ],
)
def test_impossible_values_are_named_with_what_is_allowed(settings, values, message):
    with pytest.raises(InputError, match=message) as caught:
        settings.from_dict(values)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_is_refused():
    with pytest.raises(InputError, match="preset must be one of quick, small, paper, got 'fast'"):
        preset("fast")


def test_an_extent_must_be_halved_by_all_levels():
    settings = preset("paper").training
    settings.check_extent((64, 128))
    with pytest.raises(InputError, match="multiple of 16 in each direction, got 60 x 64"):
        settings.check_extent((60, 64))


def test_replace_keeps_what_is_not_given():
    settings = SamplingSettings(n_samples=3).replace(eta=0.5, seed=None)
    assert (settings.n_samples, settings.eta, settings.seed) == (3, 0.5, 0)


def test_differences_name_keys_with_both_values():
    assert differences({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}) == ["b: 2 -> 3", "c: None -> 4"]


@pytest.mark.parametrize(
    ("extent", "patch_size"),
    [((64, 64), 1), ((16, 16), 1), ((96, 128), 1), ((128, 128), 2), ((256, 256), 4), ((256, 512), 4)],
)
def test_the_paper_s_network_folds_larger_structures(extent, patch_size):
    training = preset("paper", extent).training
    assert training.patch_size == patch_size
    assert training.replace(patch_size=1) == preset("paper").training
    assert preset("quick", extent) == preset("quick")


@pytest.mark.parametrize(
    ("extent", "given", "iterations"),
    [
        ((64, 64), None, 300),
        ((32, 48), None, 300),
        ((256, 128), None, 600),
        ((256, 256), None, 1200),
        ((256, 256), 7, 7),
    ],
)
def test_larger_structures_get_more_iterations(extent, given, iterations):
    settings = GenerationSettings(extent_x=extent[0], extent_y=extent[1], max_iter=given, training_data="descriptors")
    assert settings.iterations == iterations
    reference = Reference("m", 2, ("0" * 64,))
    assert recipe(resolve(settings, reference), reference)["max_iter"] == iterations


def test_the_small_preset_is_quick_with_fewer_weights_that_fit_into_4_mib_as_float16():
    import torch

    from mcrpy_diffusion.models.checkpoint import ModelInfo, build_network

    quick, small = preset("quick"), preset("small")
    assert small.sampling == quick.sampling.replace(sampler="ddpm")
    assert small.training.n_training_steps > quick.training.n_training_steps
    info = ModelInfo(small.training, n_phases=2, extent=(64, 64), periodic=True, conditions=[[0.1], [0.2]])
    weights = sum(p.numel() for p in build_network(info).parameters())
    assert weights < 2e6
    assert weights * torch.float16.itemsize < 4 * 2**20
