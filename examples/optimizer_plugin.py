"""A model as MCRpy's optimizer: `python examples/optimizer_plugin.py results/model.safetensors`.

`mcrpy.reconstruct` draws structures from the model in place of an optimisation, and returns the one of several whose
descriptor is nearest to the micrograph's.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import mcrpy_diffusion

MICROGRAPH = Path(__file__).with_name("bicontinuous.npy")


def main(
    model: str | Path, best_of: int = 4, n_sampling_steps: int = 50, extent: int = 64, out: str | Path | None = None
) -> tuple[np.ndarray, float]:
    """Return the structure and MCRpy's loss of it; write it where `out` says."""
    mcrpy_diffusion.register()  # before `import mcrpy`, so that PyTorch is loaded before TensorFlow
    import mcrpy

    statistics = {"descriptor_types": ["FFTCorrelations"], "limit_to": 16, "use_multiphase": False, "periodic": False}
    micrograph = mcrpy.Microstructure(np.load(MICROGRAPH).astype(float), use_multiphase=False)
    descriptor = mcrpy.characterize(micrograph, mcrpy.CharacterizationSettings(**statistics))
    settings = mcrpy.ReconstructionSettings(optimizer_type="Diffusion", **statistics)
    settings.model, settings.best_of = str(model), best_of
    settings.sampler, settings.n_sampling_steps = "dpm_solver", n_sampling_steps
    convergence_data, structure = mcrpy.reconstruct(descriptor, (extent, extent), settings)
    phases, loss = structure.decode_phases().astype(np.uint8), float(convergence_data["line_data"][-1][1])
    print(f"best of {best_of}: MCRpy's loss {loss:.3e}, volume fraction {phases.mean():.4f}")
    if out is not None:
        np.save(out, phases)
    return phases, loss


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("model", help="a model.safetensors of this package")
    parser.add_argument("--best_of", type=int, default=4)
    parser.add_argument("--n_sampling_steps", type=int, default=50)
    parser.add_argument("--extent", type=int, default=64, help="rows and columns of the structure")
    parser.add_argument("--out", help=".npy file for the structure")
    main(**vars(parser.parse_args()))
