"""Training in several processes, started by torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_train import TINY

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.training.log import read_log
from mcrpy_diffusion.training.run import share_of_batch

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("num_processes", [1, 2, 3])
@pytest.mark.parametrize("parts", [1, 2])
def test_every_image_of_a_batch_has_one_process(num_processes, parts):
    settings = TINY.replace(batch_size=12, gradient_accumulation=parts)
    slices = [s for p in range(num_processes) for s in share_of_batch(settings, num_processes, p)]
    images = [i for s in slices for i in range(12)[s]]
    assert sorted(images) == list(range(12))
    assert len({s.stop - s.start for s in slices}) == 1


def test_a_batch_is_shared_evenly_or_not_at_all():
    with pytest.raises(InputError, match="batch_size must be a multiple of 3"):
        share_of_batch(TINY, 3, 0)


@pytest.mark.slow
def test_two_processes_give_the_loss_curve_of_one(tmp_path):
    from mcrpy_diffusion.commands.cli import main

    data = tmp_path / "data"
    generate = ["generate", "--micrograph", str(ROOT / "examples" / "bicontinuous.npy"), "--out", str(data)]
    assert main([*generate, "--n_training_samples", "24", "--extent_x", "16", "--extent_y", "16"]) == 0
    settings = {"channels": 8, "n_residual_blocks": 1, "dropout": 0, "n_training_steps": 20, "batch_size": 4}
    options = [w for k, v in settings.items() for w in (f"--{k}", str(v))]
    options += ["--dataset", str(data), "--channel_multipliers", "1", "2", "--precision", "float32"]
    options += ["--gradient_accumulation", "2", "--preset", "paper"]
    assert main(["train", *options, "--out", str(tmp_path / "one")]) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, "-m", "mcrpy_diffusion", "train", *options, "--out", str(tmp_path / "two")],
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("model.safetensors") == 1  # printed by one of the two
    assert "2 processes share each batch" in done.stdout
    one, two = read_log(tmp_path / "one"), read_log(tmp_path / "two")
    assert len(one) == len(two) == 2
    for column in ("loss", "gradient_norm", "learning_rate"):
        np.testing.assert_allclose([x[column] for x in two], [x[column] for x in one], rtol=1e-4)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    for key in weights[0]:
        torch.testing.assert_close(weights[1][key], weights[0][key], rtol=1e-3, atol=2e-4)  # Adam amplifies rounding
