"""MCRpy's descriptors, this package's diffusion, MCRpy's loss: `python examples/with_mcrpy.py`.

A descriptor is all that is known of the material. MCRpy reconstructs training structures from it, a model learns them,
and MCRpy's own loss says how well new structures match the descriptor, beside structures of noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import mcrpy_diffusion

MICROGRAPH = Path(__file__).with_name("bicontinuous.npy")


def main(
    out: str | Path = "work/with_mcrpy", n_training_samples: int = 50, n_training_steps: int = 300, extent: int = 32
) -> dict[str, float]:
    """Print and return the mean loss of each set of structures."""
    mcrpy_diffusion.register()  # before `import mcrpy`, so that PyTorch is loaded before TensorFlow
    import mcrpy

    phases = np.load(MICROGRAPH)[: 2 * extent, : 2 * extent].astype(float)
    statistics = {"descriptor_types": ["FFTCorrelations"], "limit_to": extent // 2, "use_multiphase": False}
    descriptor = mcrpy.characterize(
        mcrpy.Microstructure(phases, use_multiphase=False), mcrpy.CharacterizationSettings(**statistics)
    )
    dataset = mcrpy_diffusion.make_dataset(
        descriptor,
        Path(out) / "dataset",
        n_jobs=1,
        n_training_samples=n_training_samples,
        extent_x=extent,
        extent_y=extent,
    )
    model = mcrpy_diffusion.train_model(dataset, Path(out) / "run", n_training_steps=n_training_steps)
    training = dataset.load()
    noise = np.random.default_rng(0).random((16, extent, extent)) < training.mean()
    sets = {"MCRpy": training, "diffusion": model.sample(16, sampler="dpm_solver", n_steps=50), "noise": noise}
    losses = {name: float(mcrpy_diffusion.mcrpy_loss(each, descriptor).mean()) for name, each in sets.items()}
    for name, loss in losses.items():
        print(f"{name:10s} {loss:.3e}")
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--out", default="work/with_mcrpy")
    parser.add_argument("--n_training_samples", type=int, default=50)
    parser.add_argument("--n_training_steps", type=int, default=300)
    parser.add_argument("--extent", type=int, default=32, help="rows and columns of a structure")
    main(**vars(parser.parse_args()))
