"""Pretrained models: found by their names, listed, and each that is here as its card says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_export import exported, work  # noqa: F401  fixtures

from mcrpy_diffusion.commands import cli
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.models import pretrained
from mcrpy_diffusion.models.checkpoint import read_info
from mcrpy_diffusion.models.model import load_model
from mcrpy_diffusion.runtime.console import run
from mcrpy_diffusion.workflow import pipeline

LARGEST = 4 * 2**20
FRACTION_TOLERANCE = 0.05  # of two structures, besides four of their standard deviations


# --- what is here ---


@pytest.mark.parametrize(
    "name", pretrained.names() or [pytest.param("", marks=pytest.mark.skip("no models are installed"))]
)
def test_a_model_that_is_here_is_what_its_card_says(name: str) -> None:
    path = pretrained.FOLDER / f"{name}.safetensors"
    assert path.stat().st_size <= LARGEST
    assert path.with_suffix(".md").read_text(encoding="utf-8") == pretrained.card_text(name)
    model = load_model(name)
    info, card = model.info, model.info.card
    assert card is not None
    assert card.name == name
    assert card.source
    assert card.licence
    assert card.commands
    assert card.half_precision.differing_pixels < 0.05
    fraction = card.figures.volume_fraction
    images = model.sample(2)
    assert images.shape == (2, *info.extent)
    assert set(np.unique(images)) == set(range(info.n_phases))
    found = np.mean(images == fraction.phase)
    assert abs(found - fraction.generated) < FRACTION_TOLERANCE + 4 * fraction.original_std / 2**0.5


def test_no_card_without_its_model() -> None:
    cards = {file.stem for file in pretrained.FOLDER.glob("*.md")} - {"README"}
    assert cards == set(pretrained.names())


# --- names ---


@pytest.fixture
def shipped(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A folder of pretrained models with one called tiny, from an empty working directory."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "tiny.safetensors").write_bytes(exported.read_bytes())
    monkeypatch.setattr(pretrained, "FOLDER", folder)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder / "tiny.safetensors"


def test_files_and_folders_go_before_names(shipped: Path, exported: Path) -> None:  # noqa: F811
    assert pretrained.names() == ["tiny"]
    assert pretrained.find("tiny") == shipped
    assert pretrained.find(exported) == exported
    Path("tiny").mkdir()
    with pytest.raises(InputError, match=f"folder has no model.safetensors.*pretrained.*{shipped}"):
        pretrained.find("tiny")
    Path("tiny/model.safetensors").write_bytes(exported.read_bytes())
    assert pretrained.find("tiny") == Path("tiny/model.safetensors")
    os.rename("tiny", "other")
    Path("tiny").write_bytes(exported.read_bytes())
    assert pretrained.find("tiny") == Path("tiny")


@pytest.mark.parametrize("name", ["marble", "Tiny", "tiny.safetensors", "../models/tiny", "*"])
def test_an_unknown_name_lists_those_that_there_are(
    shipped: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for words in (["sample", "--model", name, "--out", "o"], ["models", name]):
        assert cli.main(words) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"error: {name}: no such model; ")
        assert error.endswith("name: tiny\n")
        assert error.count("\n") == 1
    shipped.unlink()
    with pytest.raises(InputError, match="name: none is installed"):
        pretrained.find("tiny")


def test_the_list_has_the_figures_and_the_card_all(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    figures = read_info(shipped).card.figures
    s2 = figures.two_point_correlation
    for cell in ("tiny", "16 x 16", "Apache 2.0", f"{s2.discrepancy_percent:.1f} ({s2.floor_percent:.1f})"):
        assert cell in lines[2]
    assert cli.main(["models", "tiny"]) == 0
    assert capsys.readouterr().out == pretrained.card_text("tiny")
    shipped.unlink()
    assert cli.main(["models"]) == 0
    assert capsys.readouterr().out.startswith("no pretrained models are installed")


def test_the_list_needs_neither_pytorch_nor_tensorflow(exported: Path) -> None:  # noqa: F811
    code = "import sys; from mcrpy_diffusion.commands import cli; status = cli.main(sys.argv[1:]); "
    for words in (["models"], ["models", str(exported)]):
        done = subprocess.run(
            [sys.executable, "-c", code + "print(*sys.modules); sys.exit(status)", *words],
            capture_output=True,
            text=True,
            check=True,
        )
        loaded = {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}
        assert "mcrpy_diffusion" in loaded
        assert loaded.isdisjoint({"torch", "tensorflow", "mcrpy"})


# --- the commands ---


def test_sample_takes_a_name_and_what_its_card_recommends(shipped: Path) -> None:
    assert cli.main(["sample", "--model", "tiny", "--n_samples", "3", "--out", "made"]) == 0
    expected = load_model("tiny").sample(3, n_steps=5, sampler="ddpm")
    for seed, structure in enumerate(expected):
        np.testing.assert_array_equal(np.load(f"made/{seed}.npy"), structure)


def test_reconstruct_needs_nothing_but_a_name(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"model": "tiny", "n_samples": 4, "data_folder": "out"}
    pipeline.reconstruct(given)
    said = capsys.readouterr().out
    expected = load_model("tiny").sample(4)
    for i, structure in enumerate(expected):
        np.testing.assert_array_equal(np.load(f"out/tiny_reconstructed_{i}.npy"), structure)
    names = {file.name for file in Path("out").iterdir()}
    assert names >= {"report.html", "metrics.json", "contact_sheet.png", "tiny_convergence_data.pickle"}
    page = Path("out/report.html").read_text()
    for text in (said, page):
        assert "eps_S2" in text
        assert "he original structures are missing" in text
        assert "Apache 2.0" in text
    before = {file: file.read_bytes() for file in Path("out").glob("*.npy")}
    pipeline.reconstruct({**given, "n_samples": 5})
    assert before.items() <= {file: file.read_bytes() for file in Path("out").glob("*.npy")}.items()
    assert len(list(Path("out").glob("*.npy"))) == 5


def test_a_model_without_a_card_gives_structures_and_says_that_nothing_is_compared(
    work: Path,  # noqa: F811
    shipped: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = work / "run" / "model.safetensors"
    pipeline.reconstruct({"model": str(model), "n_samples": 2, "n_sampling_steps": 3, "data_folder": "out"})
    assert "not evaluated: there is no original" in capsys.readouterr().out
    assert np.load("out/model_reconstructed_1.npy").shape == (16, 16)
    assert Path("out/contact_sheet.png").stat().st_size > 1000
    assert not Path("out/report.html").exists()
    assert run(lambda: pipeline.reconstruct({"data_folder": "other"})) == 2
    assert "or a model with --model" in capsys.readouterr().err


def test_match_compares_crops_without_periodicity_whatever_the_model_is(shipped: Path) -> None:
    import json

    assert read_info(shipped).periodic
    micrograph = (np.random.default_rng(0).random((64, 48)) < 0.35).astype(np.uint8)
    np.save("m.npy", micrograph)
    given = {"microstructure_filenames": ["m.npy"], "model": "tiny", "extent_x": 16, "extent_y": 16, "n_samples": 4}
    pipeline.match({**given, "n_training_samples": 20, "data_folder": "out"})
    metrics = json.loads(Path("out/metrics.json").read_text())
    assert metrics["n_images"]["original"] == 20
    assert not metrics["periodic"]
