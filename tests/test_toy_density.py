"""The example in the plane gives what it promises."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PATH = Path(__file__).parents[1] / "examples" / "toy_density.py"


def test_samples_of_the_exact_score_are_close_to_the_density(capsys):
    """The learned score is trained for one step only: that a network learns is tested with the default recipe."""
    spec = importlib.util.spec_from_file_location("toy_density", PATH)
    assert spec is not None
    assert spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    table = example.main(n_points=800, n_training_steps=1)
    floor = table["two sets of draws"]
    assert floor < 0.06
    assert table["exact score, DDPM, all 1000 steps"] < 2 * floor
    assert table["exact score, DPM-Solver++, 20 shortening steps"] < table["exact score, DDIM, 20 steps"] + 0.5 * floor
    assert table["exact score, DPM-Solver++, 20 even steps"] > 3 * floor  # why the steps shorten
    assert "sliced Wasserstein" in capsys.readouterr().out
