"""On a graphics card: the structures of a CPU, trainings that change the device, bfloat16. Skipped without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import mcrpy_diffusion

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device")

TINY = {"channels": 16, "channel_multipliers": (1, 2), "n_timesteps": 100, "batch_size": 4, "n_training_steps": 4}


def differing(first: np.ndarray, second: np.ndarray) -> float:
    """Return the share of pixels that differ."""
    return float((first != second).mean())


def test_the_same_seed_gives_the_same_structures_as_on_a_cpu() -> None:
    """Up to rounding, which weights of 16 bits show the size of: the card says how many pixels they changed."""
    card = mcrpy_diffusion.load_model("fibre", device="cpu").info.card
    assert card is not None
    options = {"seed": 3, "n_steps": 10, "sampler": "dpm_solver", "precision": "float32"}
    made = [mcrpy_diffusion.load_model("fibre", device=device).sample(4, **options) for device in ("cpu", "cuda")]
    assert differing(*made) <= card.half_precision["differing_pixels"]


def test_structure_i_depends_on_its_seed_alone() -> None:
    model = mcrpy_diffusion.load_model("fibre", device="cuda")
    options = {"n_steps": 5, "precision": "float32"}
    together = model.sample(5, seed=0, **options)
    assert differing(together[2:], model.sample(3, seed=2, batch_size=2, **options)) < 0.01


def test_bfloat16_keeps_the_format_of_the_weights_and_the_volume_fraction() -> None:
    model = mcrpy_diffusion.load_model("fibre", device="cuda")
    weights = [weight for weight in model.network.parameters() if weight.ndim == 4]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    first, second = (model.sample(4, n_steps=10, precision=precision) for precision in ("float32", "bfloat16"))
    np.testing.assert_array_equal(first.mean(axis=(1, 2)), second.mean(axis=(1, 2)))  # held to the pixel
    assert differing(first, second) < 0.1


def test_a_training_of_a_cpu_goes_on_on_the_card(tmp_path: Path) -> None:
    stripes = np.tile([0, 0, 1, 1], (40, 10)).astype(np.uint8)
    sizes = {"extent_x": 16, "extent_y": 16, "n_training_samples": 12}
    dataset = mcrpy_diffusion.make_dataset(stripes, tmp_path / "data", **sizes)

    class Stopped(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        if step == 3:
            raise Stopped

    settings = {**TINY, "checkpoint_steps": 2}
    with pytest.raises(Stopped):
        mcrpy_diffusion.train_model(dataset, tmp_path / "run", device="cpu", on_step=stop, **settings)
    assert [path.stem for path in (tmp_path / "run" / "checkpoints").glob("*.pt")] == ["step_2"]
    steps: dict[int, float] = {}
    model = mcrpy_diffusion.train_model(
        dataset, tmp_path / "run", device="cuda", on_step=lambda step, loss: steps.update({step: loss}), **settings
    )
    assert sorted(steps) == [3, 4]
    assert np.isfinite(list(steps.values())).all()
    assert next(model.network.parameters()).is_cuda
    uninterrupted = mcrpy_diffusion.train_model(dataset, tmp_path / "whole", device="cpu", **settings)
    weights = zip(model.network.parameters(), uninterrupted.network.parameters())
    largest = max(float((a.detach().cpu() - b.detach()).abs().max()) for a, b in weights)
    assert largest < 4 * 1e-3  # steps 3 and 4 move a weight by the learning rate at most, to either side
