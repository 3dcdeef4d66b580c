"""The command `mcrpy_diffusion`: its stages as commands of their own, its errors."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from test_pipeline import blobs

from mcrpy_diffusion import cli
from mcrpy_diffusion.config import GenerationSettings, SamplingSettings, TrainingSettings


def command(*words):
    return cli.main([str(word) for word in words])


def test_each_stage_is_a_command_from_files_to_files(tmp_path, capsys):
    np.save(tmp_path / "m.npy", blobs())
    extent = ("--extent_x", 16, "--extent_y", 16)
    dataset, run, made, report = (tmp_path / name for name in ("dataset", "run", "made", "report"))
    assert (
        command("generate", "--micrograph", tmp_path / "m.npy", "--out", dataset, "--n_training_samples", 30, *extent)
        == 0
    )
    assert command("train", "--dataset", dataset, "--out", run, "--preset", "quick", "--n_training_steps", 3) == 0
    model = run / "model.safetensors"
    assert command("sample", "--model", model, "--n_samples", 2, "--n_steps", 3, "--seed", 4, "--out", made) == 0
    assert sorted(p.name for p in made.glob("*.npy")) == ["4.npy", "5.npy"]
    assert command("evaluate", "--original", dataset, "--generated", made, "--out", report, "--non_periodic") == 0
    metrics = json.loads((report / "metrics.json").read_text())
    assert metrics["n_images"]["generated"] == 2
    assert metrics["n_images"]["original"] == 30
    assert "eps_S2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["train", "--dataset", "x"], "required: --out"),
        (["sample", "--model", "missing.safetensors", "--out", "x"], "no such model"),
        (["train", "--dataset", "missing", "--out", "x"], "missing"),
        (["train", "--dataset", "x", "--out", "y", "--batch_size", "many"], "invalid int value: 'many'"),
        (["generate", "--out", "x"], "either --micrograph or --descriptor_filename"),
        (["evaluate", "--original", "missing", "--generated", "missing", "--out", "x"], "missing"),
    ],
)
def test_wrong_arguments_give_one_line_and_status_2(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert command(*words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_every_setting_is_an_option_of_its_stage(capsys):
    for stage, settings in (
        ("train", TrainingSettings),
        ("generate", GenerationSettings),
        ("sample", SamplingSettings),
    ):
        with pytest.raises(SystemExit):
            command(stage, "--help")
        shown = capsys.readouterr().out
        for name in settings.__dataclass_fields__:
            assert f"--{name if name != 'n_sampling_steps' else 'n_steps'}" in shown


def test_help_comes_without_a_framework():
    done = subprocess.run([sys.executable, "-m", "mcrpy_diffusion", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    for name in ("generate", "train", "sample", "evaluate", "match", "reconstruct"):
        assert name in done.stdout
