"""Settings: checks, JSON, presets."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.provenance import differences
from mcrpy_diffusion.materials.reference import Reference
from mcrpy_diffusion.materials.reference_images import ReferenceSettings
from mcrpy_diffusion.materials.resolve import recipe, resolve
from mcrpy_diffusion.models import pretrained
from mcrpy_diffusion.models.checkpoint import read_info
from mcrpy_diffusion.settings import (
    METHODS,
    BenchmarkSettings,
    GenerationSettings,
    Option,
    SamplingSettings,
    Settings,
    TrainingSettings,
    options_of,
    preset,
)


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
        (SamplingSettings, {"eta": float("nan")}, "eta must be a number, got nan"),
        (SamplingSettings, {"sampler": "euler"}, "sampler must be one of ddim, .*got 'euler'"),
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
def test_a_message_says_what_must_hold_and_what_was_given(settings, values, message):
    with pytest.raises(InputError, match=message) as caught:
        settings.from_dict(values)
    assert "\n" not in str(caught.value)


def all_settings() -> list[type[Settings]]:
    found, new = [], [Settings]
    while new:
        found += new
        new = [each for settings in new for each in settings.__subclasses__()]
    return [each for each in found if each.__module__.startswith("mcrpy_diffusion.") and options_of(each)]


CASES = [pytest.param(s, o, id=f"{s.__name__}-{o.name}") for s in all_settings() for o in options_of(s)]


def value_of(option: Option, one: Any) -> Any:
    return {"gram": one} if option.is_mapping else [one] if option.is_list else one


def outside(option: Option) -> list[Any]:
    """Return the nearest values that are too small or too large, values of other types, and a wrong choice."""
    found: list[Any] = [] if option.is_optional else [None]
    found += ["1", True, float("nan")] if option.type in (int, float) else [1]
    step = 1 if option.type is int else 1e-9
    found += [option.low - step] if option.low is not None else []
    found += [option.high + step * max(1, abs(option.high))] if option.high is not None else []
    return found + (["nonsense"] if option.choices else [])


def test_all_settings_classes_are_checked():
    assert {TrainingSettings, SamplingSettings, BenchmarkSettings, ReferenceSettings} <= set(all_settings())
    assert len(CASES) > 90


@pytest.mark.parametrize(("settings", "option"), CASES)
def test_every_option_has_help_and_refuses_values_just_outside(settings, option):
    assert option.help
    for value in (value_of(option, one) for one in outside(option)):
        with pytest.raises(InputError, match=f"^(each of )?{option.name} must be ") as caught:
            settings.from_dict({option.name: value})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("settings", "option"), CASES)
def test_every_option_accepts_its_limits_and_choices(settings, option):
    for one in (option.low, option.high, *option.choices):
        if one is not None:
            option.check({"gram": one} if option.is_mapping else (one,) if option.is_list else one)


def a_value(option: Option) -> st.SearchStrategy[Any]:
    if option.choices:
        one: st.SearchStrategy[Any] = st.sampled_from(option.choices)
    elif option.type is bool:
        one = st.booleans()
    elif option.type is int:
        one = st.integers(int(option.low or 0), int(option.high or 2**63))
    elif option.type is float:
        one = st.floats(option.low or 0.0, option.high, allow_nan=False, allow_infinity=False)
    else:
        one = st.text(max_size=20)
    if option.is_mapping:
        one = st.dictionaries(st.sampled_from(METHODS), one)
    elif option.is_list:
        one = st.lists(one, min_size=1, max_size=5, unique=True).map(tuple)
    return st.none() | one if option.is_optional else one


@pytest.mark.parametrize("kind", all_settings(), ids=lambda kind: kind.__name__)
@hypothesis_settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_settings_read_from_their_json_are_the_same(kind, data):
    options = {option.name: option for option in options_of(kind)}
    names = data.draw(st.lists(st.sampled_from(sorted(options)), unique=True, max_size=4))
    values = {name: data.draw(a_value(options[name]), label=name) for name in names}
    for name, value in values.items():
        options[name].check(value)
    try:
        made = kind(**values)
    except InputError:  # a rule about several fields
        reject()
    assert kind.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_the_former_name_of_a_field_is_read():
    old = {"skip_certain_times": True, "prediction": "log_odds", "learned_variance": False}
    settings = TrainingSettings.from_dict(old)
    assert settings.skip_high_snr
    assert settings == TrainingSettings().replace(**old)
    assert not settings.replace(skip_certain_times=False).skip_high_snr
    assert "skip_certain_times" not in settings.to_dict()


@pytest.mark.parametrize("name", pretrained.names())
def test_the_settings_of_the_shipped_models_are_read(name):
    settings = read_info(pretrained.find(name)).settings
    assert settings == TrainingSettings.from_dict(settings.to_dict())
    assert settings.skip_high_snr


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
