"""The command `mcrpy_diffusion`: its stages as commands of their own, its errors."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from test_pipeline import blobs

from mcrpy_diffusion.commands import cli
from mcrpy_diffusion.data.micrograph import hash_phases
from mcrpy_diffusion.settings import GenerationSettings, SamplingSettings, TrainingSettings


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


def test_a_data_set_carries_where_it_comes_from_and_can_be_verified(tmp_path, capsys):
    np.save(tmp_path / "m.npy", blobs())
    dataset = tmp_path / "dataset"
    words = ("--n_training_samples", 30, "--extent_x", 16, "--extent_y", 16)
    assert command("generate", "--micrograph", tmp_path / "m.npy", "--out", dataset, *words) == 0
    info = json.loads((dataset / "dataset.json").read_text())
    assert info["reference_sha256"] == [hash_phases(blobs().astype(np.uint8))]
    assert info["recipe"]["training_data"] == "crops"
    assert "% 2**32" in info["seeds"]
    assert info["versions"]["numpy"] == np.__version__
    assert "30 of 30" in (dataset / "generate.log").read_text()
    capsys.readouterr()
    assert command("generate", "--verify", dataset) == 0
    assert "30 structures of 30 seeds are as recorded" in capsys.readouterr().out
    (dataset / "samples" / "000007.npy").unlink()
    assert command("generate", "--verify", dataset) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"error: {str(dataset)!r}: samples/000007.npy is missing\n")
    assert command("generate", "--verify", tmp_path / "nowhere") == 2
    assert command("generate", "--verify", dataset, "--seed", 3) == 2
    assert "--verify was given with --seed; allowed is --verify alone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "invalid choice: 'nonsense'"),
        (["train", "--dataset", "x"], "required: --out"),
        (["sample", "--model", "missing.safetensors", "--out", "x"], "no such model"),
        (["sample", "--model", "n" * 300, "--out", "x"], "File name too long"),
        (["generate", "--material", "fibre", "--n_samples", "2", "--out", "/proc/x"], "No such file or directory"),
        (["train", "--dataset", "missing", "--out", "x"], "missing"),
        (["train", "--dataset", "x", "--out", "y", "--batch_size", "many"], "invalid int value: 'many'"),
        (["generate", "--micrograph", "x.npy"], "give the data set's folder with --out"),
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
    line = [sys.executable, "-X", "importtime", "-m", "mcrpy_diffusion", "--help"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0
    for name in ("generate", "train", "sample", "evaluate", "match", "reconstruct"):
        assert name in done.stdout
    rows = [row.split("|")[2].strip() for row in done.stderr.splitlines() if row.count("|") == 2]
    assert "mcrpy_diffusion.commands.cli" in rows
    heavy = {"torch", "tensorflow", "keras", "tf_keras", "mcrpy", "numpy", "scipy", "matplotlib", "PIL"}
    assert {row.split(".")[0] for row in rows} & heavy == set()
