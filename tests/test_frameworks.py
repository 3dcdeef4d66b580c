"""PyTorch and TensorFlow in one process, in every order that users import them."""

from __future__ import annotations

import subprocess
import sys

import pytest

TRAIN = """
import sys
sys.path.insert(0, {tests!r})
from dataclasses import replace
from pathlib import Path
from test_train import TINY, data
from mcrpy_diffusion.models.model import load_model
from mcrpy_diffusion.training.train import train
path = train(data(), replace(TINY, n_training_steps=2), Path({folder!r}))
print(load_model(path).sample(1, n_steps=2).shape)
"""
OURS = "from mcrpy_diffusion.mcrpy_bridge.environment import import_mcrpy; import_mcrpy()\n"


@pytest.mark.parametrize("first", ["import tensorflow\n", "import torch\n" + OURS, ""])
def test_training_works_whatever_was_imported_before(tmp_path, first):
    from pathlib import Path

    script = first + TRAIN.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    script += "import tensorflow\n" if not first else ""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-500:]
    assert "(1, 8, 8)" in done.stdout
