"""The example in the plane gives what it promises."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "examples" / "toy_density.py"


@pytest.mark.slow
def test_samples_of_the_exact_and_of_the_learned_score_are_close_to_the_density(capsys):
    spec = importlib.util.spec_from_file_location("toy_density", PATH)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    table = example.main(n_points=4000, n_training_steps=1500)
    floor = table["two sets of draws"]
    assert floor < 0.03
    assert table["exact score, DDPM, all 1000 steps"] < 2 * floor
    assert table["exact score, DPM-Solver++, 20 shortening steps"] < table["exact score, DDIM, 20 steps"] + 0.5 * floor
    assert table["exact score, DPM-Solver++, 20 even steps"] > 3 * floor  # why the steps shorten
    assert table["learned score, DDIM, 150 steps"] < 4 * floor
    assert "sliced Wasserstein" in capsys.readouterr().out
