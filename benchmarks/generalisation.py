"""Quality of the `quick` preset on structures that are none of the paper's six materials.

    python benchmarks/generalisation.py
    python benchmarks/generalisation.py --structures layers --files my_composite.npy --n_samples 64

Each structure is one micrograph of 256 x 256 pixels, of which `match --method diffusion --preset quick` takes crops,
trains and samples; a quarter is held out. The tables show the discrepancies of S2 and L, eq. (23) of the paper, of each
phase and along each direction, with the sampling floors of as many real crops. In `layers` the directions differ
strongly: an augmentation that mixed them would change the anisotropy. The same command continues a stopped run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from generalisation_structures import STRUCTURES
from PIL import Image

from mcrpy_diffusion.commands.parser import Parser
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.shapes import DIRECTIONS
from mcrpy_diffusion.io.files import make_folder, write_atomically, write_file, write_json
from mcrpy_diffusion.io.provenance import differences
from mcrpy_diffusion.materials.reference import reference_from_micrographs
from mcrpy_diffusion.runtime import frameworks
from mcrpy_diffusion.runtime.console import run
from mcrpy_diffusion.runtime.tables import markdown_table, number
from mcrpy_diffusion.settings import PRESETS, preset
from mcrpy_diffusion.workflow import pipeline
from mcrpy_diffusion.workflow.match_plan import make_plan
from mcrpy_diffusion.workflow.run_log import read_timings

MEASURES = {"two_point_correlation": "eps_S2", "lineal_path": "eps_L"}
SIZE = 256
HERE = Path(__file__).resolve().parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run missing studies and write the table; 0 done, 2 wrong input, 130 stopped."""

    def start() -> None:
        options = make_parser().parse_args(arguments)
        unknown = sorted(set(options.structures) - set(STRUCTURES))
        if unknown:
            raise InputError(f"structures must be of {', '.join(STRUCTURES)}, got {', '.join(unknown)}")
        results = make_folder(options.out)
        files = {name: make_micrograph(name, make_folder(options.work), options.seed) for name in options.structures}
        files |= {file.stem: file for file in options.files}
        done = []
        for name, file in files.items():
            done.append(study(name, file, options, results / f"{name}.json"))
            text = report(done)
            write_file(results / "table.md", text)
        print(f"{text}\n{results / 'table.md'}")

    frameworks.before_torch()
    return run(start)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = Parser(
        prog="generalisation.py", description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--structures", nargs="*", default=[*STRUCTURES], metavar="NAME", help=", ".join(STRUCTURES))
    parser.add_argument(
        "--files", nargs="+", type=Path, default=[], metavar="FILE", help="micrographs of your own as well"
    )
    parser.add_argument("--preset", choices=PRESETS, default="quick")
    parser.add_argument("--n_samples", type=int, default=64, help="new structures of each (64)")
    parser.add_argument("--n_training_steps", type=int, metavar="N", help="(the preset's)")
    parser.add_argument("--batch_size", type=int, metavar="N", help="(the preset's)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("work/generalisation"), metavar="DIR")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "generalisation", metavar="DIR")
    return parser


def make_micrograph(name: str, folder: Path, seed: int) -> Path:
    """Make the micrograph of a generator: .npy of phases, or .png of grey values."""
    image = STRUCTURES[name](np.random.default_rng(seed), (SIZE, SIZE))
    if image.dtype.kind == "f":
        path = folder / f"{name}.png"
        grey = Image.fromarray(np.rint(255 * image).astype(np.uint8))
        write_atomically(path, lambda file: grey.save(file, format="PNG"))
        return path
    path = folder / f"{name}.npy"
    write_atomically(path, lambda file: np.save(file, image, allow_pickle=False))
    return path


def study(name: str, file: Path, options: argparse.Namespace, path: Path) -> dict[str, Any]:
    """Run the pipeline from a micrograph to its metrics, unless these exist for the same options."""
    asked = {
        "microstructure_filenames": [str(file)],
        "data_folder": str(options.work / f"{name}_results"),
        "preset": options.preset,
        "n_samples": options.n_samples,
        "seed": options.seed,
    }
    asked |= {"n_training_steps": options.n_training_steps} if options.n_training_steps else {}
    if file.suffix == ".png" and name in STRUCTURES:
        asked["grey_values"] = True
    if file.suffix == ".npy" and np.load(file, mmap_mode="r", allow_pickle=False).max() > 1:
        asked["use_multiphase"] = True
    key = {k: v for k, v in asked.items() if k not in ("microstructure_filenames", "data_folder")}
    reference = reference_from_micrographs([str(file)], asked)
    key |= {"batch_size": options.batch_size, "sha256": list(reference.sha256)}
    if path.exists() and (existing := json.loads(path.read_text()))["key"] == key:
        return existing
    print(f"{name}: {file}", flush=True)
    plan = make_plan(asked, reference)
    if options.batch_size:
        plan = replace(plan, training=plan.training.replace(batch_size=options.batch_size))
    pipeline.run(plan)
    metrics = json.loads((plan.folder / "metrics.json").read_text())
    changed = differences(preset(options.preset).training.identity(), plan.training.identity())
    result = {"name": name, "key": key, "changed": changed, "n_images": metrics["n_images"], **pick(metrics)}
    result |= {"training_steps": plan.training.n_training_steps, "batch_size": plan.training.batch_size}
    result |= {"seconds": read_timings(plan)}
    write_json(path, result)
    return result


def pick(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the measures of each phase: discrepancies along each direction, and the anisotropy."""
    by_phase = metrics.get("phases") or {"1": metrics}
    keys = ("discrepancy_percent", "held_out_discrepancy_percent", "floor_percent")

    def of(found: Mapping[str, Any]) -> dict[str, Any]:
        directions = {"all": found, **found["directions"]}
        values: dict[str, Any] = {name: {k: each[k] for k in keys} for name, each in directions.items()}
        return values | {"anisotropy_percent": found["anisotropy_percent"]}

    phases = {phase: {m: of(found[m]) for m in MEASURES} for phase, found in by_phase.items()}
    for phase, found in by_phase.items():
        fraction = found["volume_fraction"]
        phases[phase]["volume_fraction"] = {k: fraction[k] for k in ("original", "generated", "difference", "floor")}
    return {"phases": phases, "grey_threshold": metrics.get("grey_threshold")}


def report(done: Sequence[Mapping[str, Any]]) -> str:
    """The tables, in Markdown."""
    columns = ("all", *DIRECTIONS)
    parts = ["# The quick command on other structures\n"]
    for measure, title in MEASURES.items():
        head = ["structure", "phase", *(f"{title} %, {name}" for name in columns), "anisotropy: original", "generated"]
        parts.append(f"{title}: generated against the crops trained on / floor. Anisotropy: largest difference between")
        parts.append("two directions in percent (± its floor: the mean difference of as many real ones).\n")
        parts += [markdown_table(head, _rows(done, measure, columns)), ""]
    head = ["structure", "phase", "volume fraction", "difference", "floor", "structures", "steps x batch", "seconds"]
    rows = []
    for result, phase, found in _phases(done):
        fraction, counts = found["volume_fraction"], result["n_images"]
        seconds = sum(result["seconds"].values())
        cells = [result["name"], phase, f"{fraction['original']:.4f}", f"{fraction['difference']:+.4f}"]
        cells += [number(fraction["floor"], "{:.4f}"), f"{counts['generated']} against {counts['original']}"]
        cells += [f"{result['training_steps']} x {result['batch_size']}", f"{seconds:.0f}"]
        rows.append([*cells, "; ".join(result["changed"]) or "nothing"])
    parts.append(markdown_table([*head, "changed against the preset"], rows))
    return "\n".join(parts) + "\n"


def _rows(done: Sequence[Mapping[str, Any]], measure: str, columns: Sequence[str]) -> Iterator[list[str]]:
    for result, phase, found in _phases(done):
        of, anisotropy = found[measure], found[measure]["anisotropy_percent"]
        cells = [
            f"{number(of[name]['discrepancy_percent'], '{:.1f}')} / {number(of[name]['floor_percent'], '{:.1f}')}"
            for name in columns
        ]
        chance = f"{number(anisotropy['original'], '{:.1f}')} ± {number(anisotropy['floor'], '{:.1f}')}"
        yield [result["name"], phase, *cells, chance, number(anisotropy["generated"], "{:.1f}")]


def _phases(done: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], str, Mapping[str, Any]]]:
    for result in done:
        for phase, found in result["phases"].items():
            yield result, phase if result["grey_threshold"] is None else "above Otsu's threshold", found


if __name__ == "__main__":
    sys.exit(main())
