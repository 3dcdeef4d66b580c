"""Studies of a model: sampling steps and likelihood."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_train import TINY, stripes

from mcrpy_diffusion.commands.cli import main
from mcrpy_diffusion.diffusion.denoiser import NetworkDenoiser
from mcrpy_diffusion.diffusion.likelihood import variational_bound
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.models.checkpoint import ModelInfo, build_network, save_model
from mcrpy_diffusion.models.model import load_model
from mcrpy_diffusion.workflow.studies import likelihood, originals_for, step_study


@pytest.fixture
def model_path(tmp_path):
    """A network that knows nothing: its prediction of the noise is 0."""
    info = ModelInfo(replace(TINY, n_timesteps=30), n_phases=2, extent=(8, 8), periodic=True)
    path = tmp_path / "model.safetensors"
    save_model(path, build_network(info).state_dict(), info)
    return path


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "real").mkdir()
    for i, image in enumerate(stripes(5)):
        np.save(tmp_path / "real" / f"{i}.npy", image)
    return tmp_path / "real"


def test_the_likelihood_is_that_of_the_maths(model_path, folder, tmp_path):
    model = load_model(model_path, device="cpu")
    text = likelihood(model, list(stripes(5)), tmp_path / "out", n_images=3, seed=4)
    found = json.loads((tmp_path / "out" / "likelihood.json").read_text())
    x_0 = torch.from_numpy(stripes(3)).float()[:, None] * 2 - 1
    denoise = NetworkDenoiser(model.network, model.schedule, clip=False)
    generators = [torch.Generator().manual_seed(4 + i) for i in range(3)]
    bound = variational_bound(denoise, x_0, model.schedule, generator=generators)
    assert found["bits_per_dimension"] == pytest.approx(float(bound.total.double().mean()), rel=1e-5)
    assert found["standard_error"] == pytest.approx(float(bound.total.double().std() / 3**0.5), rel=1e-4)
    assert found["prior"] + sum(found["terms"]) == pytest.approx(found["bits_per_dimension"], rel=1e-5)
    assert (found["n_images"], found["exact"], found["times"]) == (3, True, list(range(30)))
    assert "3 structures, all 30 terms" in text


def test_the_study_has_a_line_per_case_and_goes_on(model_path, folder, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["evaluate", "--model", str(model_path), "--original", str(folder), "--out", str(out)]
    command += ["--n_steps", "2", "5", "--n_samples", "6", "--likelihood", "--n_terms", "4"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "4 of 30 terms" in printed
    study = json.loads((out / "sampling_steps.json").read_text())
    assert [(r["sampler"], r["n_steps"]) for r in study["rows"]] == [
        ("ddim", 2),
        ("ddim", 5),
        ("dpm_solver", 2),
        ("dpm_solver", 5),
    ]
    assert all(r["seconds_per_structure"] > 0 and r["eps_s2_percent"] > 0 for r in study["rows"])
    assert study["rows"][0]["frechet_distance"] is None
    assert (out / "sampling_steps.png").read_bytes().startswith(b"\x89PNG")
    model = load_model(model_path, device="cpu")
    expected = model.sample(6, n_steps=5, sampler="dpm_solver")
    np.testing.assert_array_equal(np.load(out / "dpm_solver_5" / "3.npy"), expected[3])
    before = {p: p.stat().st_mtime_ns for p in out.glob("*/*.npy")}
    assert main(command) == 0  # nothing is sampled again
    assert {p: p.stat().st_mtime_ns for p in out.glob("*/*.npy")} == before
    again = json.loads((out / "sampling_steps.json").read_text())
    assert [r["eps_l_percent"] for r in again["rows"]] == [r["eps_l_percent"] for r in study["rows"]]


def test_larger_originals_are_cropped(model_path):
    model = load_model(model_path, device="cpu")
    crops = originals_for(model, [np.arange(400, dtype=np.uint8).reshape(20, 20) % 7])
    assert crops.shape == (1000, 8, 8)
    with pytest.raises(InputError):
        originals_for(model, [np.zeros((4, 4), np.uint8)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--likelihood"], "--likelihood need --model"),
        ([], "give either --generated"),
        (["--model", "MODEL"], "give --likelihood or --n_steps"),
        (["--model", "MODEL", "--likelihood", "--generated", "x"], "no --generated"),
        (["--model", "MODEL", "--n_steps", "2", "--samplers", "euler"], "invalid choice: 'euler'"),
        (["--model", "MODEL", "--n_steps", "31"], "n_sampling_steps must be between 1 and 30"),
        (["--model", "MODEL", "--likelihood", "--n_terms", "31"], "between 2 and 30"),
    ],
)
def test_wrong_questions_get_one_line(model_path, folder, tmp_path, capsys, options, message):
    given = [str(model_path) if o == "MODEL" else o for o in options]
    assert main(["evaluate", "--original", str(folder), "--out", str(tmp_path / "out"), *given]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_unknown_samplers_cost_nothing(model_path, tmp_path):
    with pytest.raises(InputError, match="must be among ddim, ddpm, dpm_solver"):
        step_study(load_model(model_path), list(stripes(3)), tmp_path / "out", n_steps=[2], samplers=["x"])
    assert not (tmp_path / "out").exists()
