"""How far from its training data a model can be asked for a volume fraction: `python volume_fractions.py`.

Each model is asked for fractions below, in and above those of its training data. Isolated pixels and the interface
density of the structures are compared with those at the trained fraction. Finished rows of volume_fractions.json are
kept, so that the same command goes on after a stop.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np

from mcrpy_diffusion import load_model

N = 16
RESULT = Path(__file__).with_name("volume_fractions.json")
ASKED = {
    "ceramics": (0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6),
    "carbonate": (0.05, 0.08, 0.107, 0.14, 0.18, 0.25),
    "copolymer": (0.35, 0.42, 0.46, 0.52, 0.57, 0.62),
    "fibre": (0.25, 0.3, 0.35, 0.4, 0.45),
    "pmma": (0.008, 0.014, 0.0186, 0.025, 0.03),
    "alloy": (0.08, 0.12, 0.15, 0.18, 0.24),
}


def isolated(phases: np.ndarray) -> float:
    """Pixels that differ from all four neighbours, per periodic structure (N, I, J)."""
    neighbours = [np.roll(phases, shift, axis) for axis in (1, 2) for shift in (-1, 1)]
    return float(np.logical_and.reduce([neighbour != phases for neighbour in neighbours]).sum() / len(phases))


def interface(phases: np.ndarray) -> float:
    """Share of neighbouring pixels in different phases, (N, I, J) periodic."""
    return float(np.mean([(phases != np.roll(phases, 1, axis)).mean() for axis in (1, 2)]))


def main() -> None:
    """Measure what is missing and print the table."""
    rows = json.loads(RESULT.read_text()) if RESULT.exists() else []
    warnings.simplefilter("ignore", UserWarning)
    for name, fractions in ASKED.items():
        model = load_model(name)
        for asked in fractions:
            if any(row["model"] == name and row["asked"] == asked for row in rows):
                continue
            structures = model.sample(N, volume_fraction=asked)
            reached = structures.mean((1, 2))
            rows.append(
                {
                    "model": name,
                    "seen": [model.info.conditions[0][0], model.info.conditions[-1][0]],
                    "asked": asked,
                    "most_pixels_off": float(np.abs(reached - asked).max() * structures[0].size),
                    "isolated": isolated(structures),
                    "interface": interface(structures),
                }
            )
            RESULT.write_text(json.dumps(rows, indent=1))
    print("| model | seen | asked | pixels off | isolated | interface |\n|---|---|---|---|---|---|")
    for row in rows:
        low, high = row["seen"]
        print(
            f"| {row['model']} | {low:.4f} to {high:.4f} | {row['asked']} | {row['most_pixels_off']:.1f} | "
            f"{row['isolated']:.1f} | {row['interface']:.3f} |"
        )


if __name__ == "__main__":
    main()
