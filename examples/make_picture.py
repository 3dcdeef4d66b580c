"""Make README's picture from a run of its first command: `python examples/make_picture.py results`.

Above: crops of the micrograph that the model was trained on. Below: structures that it drew.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from mcrpy_diffusion import Dataset
from mcrpy_diffusion.reports.figures import contact_sheet

N_SHOWN = 16
PICTURE = Path(__file__).parents[1] / "docs" / "bicontinuous.png"


def main(results: str | Path = "results", out: str | Path = PICTURE) -> Path:
    """Draw the contact sheet of a results folder; return the picture's path."""
    folder = Path(results)
    files = sorted(folder.glob("*_reconstructed_*.npy"), key=lambda file: (len(file.name), file.name))[:N_SHOWN]
    structures = np.stack([np.load(file) for file in files])
    dataset = Dataset.open(folder / "training_data")
    originals = np.stack([dataset.sample(index) for index in dataset.accepted[:N_SHOWN]])
    contact_sheet(originals, structures, out)
    print(out)
    return Path(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("results", nargs="?", default="results", help="folder of a run")
    parser.add_argument("--out", default=PICTURE, help="the picture")
    main(**vars(parser.parse_args()))
