"""The whole way on a small micrograph: results, stopping and going on, bad input."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mcrpy_diffusion.commands import mcrpy_commands as commands
from mcrpy_diffusion.mcrpy_bridge.characterization import read_characterization
from mcrpy_diffusion.runtime.console import run
from mcrpy_diffusion.workflow import pipeline

pytestmark = pytest.mark.usefixtures("blank_figures")  # those of the fixture `finished` are drawn

EXTENT = 16
SMALL = {
    "extent_x": EXTENT,
    "extent_y": EXTENT,
    "n_samples": 3,
    "n_training_samples": 40,
    "n_training_steps": 6,
    "n_sampling_steps": 4,
}


def blobs(shape=(64, 48), seed=0):
    """A two-phase micrograph: smoothed noise above its median."""
    noise = np.random.default_rng(seed).normal(size=shape)
    kernel = np.exp(-(np.fft.fftfreq(shape[0])[:, None] ** 2 + np.fft.fftfreq(shape[1]) ** 2) * 200)
    smooth = np.fft.ifft2(np.fft.fft2(noise) * kernel).real
    return (smooth > np.median(smooth)).astype(np.uint8)


@pytest.fixture(scope="module")
def micrograph(tmp_path_factory):
    path = tmp_path_factory.mktemp("input") / "blobs.npy"
    np.save(path, blobs())
    return path


def options(micrograph, folder, **more):
    return {"microstructure_filenames": [str(micrograph)], "data_folder": str(folder), **SMALL, **more}


@pytest.fixture(scope="module")
def finished(micrograph, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    pipeline.match(options(micrograph, folder))
    return folder


def structures(folder):
    return {p.name: p.read_bytes() for p in sorted(Path(folder).glob("*_reconstructed*.npy"))}


def test_all_results_are_there_and_open(finished):
    import mcrpy

    names = {p.name for p in finished.iterdir()}
    expected = {f"blobs_reconstructed_{i}.npy" for i in range(3)}
    expected |= {"model.safetensors", "report.html", "metrics.json", "logfile.log", "contact_sheet.png"}
    expected |= {"statistics.png", "blobs_characterization.pickle", "blobs_convergence_data.pickle"}
    assert expected <= names, expected - names
    for i in range(3):
        loaded = mcrpy.load(str(finished / f"blobs_reconstructed_{i}.npy"))
        assert loaded.spatial_shape == (EXTENT, EXTENT)
        array = np.load(finished / f"blobs_reconstructed_{i}.npy")
        assert array.dtype == np.uint8
        assert set(np.unique(array)) <= {0, 1}
    characterization = read_characterization(finished / "blobs_characterization.pickle")
    s2 = characterization["FFTCorrelations"]
    np.testing.assert_allclose(s2.max(), blobs().mean(), atol=1e-9)  # S2(0)
    data = mcrpy.load(str(finished / "blobs_convergence_data.pickle"))
    # of 4 steps; the first estimate, nearly even at a fraction below 1/2, rounds to one phase and is then left out
    assert len(data["raw_data"]) == len(data["scatter_data"]) in (3, 4)
    metrics = json.loads((finished / "metrics.json").read_text())
    assert metrics["n_images"]["generated"] == 3
    for measure in ("two_point_correlation", "lineal_path"):
        assert metrics[measure]["discrepancy_percent"] > 0
    assert metrics["nearest_training_image"]["minimum_mse"] > 0
    assert set(metrics["seconds"]) >= {"training data", "training", "sampling"}
    with Image.open(finished / "contact_sheet.png") as image:
        assert min(image.size) > 100


def test_the_same_command_again_changes_no_structure_and_does_not_train(finished, micrograph, capsys, monkeypatch):
    from mcrpy_diffusion.training import train

    before = structures(finished)
    monkeypatch.setattr(train, "loop", lambda *_: pytest.fail("trained again"))
    pipeline.match(options(micrograph, finished))
    assert structures(finished) == before
    assert "sampling at once" in capsys.readouterr().out


def test_more_structures_are_added_to_those_that_are_there(finished, micrograph):
    before = structures(finished)
    pipeline.match(options(micrograph, finished, n_samples=5))
    after = structures(finished)
    assert len(after) == 5
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"n_training_steps": 7}, "n_training_steps: 6 -> 7"),
        ({"n_sampling_steps": 5}, "n_sampling_steps: 4 -> 5"),
        ({"isotropic": True}, "isotropic: False -> True"),
        ({"preset": "paper"}, "n_timesteps"),
    ],
)
def test_a_changed_setting_is_named_and_nothing_is_mixed(finished, micrograph, capsys, change, named):
    before = {p.name: p.read_bytes() for p in finished.iterdir() if p.is_file() and p.suffix != ".log"}
    assert run(lambda: pipeline.match(options(micrograph, finished, **change))) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1
    after = {p.name: p.read_bytes() for p in finished.iterdir() if p.is_file() and p.suffix != ".log"}
    assert before == after


def test_a_changed_reference_is_named(finished, tmp_path, capsys):
    np.save(tmp_path / "blobs.npy", blobs(seed=1))
    assert run(lambda: pipeline.match(options(tmp_path / "blobs.npy", finished))) == 2
    assert "reference_sha256" in capsys.readouterr().err


def test_information_keeps_other_sampling_settings_apart_and_a_model_can_be_given(finished, micrograph, tmp_path):
    before = structures(finished)
    pipeline.match(options(micrograph, finished, information="more", n_sampling_steps=5))
    after = structures(finished)
    assert before.items() <= after.items()
    assert "blobs_reconstructed_more_0.npy" in after
    model = finished / "model.safetensors"
    pipeline.match(options(micrograph, tmp_path, model=str(model), n_samples=1))
    names = (tmp_path / "blobs_reconstructed.npy", finished / "blobs_reconstructed_0.npy")
    assert np.array_equal(*(np.load(name) for name in names))
    assert not (tmp_path / "model.safetensors").exists()


def test_a_model_that_is_given_is_sampled_as_it_wants_not_as_the_preset(finished, micrograph, tmp_path, capsys):
    pipeline.match(options(micrograph, tmp_path / "v", prediction="v", loss="simple"))
    for folder, said in ((finished, "ddpm, 50 steps"), (tmp_path / "v", "dpm_solver, 20 steps")):
        given = options(micrograph, tmp_path / "new", model=str(folder / "model.safetensors"), dry_run=True)
        capsys.readouterr()
        pipeline.match({k: v for k, v in given.items() if k != "n_sampling_steps"})
        assert f"sampling       {said}" in capsys.readouterr().out


def test_a_characterization_alone_is_enough(tmp_path, capsys, samples_made_here):
    """MCRpy's pickle -> MCRpy's reconstructions -> a periodic model -> structures measured against S2 of the pickle."""
    np.save(tmp_path / "blobs.npy", blobs((32, 32), seed=3))
    whole = [str(tmp_path / "blobs.npy")]
    commands.characterize(
        ["--microstructure_filenames", *whole, "--data_folder", str(tmp_path), "--limit_to", "16"]
        + ["--descriptor_types", "FFTCorrelations", "--no_multiphase", "--no_multigrid_descriptor"]
    )
    given = {**SMALL, "descriptor_filename": str(tmp_path / "blobs_characterization.pickle"), "n_jobs": 1}
    given |= {"extent_x": 32, "extent_y": 32, "volume_fraction_tolerance": 0.03}
    pipeline.reconstruct({**given, "data_folder": str(tmp_path / "out"), "n_training_samples": 4})
    assert len(structures(tmp_path / "out")) == 3
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["periodic"]
    assert metrics["n_images"]["original"] == 4
    assert abs(metrics["volume_fraction"]["original"] - 0.5) < 0.03
    assert "eps_S2" in capsys.readouterr().out


def command(micrograph, folder):
    arguments = ["--microstructure_filenames", str(micrograph), "--data_folder", str(folder)]
    for name, value in SMALL.items():
        arguments += [f"--{name}", str(value)]
    return [sys.executable, "-m", "mcrpy_diffusion", "match", "--method", "diffusion", *arguments]


DURING_TRAINING_DATA, DURING_TRAINING, DURING_SAMPLING = (
    "training_data/samples.jsonl",
    "training_data/dataset.json",
    "blobs_reconstructed_0.npy",
)


def test_a_stopped_command_goes_on_and_gives_the_same_structures(finished, micrograph, tmp_path):
    """The end must be that of an undisturbed run."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    kill, interrupt = signal.SIGKILL, signal.SIGINT
    for wait_for, number in ((DURING_TRAINING_DATA, kill), (DURING_TRAINING, interrupt), (DURING_SAMPLING, kill)):
        left = {*tmp_path.rglob(".*.tmp")}
        process = subprocess.Popen(command(micrograph, tmp_path), env=environment, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 600
        while not (tmp_path / wait_for).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(number)
        assert process.wait(timeout=600) != 2
        assert number == kill or {*tmp_path.rglob(".*.tmp")} <= left
    done = subprocess.run(command(micrograph, tmp_path), env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = {k: v for k, v in structures(finished).items() if k in structures(tmp_path)}
    assert len(expected) == 3
    assert structures(tmp_path) == expected


def test_a_dry_run_shows_the_settings_and_writes_nothing(micrograph, tmp_path, capsys):
    pipeline.match(options(micrograph, tmp_path / "new", dry_run=True))
    shown = capsys.readouterr().out
    assert "64 x 48, 2 phases" in shown
    assert "6 steps" in shown
    assert not (tmp_path / "new").exists()


def test_a_grey_image_is_thresholded_and_the_threshold_is_named(tmp_path, capsys):
    grey = (blobs() * 120 + 60 + np.random.default_rng(0).integers(0, 20, (64, 48))).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    pipeline.match(options(tmp_path / "grey.png", tmp_path / "out", dry_run=True))
    assert "threshold 129" in capsys.readouterr().out
    given = options(tmp_path / "grey.png", tmp_path / "out", dry_run=True, grey_values=True)
    pipeline.match({k: v for k, v in given.items() if k != "n_sampling_steps"})
    shown = capsys.readouterr().out
    assert "grey values" in shown
    assert "sampling       dpm_solver, 20 steps" in shown


def test_several_micrographs_and_three_phases(tmp_path):
    three = [blobs(seed=s) + (blobs(seed=s + 9) & blobs(seed=s)) for s in (0, 1)]
    for i, image in enumerate(three):
        np.save(tmp_path / f"m{i}.npy", image)
    files = [str(tmp_path / f"m{i}.npy") for i in (0, 1)]
    pipeline.match({**SMALL, "microstructure_filenames": files, "data_folder": str(tmp_path), "use_multiphase": True})
    assert (tmp_path / "m0_reconstructed_2.npy").exists()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert set(metrics["phases"]) == {"0", "1", "2"}


def test_small_micrographs_of_different_sizes_are_refused(tmp_path, capsys):
    for i, size in enumerate((20, 24)):
        np.save(tmp_path / f"{i}.npy", blobs((size, size)))
    files = [str(tmp_path / f"{i}.npy") for i in (0, 1)]
    assert run(lambda: pipeline.match({**SMALL, "microstructure_filenames": files, "dry_run": True})) == 2
    assert "got 20 x 20, 24 x 24 pixels" in capsys.readouterr().err


def bad_files(folder):
    good = blobs()
    np.save(folder / "good.npy", good)
    np.save(folder / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(folder / "nan.npy", np.where(good, np.nan, 0.5))
    np.save(folder / "constant.npy", np.ones((64, 64), np.uint8))
    np.save(folder / "phases.npy", good * 3)
    np.save(folder / "volume.npy", np.zeros((4, 4, 4)))
    (folder / "corrupt.npy").write_bytes((folder / "good.npy").read_bytes()[:200])
    (folder / "empty.npy").write_bytes(b"")
    (folder / "text.txt").write_text("hello")
    (folder / "a_file").write_text("")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"file": "missing.npy"}, "missing.npy"),
        ({"file": "empty.npy"}, "empty.npy"),
        ({"file": "corrupt.npy"}, "corrupt.npy"),
        ({"file": "object.npy"}, "object"),
        ({"file": "nan.npy"}, "NaN"),
        ({"file": "constant.npy"}, "phase"),
        ({"file": "phases.npy"}, "phases"),
        ({"file": "volume.npy"}, "3D"),
        ({"file": "text.txt"}, ".txt"),
        ({"extent_x": 128, "extent_y": 128}, "smaller than the extent 128 x 128"),
        ({"extent_x": 20}, "multiple of [0-9]"),
        ({"n_samples": 0}, "n_samples must be"),
        ({"preset": "best"}, "preset must be one of quick, small, paper, got 'best'"),
        ({"data_folder": "a_file"}, "must be a writable folder"),
        ({"data_folder": "/proc/nothing"}, "must be a writable folder"),
        ({"model": "missing.safetensors"}, "no such model"),
        ({"model": "good.npy"}, "safetensors"),
        ({"n_sampling_steps": 5000}, "between 1 and 1000"),
        ({"microstructure_filenames": []}, "no micrograph"),
        ({"training_data": "crops", "extent_x": 48, "extent_y": 48, "seed": -1}, "seed must be"),
    ],
)
def test_bad_input_gives_one_line_and_status_2_and_leaves_nothing(tmp_path, monkeypatch, capsys, change, said):
    import re

    monkeypatch.chdir(tmp_path)
    bad_files(tmp_path)
    before = {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in tmp_path.rglob("*") if p.is_file()}
    change = dict(change)
    given = {**options(change.pop("file", "good.npy"), "out"), **change}
    assert run(lambda: pipeline.match(given)) == 2
    error = capsys.readouterr().err
    assert re.search(said, error), error
    assert error.count("\n") == 1
    after = {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in tmp_path.rglob("*") if p.is_file()}
    assert {p for p in after if p.suffix not in (".log", ".json")} == {p for p in before if p.suffix != ".json"}
    assert before.items() <= after.items()
