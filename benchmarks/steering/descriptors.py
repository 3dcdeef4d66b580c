"""What steering to S2 and lineal path does: `python descriptors.py MICROGRAPHS NAME ...`.

MICROGRAPHS is a folder with <NAME>_64.npy, NAME a pretrained model. Finished rows of descriptors.json are kept.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from volume_fractions import isolated

from mcrpy_diffusion import load_model
from mcrpy_diffusion.metrics.spatial_statistics import discrepancy, lineal_path
from mcrpy_diffusion.models.request import make_request
from mcrpy_diffusion.settings import RequestSettings

N = 16
RESULT = Path(__file__).with_name("descriptors.json")


def curve(phases: np.ndarray) -> np.ndarray:
    """L(r) of phase 1 along rows and columns, averaged."""
    return lineal_path(phases.astype(int), phase=1, periodic=True, max_length=31)[:2].mean(0)


def main(folder: str, *names: str) -> None:
    """Measure what is missing and print all rows."""
    rows = json.loads(RESULT.read_text()) if RESULT.exists() else []
    for name in names:
        model, path = load_model(name), Path(folder) / f"{name}_64.npy"
        settings = model.info.sampling_settings()
        steered = make_request(RequestSettings(target_image=str(path)), model.info, settings, model.info.extent)
        wanted = curve(np.load(path) == 1)
        for kind, request in (("unsteered", replace(steered, targets=())), ("S2 and L", steered)):
            if any(row["model"] == name and row["request"] == kind for row in rows):
                continue
            start = time.perf_counter()
            structures = np.concatenate([each for _, each in model.batches(range(N), settings, request=request)])
            seconds = time.perf_counter() - start
            curves = [curve(each) for each in structures]
            figures = steered.figures(structures, 2)
            rows.append(
                {
                    "model": name,
                    "request": kind,
                    "s2_map_percent": next(each.reached for each in figures if "S2" in each.name),
                    "eps_L_single_percent": float(np.median([discrepancy(wanted, each) for each in curves])),
                    "eps_L_mean_percent": float(discrepancy(wanted, np.mean(curves, axis=0))),
                    "isolated": isolated(structures),
                    "seconds": seconds,
                }
            )
            RESULT.write_text(json.dumps(rows, indent=1))
    for row in rows:
        print(row)


if __name__ == "__main__":
    main(*sys.argv[1:])
