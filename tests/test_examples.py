"""Each example runs, by small numbers, and does what it promises."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import mcrpy_diffusion

EXAMPLES = Path(__file__).parents[1] / "examples"
ELSEWHERE = {"make_reference", "toy_density"}  # these have test files of their own


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_has_a_test() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    for file in EXAMPLES.glob("*.py"):
        assert file.stem in ELSEWHERE or f'load("{file.stem}")' in tests, file
        assert (Path(__file__).parent / f"test_{file.stem}.py").exists() == (file.stem in ELSEWHERE)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the first example, whose model the others use."""
    out = tmp_path_factory.mktemp("example")
    assert load("micrograph_to_structures").main(out=out, n_training_steps=3, extent=16) == out / "report/report.html"
    return out


def test_from_a_micrograph_to_a_report(run: Path) -> None:
    assert (run / "report" / "report.html").stat().st_size > 10_000
    assert mcrpy_diffusion.Dataset.open(run / "dataset").load().shape == (2000, 16, 16)
    assert mcrpy_diffusion.load_model(run / "run" / "model.safetensors").info.extent == (16, 16)


def test_the_optimizer_returns_the_best_of_several(run: Path, tmp_path: Path) -> None:
    example, model = load("optimizer_plugin"), run / "run" / "model.safetensors"
    one, loss_of_one = example.main(model, best_of=1, n_sampling_steps=5, extent=32)
    best, loss_of_best = example.main(model, best_of=3, n_sampling_steps=5, extent=32, out=tmp_path / "best.npy")
    assert loss_of_best <= loss_of_one
    np.testing.assert_array_equal(np.load(tmp_path / "best.npy"), best)
    drawn = mcrpy_diffusion.load_model(model).sample(3, (32, 32), n_steps=5, sampler="dpm_solver")
    np.testing.assert_array_equal(one, drawn[0])
    assert any(np.array_equal(best, each) for each in drawn)


def test_mcrpys_structures_match_its_descriptor_better_than_noise(tmp_path: Path, samples_made_here: None) -> None:
    losses = load("with_mcrpy").main(out=tmp_path, n_training_samples=4, n_training_steps=3, extent=16)
    assert set(losses) == {"MCRpy", "diffusion", "noise"}
    assert 0 < losses["MCRpy"] < losses["noise"] / 3
    assert losses["diffusion"] > 0


def test_the_picture_shows_originals_and_generated_structures(run: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    shutil.copytree(run / "dataset", results / "training_data")
    for i in range(17):
        np.save(results / f"name_reconstructed_{i}.npy", np.full((16, 16), i % 2, np.uint8))
    picture = load("make_picture").main(results, tmp_path / "picture.png")
    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape[0] > 300
    assert {0, 255} <= set(np.unique(pixels))


def test_pictures_of_the_readme_are_small() -> None:
    for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")):
        assert (EXAMPLES.parent / name).stat().st_size < 150_000
