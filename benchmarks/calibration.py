"""How often an evaluation is wrong about a perfect generator: floors, intervals, the test for copies, the verdict.

    python benchmarks/calibration.py --out FOLDER --n_runs 100

Each run draws a micrograph from a random field, cuts it as `match` does, and compares crops of its training part with
independent structures of the same field. A run is a line of FOLDER/<geometry>.jsonl; the same command goes on where it
was stopped. With --copies, half of the generated structures are crops of the training part: then the test for copies
should fire.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from scipy.special import ndtri

from mcrpy_diffusion.data.crops import random_crops, split
from mcrpy_diffusion.evaluation.evaluate import evaluate
from mcrpy_diffusion.evaluation.verdict import DIFFERENT, EQUIVALENT, NOT_COMPARABLE
from mcrpy_diffusion.runtime.tables import markdown_table

VOLUME_FRACTION = 0.4
HELD_OUT_FRACTION = 0.2
N_GENERATED, N_CROPS, N_HELD_OUT = 64, 500, 200
CURVES = ("two_point_correlation", "lineal_path")


@dataclass(frozen=True)
class Geometry:
    """A square micrograph, the extent of its crops, and the width of the field's blur, all in pixels."""

    side: int
    extent: int
    blur: float

    @property
    def name(self) -> str:
        """Name of the file of its runs."""
        return f"{self.side}_{self.extent}_{self.blur:g}"


GEOMETRIES = (Geometry(128, 32, 2.0), Geometry(256, 64, 4.0), Geometry(256, 32, 2.0))


def structure(rng: np.random.Generator, side: int, blur: float) -> np.ndarray:
    """Return the level set (side, side) uint8 of white noise, blurred by a Gaussian; not periodic."""
    margin = int(4 * blur)
    field = ndimage.gaussian_filter(rng.standard_normal((side + 2 * margin, side + 2 * margin)), blur)
    standard = field[margin : margin + side, margin : margin + side] * (2 * np.pi**0.5 * blur)
    return (standard > ndtri(1 - VOLUME_FRACTION)).astype(np.uint8)


def run(geometry: Geometry, seed: int, *, copies: bool) -> dict[str, Any]:
    """Evaluate a perfect generator once."""
    rng, extent = np.random.default_rng([seed, geometry.side, geometry.extent]), (geometry.extent, geometry.extent)
    micrograph = structure(rng, geometry.side, geometry.blur)
    training, held_out = split(micrograph, extent=extent, held_out_fraction=HELD_OUT_FRACTION)
    assert held_out is not None
    generated = np.stack([structure(rng, geometry.extent, geometry.blur) for _ in range(N_GENERATED)])
    if copies:
        generated[::2] = random_crops([training], N_GENERATED // 2, extent=extent, seed=seed + 2**20)
        generated[::2, 3, 5] ^= 1  # near copies
    found = evaluate(
        random_crops([training], N_CROPS, extent=extent, seed=seed),
        generated,
        n_phases=2,
        periodic=False,
        micrographs=[training],
        held_out=random_crops([held_out], N_HELD_OUT, extent=extent, seed=seed + 1),
        held_out_micrographs=[held_out],
    )
    fraction = found.volume_fraction
    assert found.verdict is not None
    assert found.n_windows is not None
    return {
        "seed": seed,
        "windows": found.n_windows.to_dict(),
        "beyond": {
            "volume_fraction": _is_beyond(fraction.difference, fraction.floor_95),
            **{
                m: _is_beyond(getattr(found, m).discrepancy_percent, getattr(found, m).floor_95_percent) for m in CURVES
            },
        },
        "excludes_0": {
            "volume_fraction": _excludes_0(fraction.interval),
            **{m: _excludes_0(getattr(found, m).difference_interval_percent) for m in CURVES},
        },
        "verdict": found.verdict.outcome,
        "copies": found.verdict.copies,
        "z": found.data_copying.z,
        "nearer_p_value": found.data_copying.nearer_p_value,
    }


def _is_beyond(value: float | None, floor: float | None) -> bool | None:
    return None if value is None or floor is None else abs(value) > floor


def _excludes_0(interval: tuple[float, float] | None) -> bool | None:
    return None if interval is None else not interval[0] <= 0 <= interval[1]


def read_runs(path: Path) -> list[dict[str, Any]]:
    """Return the runs so far; a line that a stop cut off is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def table(folder: Path, suffix: str) -> str:
    """Return the shares of runs that are wrong, as a table."""
    return markdown_table(
        ("micrograph / crop, pixels", "windows", *_HEAD), [row for g in GEOMETRIES for row in _rows(folder, g, suffix)]
    )


_HEAD = (
    "runs",
    "beyond the 95 % of the floor: volume fraction / S2 / L",
    "interval without 0: volume fraction / S2 / L",
    "different",
    "not comparable",
    "called copies",
    "z: standard deviation, below -3",
)


def _rows(folder: Path, geometry: Geometry, suffix: str) -> Iterator[tuple[str, ...]]:
    runs = read_runs(folder / f"{geometry.name}{suffix}.jsonl")
    if not runs:
        return

    def shares(key: str) -> str:
        columns = ([r[key][m] for r in runs if r[key][m] is not None] for m in ("volume_fraction", *CURVES))
        return " / ".join(f"{100 * np.mean(c):.0f} %" if c else "-" for c in columns)

    def share(values: list[bool]) -> str:
        return f"{100 * np.mean(values):.0f} %"

    outcomes = [r["verdict"] for r in runs]
    assert set(outcomes) <= {EQUIVALENT, DIFFERENT, NOT_COMPARABLE}
    z = [r["z"] for r in runs if r["z"] is not None]
    windows = runs[0]["windows"]
    yield (
        f"{geometry.side} / {geometry.extent}",
        f"{windows['original']:.1f}, held out {windows['held_out']:.1f}",
        str(len(runs)),
        shares("beyond"),
        shares("excludes_0"),
        share([o == DIFFERENT for o in outcomes]),
        share([o == NOT_COMPARABLE for o in outcomes]),
        share([r["copies"] for r in runs]),
        f"{np.std(z):.2f}, {100 * np.mean(np.array(z) < -3):.0f} %" if z else "no test",
    )


def main() -> None:
    """Add the runs that are missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--n_runs", type=int, default=100)
    parser.add_argument("--copies", action="store_true", help="half of the generated structures are near copies")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    suffix = "_copies" if arguments.copies else ""
    for geometry in GEOMETRIES:
        path = arguments.out / f"{geometry.name}{suffix}.jsonl"
        runs = read_runs(path)
        # without a line that a stop cut off
        path.write_text("".join(f"{json.dumps(r)}\n" for r in runs), encoding="utf-8")
        done = {r["seed"] for r in runs}
        for seed in range(arguments.n_runs):
            if seed not in done:
                line = json.dumps(run(geometry, seed, copies=arguments.copies))
                with path.open("a", encoding="utf-8") as stream:
                    stream.write(f"{line}\n")
    print(table(arguments.out, suffix))


if __name__ == "__main__":
    main()
