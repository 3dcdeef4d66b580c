"""Volumes made from one slice against the true volumes that the slice is of.

    python benchmarks/three_dimensions/truth.py
    python benchmarks/three_dimensions/truth.py spheres fibres --n_samples 16
    python benchmarks/three_dimensions/truth.py --floor

Each case is a generator whose structure in three dimensions is known (`mcrpy_diffusion.materials.volumes`). The product
sees one slice of it, or three orthogonal ones where the material is not isotropic, trains on crops of them and makes
volumes. These are compared with true volumes of other seeds: S2 and L in all directions, interface, percolation, Euler
number, and the effective conductivity where taufactor is installed (extra `conductivity`). With --floor, further true
volumes take the place of the made ones. The same command continues a stopped run; each case leaves a JSON file.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from truth_table import tables

from mcrpy_diffusion.commands.parser import Parser
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.volumes import AXES
from mcrpy_diffusion.io.files import make_folder, write_atomically, write_file, write_json
from mcrpy_diffusion.materials.volumes import VOLUMES, VolumeKind
from mcrpy_diffusion.metrics.sections import slices
from mcrpy_diffusion.runtime import frameworks
from mcrpy_diffusion.runtime.console import run
from mcrpy_diffusion.settings import PRESETS
from mcrpy_diffusion.workflow.compare_volumes import measure_volumes

SLICE_SEED, TRUE_SEED, FLOOR_SEED = 0, 1000, 2000
HERE = Path(__file__).resolve().parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Run missing cases and write the tables; 0 done, 2 wrong input, 130 stopped."""

    def start() -> None:
        options = make_parser().parse_args(arguments)
        names = options.names or list(VOLUMES)
        unknown = sorted(set(names) - set(VOLUMES))
        if unknown:
            raise InputError(f"names must be of {', '.join(VOLUMES)}, got {', '.join(unknown)}")
        results, done = make_folder(options.out), []
        for name in names:
            done.append(case(name, options, results / f"{name}{'_floor' if options.floor else ''}.json"))
        every = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
        write_file(results / "table.md", tables(every))
        print(f"{tables(done)}\n{results / 'table.md'}")

    frameworks.before_torch()
    return run(start)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = Parser(prog="truth.py", description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(VOLUMES)} (all)")
    parser.add_argument("--floor", action="store_true", help="true volumes in place of made ones")
    parser.add_argument("--preset", choices=PRESETS, default="quick")
    parser.add_argument("--extent", type=int, default=64, help="voxels along each axis of a volume (64)")
    parser.add_argument("--slice_extent", type=int, default=256, help="pixels along each axis of a slice (256)")
    parser.add_argument("--n_samples", type=int, default=4, help="made volumes of each case (4)")
    parser.add_argument("--n_true", type=int, default=8, help="true volumes of each case (8)")
    parser.add_argument("--n_training_steps", type=int, metavar="N", help="(the preset's)")
    parser.add_argument("--work", type=Path, default=Path("work/three_dimensions"), metavar="DIR")
    parser.add_argument("--out", type=Path, default=HERE / "truth", metavar="DIR")
    return parser


def case(name: str, options: argparse.Namespace, path: Path) -> dict[str, Any]:
    """Make the volumes of a case and compare them with the true ones, unless this was done with the same options."""
    kind, n = VOLUMES[name], options.extent
    named = ("extent", "slice_extent", "n_samples", "n_true") + (
        () if options.floor else ("preset", "n_training_steps")
    )
    key = {k: getattr(options, k) for k in named} | {"parameters": dict(kind.parameters)}
    if path.exists() and (existing := json.loads(path.read_text()))["key"] == key:
        return dict(existing)
    print(f"{name}: {kind.title}", flush=True)
    originals = make_slices(kind, n, options.slice_extent)
    started = time.monotonic()
    if options.floor:
        made = true_volumes(kind, n, options.n_samples, FLOOR_SEED)
    else:
        made = reconstruct(name, originals, options)
    seconds = time.monotonic() - started
    true = true_volumes(kind, n, options.n_true, TRUE_SEED)
    by_plane = dict(zip(AXES, originals * (3 // len(originals))))
    evaluation, _ = measure_volumes(
        {axis: [image] for axis, image in by_plane.items()},
        made,
        n_phases=2,
        periodic=options.slice_extent == n,  # as the model is: of crops, or of the whole slice
        true=true,
        isotropic=kind.axis is None,
        properties=has_taufactor(),
    )
    result = {
        "name": name,
        "title": kind.title,
        "is_floor": options.floor,
        "key": key,
        "evaluation": evaluation.to_dict(),
        "seconds": {"volumes": seconds},
    }
    write_json(path, result)
    return result


def make_slices(kind: VolumeKind, extent: int, slice_extent: int) -> list[np.ndarray]:
    """Return the middle slice across x of an isotropic material, or those across x, y and z, each a square."""
    if kind.axis is None:
        return [kind.make((extent, slice_extent, slice_extent), SLICE_SEED)[extent // 2]]
    volume = kind.make((slice_extent,) * 3, SLICE_SEED)
    return [slices(volume, axis=k)[slice_extent // 2] for k in range(3)]


def true_volumes(kind: VolumeKind, extent: int, number: int, first_seed: int) -> np.ndarray:
    """Return cubic volumes (number, extent, extent, extent) of consecutive seeds."""
    return np.stack([kind.make((extent,) * 3, first_seed + i) for i in range(number)])


def reconstruct(name: str, originals: Sequence[np.ndarray], options: argparse.Namespace) -> np.ndarray:
    """Train on the slices and make volumes, as `mcrpy_match --method diffusion --add_dimension` does."""
    from mcrpy_diffusion.materials.reference import reference_from_micrographs
    from mcrpy_diffusion.workflow import pipeline
    from mcrpy_diffusion.workflow.match_plan import make_plan

    folder, files = make_folder(options.work), []
    for axis, image in zip(AXES, originals):
        files.append(str(folder / f"{name}_{axis}.npy"))
        write_atomically(Path(files[-1]), lambda file, image=image: np.save(file, image, allow_pickle=False))
    asked = {
        "microstructure_filenames": files,
        "data_folder": str(folder / f"{name}_results"),
        "preset": options.preset,
        "n_samples": options.n_samples,
        "extent_x": options.extent,
        "extent_y": options.extent,
        "add_dimension": options.extent,
        "isotropic": len(files) == 1,
    }
    asked |= {"n_training_steps": options.n_training_steps} if options.n_training_steps else {}
    plan = make_plan(asked, reference_from_micrographs(files, asked))
    pipeline.run(plan)
    return np.stack([np.load(plan.structure_path(i), allow_pickle=False) for i in range(options.n_samples)])


def has_taufactor() -> bool:
    """Return whether the solver of the conductivity is installed, and say so where it is not."""
    found = importlib.util.find_spec("taufactor") is not None
    if not found:
        print("The effective conductivity needs the extra `conductivity` (taufactor): it is left out.")
    return found


if __name__ == "__main__":
    sys.exit(main())
