"""A line of a table for each data set: accepted, refused by reason, volume fraction, S2 and L of the set.

`python benchmarks/dataset_table.py NAME=FOLDER[=MICROGRAPH] ...` reads what `mcrpy_diffusion generate` wrote. With a
micrograph the two curves of the set, means over its structures for r = 0 to half the extent, are compared with the
micrograph's (eq. 23); all curves are taken as periodic as the recipe says, L over rows and columns. `--sheet FILE`
draws the first structures of each set under its micrograph.
"""

from __future__ import annotations

import argparse

import numpy as np
from PIL import Image

from mcrpy_diffusion.data.dataset import ACCEPTED, Dataset
from mcrpy_diffusion.materials.acceptance import lineal_path_of, two_point_of
from mcrpy_diffusion.metrics.spatial_statistics import default_max_distance, discrepancy

HEADER = ("set", "accepted", "refused", "volume fraction", "of the reference", "eps_S2 %", "eps_L %")


def row(name: str, folder: str, micrograph: str | None) -> list[str]:
    """Measure a data set."""
    dataset = Dataset.open(folder)
    structures = dataset.load()
    refused = {reason: n for reason, n in dataset.counts().items() if reason != ACCEPTED}
    fractions = structures.mean(axis=(1, 2))
    cells = [name, str(len(structures)), ", ".join(f"{reason} {n}" for reason, n in refused.items()) or "none"]
    cells.append(f"{fractions.mean():.4f} ± {fractions.std():.4f}")
    if micrograph is None:
        return [*cells, "", "", ""]
    reference = np.load(micrograph)
    periodic = bool(dataset.info["recipe"]["periodic"])
    last = default_max_distance((*structures.shape[1:], *reference.shape))
    cells.append(f"{reference.mean():.4f}")
    for measure in (two_point_of, lineal_path_of):
        of_set = np.mean([measure(phases, 2, periodic, last)[0] for phases in structures], axis=0)
        cells.append(f"{discrepancy(measure(reference, 2, periodic, last)[0], of_set):.2f}")
    return cells


def sheet(sets: list[list[str]], path: str, n: int = 12) -> None:
    """Draw the first `n` structures of each set, a row each, its micrograph's corner in front."""
    rows = []
    for _, folder, *micrograph in sets:
        structures = Dataset.open(folder).load()[:n]
        extent = structures.shape[1:]
        first = np.load(micrograph[0])[: extent[0], : extent[1]] if micrograph else np.zeros(extent)
        framed = [np.pad(255 * image, 3, constant_values=128) for image in (first, *structures)]
        rows.append(np.concatenate(framed, axis=1).astype(np.uint8))
    image = Image.fromarray(np.concatenate(rows, axis=0))
    image.resize((2 * image.width, 2 * image.height), Image.Resampling.NEAREST).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="NAME=FOLDER[=MICROGRAPH]")
    parser.add_argument("--sheet", metavar="FILE")
    options = parser.parse_args()
    sets = [text.split("=") for text in options.sets]
    print("| " + " | ".join(HEADER) + " |\n" + "|---" * len(HEADER) + "|")
    for name, folder, *micrograph in sets:
        print("| " + " | ".join(row(name, folder, micrograph[0] if micrograph else None)) + " |", flush=True)
    if options.sheet:
        sheet(sets, options.sheet)


if __name__ == "__main__":
    main()
