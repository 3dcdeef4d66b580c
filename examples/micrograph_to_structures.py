"""From a micrograph to new structures and a report, in Python: `python examples/micrograph_to_structures.py`.

The defaults are a try of some minutes on a CPU; `--n_training_steps 1200` is the preset's count.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mcrpy_diffusion

MICROGRAPH = Path(__file__).with_name("bicontinuous.npy")


def main(
    micrograph: str | Path = MICROGRAPH, out: str | Path = "work/example", n_training_steps: int = 300, extent: int = 64
) -> Path:
    """Make a data set, train, sample, evaluate; return the report's path."""
    read = mcrpy_diffusion.read_micrograph(micrograph)
    dataset = mcrpy_diffusion.make_dataset(read, Path(out) / "dataset", extent_x=extent, extent_y=extent)
    model = mcrpy_diffusion.train_model(dataset, Path(out) / "run", n_training_steps=n_training_steps)
    structures = model.sample(16, sampler="dpm_solver", n_steps=50, seed=0)
    original, parts = dataset.load(), dataset.split  # the trained and the held-out part of the micrograph
    assert parts is not None
    metrics = mcrpy_diffusion.evaluate_structures(
        original,
        structures,
        n_phases=read.n_phases,
        periodic=False,  # crops do not continue across their edges
        training=original,
        micrographs=parts.training,  # where copies are looked for, at every position
        held_out=parts.held_out_crops(1000),
        held_out_micrographs=parts.held_out,
    )
    report, *_ = mcrpy_diffusion.write_report(
        Path(out) / "report", name=read.name, metrics=metrics, original=original, generated=structures
    )
    print(f"volume fraction {metrics.volume_fraction.difference:+.4f}")
    print(f"eps_S2 {metrics.two_point_correlation.discrepancy_percent:.1f} %")
    print(report)
    return report


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--micrograph", default=MICROGRAPH)
    parser.add_argument("--out", default="work/example")
    parser.add_argument("--n_training_steps", type=int, default=300)
    parser.add_argument("--extent", type=int, default=64, help="rows and columns of a structure")
    main(**vars(parser.parse_args()))
