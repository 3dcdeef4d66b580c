"""Volumes from a model: shapes, seeds, phases, grey values, and going on after a stop."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_train import TINY

from mcrpy_diffusion.commands import mcrpy_commands
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.models import sampling_state
from mcrpy_diffusion.models.checkpoint import ModelInfo, build_network, save_model
from mcrpy_diffusion.models.model import Model, load_model
from mcrpy_diffusion.models.sampling_state import StateFiles
from mcrpy_diffusion.models.structure_folder import sample_to_folder
from mcrpy_diffusion.settings import SAMPLERS

SHAPE = (8, 12, 16)
FRACTIONS = {0: [[0.4]], 2: [[0.3]], 3: [[0.2, 0.5]]}


def make_model(n_phases: int = 2, periodic: bool = True, **changes) -> Model:
    usual = {"prediction": "log_odds", "schedule": "cosine", "learned_variance": False, "self_condition": True}
    settings = replace(TINY, **{**usual, "condition_on_volume_fraction": True, **changes})
    conditions = FRACTIONS[n_phases] if settings.condition_on_volume_fraction else []
    info = ModelInfo(settings=settings, n_phases=n_phases, extent=(8, 8), periodic=periodic, conditions=conditions)
    torch.manual_seed(0)
    network = build_network(info)
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.02)
    return Model(network, info, device="cpu")


@pytest.mark.parametrize("n_phases", [2, 3])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_volume_has_its_fractions_and_depends_on_its_seed_alone(n_phases, sampler):
    model = make_model(n_phases)
    two = model.sample(2, SHAPE, n_steps=4, sampler=sampler, seed=5)
    assert (two.shape, two.dtype) == ((2, *SHAPE), np.uint8)
    for phase, fraction in enumerate(FRACTIONS[n_phases][0], start=1):
        scatter = (fraction * (1 - fraction) / np.prod(SHAPE)) ** 0.5  # of independent voxels, as this network's are
        np.testing.assert_allclose((two == phase).mean((1, 2, 3)), fraction, atol=3 * scatter)
    np.testing.assert_array_equal(model.sample(1, SHAPE, n_steps=4, sampler=sampler, seed=6)[0], two[1])
    assert not np.array_equal(two[0], two[1])


def test_a_shipped_model_keeps_the_fraction_of_the_volume_to_the_voxel():
    model = load_model("ceramics", device="cpu")
    volume = model.sample(1, (16, 24, 32), n_steps=4)[0]
    (fraction,) = model.fractions([0], volume.shape)[0].tolist()
    assert int(volume.sum()) == round(fraction * volume.size)
    assert volume.mean((0, 1)).std() > 0.02  # of the slices, whose fraction is free


@pytest.mark.parametrize("prediction", ["v", "epsilon"])
def test_grey_values_and_models_without_conditions(prediction):
    grey = make_model(0, prediction=prediction).sample(1, SHAPE, n_steps=3)
    assert grey.dtype == np.float32
    assert 0 <= grey.min() < grey.max() <= 1
    learned = make_model(prediction=prediction, learned_variance=True, condition_on_volume_fraction=False)
    assert set(np.unique(learned.sample(1, SHAPE, n_steps=3, sampler="ddpm"))) <= {0, 1}


def test_without_conditions_the_prior_is_what_the_network_says_of_noise():
    """A network that answers 0.7 everywhere: independent voxels with the odds exp(1.4), whatever the weight."""
    model = make_model(condition_on_volume_fraction=False, self_condition=False)
    for parameter in model.network.parameters():
        parameter.data.zero_()
    model.network.last.bias.data.fill_(0.7)
    volume = model.sample(1, (24, 24, 24), n_steps=20, sampler="ddpm", precision="float32")[0]
    assert volume.mean() == pytest.approx(1 / (1 + np.exp(-1.4)), abs=0.02)


@pytest.mark.parametrize(("sampler", "eta"), [(name, 0.5 if name == "ddim" else 0.0) for name in SAMPLERS])
@pytest.mark.parametrize("prediction", ["log_odds", "v"])
def test_a_stopped_volume_goes_on_bit_by_bit(tmp_path, monkeypatch, sampler, eta, prediction):
    model = make_model(prediction=prediction)
    settings = model.info.sampling_settings(3, n_samples=1, sampler=sampler, n_sampling_steps=6, eta=eta)
    monkeypatch.setattr(sampling_state, "SAVE_EVERY_SECONDS", 0)
    files = StateFiles(lambda seed: tmp_path / f"{seed}.safetensors", {"steps": 6})
    whole = next(model.batches([3], settings, SHAPE))[1]

    def stop(step):
        if step["i"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(model.batches([3], settings, SHAPE, stop, state_files=files))
    done = []
    rest = model.batches([3], settings, SHAPE, lambda step: done.append(step["i"]), state_files=files)
    np.testing.assert_array_equal(next(rest)[1], whole)
    assert done == [3, 4, 5]  # the state of step 3 was not written before the stop
    assert (tmp_path / "3.safetensors").exists()
    assert list(rest) == []
    assert not (tmp_path / "3.safetensors").exists()


@pytest.mark.parametrize("damage", ["identity", "empty", "no tensors"])
def test_a_state_that_does_not_fit_is_ignored(tmp_path, monkeypatch, damage):
    model = make_model()
    settings = model.info.sampling_settings(3, n_samples=1, n_sampling_steps=3)
    monkeypatch.setattr(sampling_state, "SAVE_EVERY_SECONDS", 0)
    path = tmp_path / "state"
    next(model.batches([1], settings, SHAPE, state_files=StateFiles(lambda _: path, {"of": "another"})))
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "no tensors":
        facts = json.dumps({"identity": json.dumps({"of": "this", "seed": 1}, sort_keys=True), "i": 0, "t": 9})
        from safetensors.torch import save_file

        save_file({"x": torch.zeros(1)}, path, metadata={"mcrpy_diffusion": facts})
    again = next(model.batches([1], settings, SHAPE, state_files=StateFiles(lambda _: path, {"of": "this"})))[1]
    np.testing.assert_array_equal(again, next(model.batches([1], settings, SHAPE))[1])


def test_a_folder_of_volumes_is_completed(tmp_path):
    model = make_model()
    settings = model.info.sampling_settings(3, n_samples=2, n_sampling_steps=2)
    folder = sample_to_folder(model, settings, tmp_path / "made", SHAPE)
    assert sorted(file.name for file in folder.iterdir()) == ["0.npy", "1.npy", "sampling.json"]
    first = np.load(folder / "0.npy")
    (folder / "1.npy").unlink()
    sample_to_folder(model, settings, folder, SHAPE)
    np.testing.assert_array_equal(np.load(folder / "1.npy"), model.sample(1, SHAPE, n_steps=2, seed=1)[0])
    np.testing.assert_array_equal(np.load(folder / "0.npy"), first)
    with pytest.raises(InputError, match="extent"):
        sample_to_folder(model, settings, folder, (8, 8, 8))


def test_the_whole_way_from_a_model_to_the_report(tmp_path, monkeypatch, capsys):
    model = make_model()
    save_model(tmp_path / "m.safetensors", model.network.state_dict(), model.info)
    monkeypatch.setitem(sys.modules, "pyvista", None)  # the view in 3D is tested elsewhere
    words = "--method diffusion --extent_x 16 --extent_y 8 --extent_z 12 --n_sampling_steps 3 --formats vti --model"
    arguments = [*words.split(), str(tmp_path / "m.safetensors"), "--data_folder", str(tmp_path / "out")]
    for _ in range(2):  # the second time everything is there
        assert mcrpy_commands.reconstruct(arguments) == 0
        assert "volume" in capsys.readouterr().out
        volume = np.load(tmp_path / "out" / "m_reconstructed.npy")
        np.testing.assert_array_equal(volume, model.sample(1, (16, 8, 12), n_steps=3)[0])
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["volume"]["extent"] == [16, 8, 12]
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names >= {"report.html", "m_reconstructed.vti", "m_convergence_data.pickle", "slices.png"}


@pytest.mark.parametrize("shape", [(8, 8, 9), (8, 8, 8, 8), (8,)])
def test_a_shape_that_no_network_fits_is_named(shape):
    with pytest.raises(InputError, match="extent"):
        make_model().sample(1, shape, n_steps=2)


def test_a_volume_that_does_not_fit_the_memory_is_refused_at_once():
    with pytest.raises(InputError, match="GiB"):
        make_model().sample(1, (2**14, 2**14, 2**14), n_steps=2)
