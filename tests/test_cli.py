"""The command `mcrpy_diffusion`: its stages as commands of their own, its errors."""

from __future__ import annotations

import argparse
import inspect
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from test_pipeline import blobs

import mcrpy_diffusion
from mcrpy_diffusion.commands import cli
from mcrpy_diffusion.commands.options import option_of, preset_in_force
from mcrpy_diffusion.commands.parser import make_parser
from mcrpy_diffusion.data.micrograph import hash_phases
from mcrpy_diffusion.settings import (
    PRESET,
    PRESETS,
    AlloySettings,
    BenchmarkSettings,
    FibreSettings,
    GenerationSettings,
    SamplingSettings,
    TrainingSettings,
    options_of,
    preset,
)
from mcrpy_diffusion.workflow import studies


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
    assert "30 structures of 30 seeds agree with the record" in capsys.readouterr().out
    (dataset / "samples" / "000007.npy").unlink()
    assert command("generate", "--verify", dataset) == 2
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"error: {str(dataset)!r}: samples/000007.npy is missing\n")
    assert command("generate", "--verify", tmp_path / "nowhere") == 2
    assert command("generate", "--verify", dataset, "--seed", 3) == 2
    assert "--verify must be given alone, got --seed" in capsys.readouterr().err


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
        (["generate", "--micrograph", "x.npy"], "give a folder for the data set with --out"),
        (["generate", "--out", "x"], "one of --micrograph, --descriptor_filename"),
        (["evaluate", "--original", "missing", "--generated", "missing", "--out", "x"], "missing"),
        (["evaluate", "--original", "x", "--out", "y", "--n_steps", "0"], "each of n_steps must be at least 1, got 0"),
        (["train", "--dataset", "x", "--out", "y", "--batch_size", "0"], "batch_size must be at least 1, got 0"),
    ],
)
def test_wrong_arguments_give_one_line_and_status_2(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert command(*words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.fixture
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "2000")  # so that no text is broken into lines


def help_of(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit):
        command(*words, "-h")
    return " ".join(capsys.readouterr().out.split())


STAGES = {
    "generate": (GenerationSettings, FibreSettings, AlloySettings),
    "train": (TrainingSettings,),
    "sample": (SamplingSettings,),
    "benchmark": (BenchmarkSettings, TrainingSettings),
}


@pytest.mark.usefixtures("_wide")
@pytest.mark.parametrize("stage", STAGES)
def test_every_setting_is_an_option_of_its_stage_with_its_help(stage, capsys):
    shown = help_of(capsys, stage)
    for option in (each for settings in STAGES[stage] for each in options_of(settings)):
        flag = f"--{option.name if (stage, option.name) != ('sample', 'n_sampling_steps') else 'n_steps'}"
        assert re.search(rf" {flag}[ ,]", shown), flag
        if option.name not in ("seed", "periodic", "aspect_ratio"):  # of several settings
            assert option.help in shown, flag


def test_all_options_of_the_commands_are_documented_options(capsys):
    for name, parser in make_parser().commands.items():
        shown = help_of(capsys, name)
        for action in parser._actions:
            if action.help != argparse.SUPPRESS:
                assert action.help, (name, action.dest)
                assert all(flag in shown for flag in action.option_strings)
                assert option_of(action) or action.dest in ("help", "name", "paths"), (name, action.dest)


@pytest.mark.parametrize("stage", ["train", "benchmark"])
@pytest.mark.parametrize("words", [(), ("--preset", "small"), ("--preset=paper",), ("--preset", "unknown")])
def test_help_shows_the_preset_in_force(stage, words, capsys):
    name = " ".join(words).replace("=", " ").removeprefix("--preset").strip()
    training = preset(name if name in PRESETS else "quick").training
    shown = help_of(capsys, stage, *(words if "unknown" not in words else ()))
    for field in ("channels", "n_training_steps", "learning_rate_schedule"):
        option = next(each for each in options_of(TrainingSettings) if each.name == field)
        assert f"default: {getattr(training, field)})" in shown.split(option.help)[1][:60]
    assert preset_in_force([stage, *words]).training == training


def test_the_help_of_the_benchmark_has_the_presets_number_of_training_structures(capsys):
    assert "training structures (at least 2; default: 1000)" in help_of(capsys, "benchmark", "--preset", "paper")
    assert "training structures (at least 2; default: 2000 crops" in help_of(capsys, "benchmark")


def test_training_has_the_default_preset_of_the_python_function():
    assert inspect.signature(mcrpy_diffusion.train_model).parameters["preset_name"].default == PRESET.default


def test_the_help_of_sample_leaves_the_sampler_to_the_model(capsys):
    shown = help_of(capsys, "sample")
    assert shown.count("default: the model's") == 2
    assert "default: ddim" not in shown
    assert "150" not in shown


def test_the_defaults_that_help_shows_for_studies_are_those_of_the_functions():
    options = {option.name: option for a in make_parser().commands["evaluate"]._actions if (option := option_of(a))}
    for function in (studies.likelihood, studies.step_study):
        for name, parameter in inspect.signature(function).parameters.items():
            if name in ("n_images", "n_terms", "samplers", "n_samples", "seed"):
                assert options[name].default == parameter.default, name


def test_the_former_name_of_an_option_is_read_but_not_shown(capsys):
    assert "skip_certain_times" not in help_of(capsys, "train")
    words = ["train", "--dataset", "d", "--out", "o"]
    for flag, value in (("--skip_certain_times", True), ("--no-skip_certain_times", False)):
        assert make_parser().parse_args([*words, flag]).skip_high_snr is value
    assert make_parser().parse_args(words).skip_high_snr is None


def test_pairs_of_names_and_numbers_are_collected():
    words = "benchmark --reference m --out o --n_samples_of gram 3 --n_samples_of s2_tnc 4".split()
    assert make_parser().parse_args(words).n_samples_of == {"gram": 3, "s2_tnc": 4}


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
