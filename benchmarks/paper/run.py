"""The command: resumable steps, one after another.

    python benchmarks/paper/run.py all --scale small
    python benchmarks/paper/run.py train --scale paper --materials carbonate --steps 20000
    python benchmarks/paper/run.py ablate --materials carbonate --steps 2000

The same command continues a stopped run.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # files of this folder have the names of installed packages
    sys.path.pop(0)
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from benchmarks.paper import ablation, figures, make, measure, tables
from benchmarks.paper.plan import EXTENTS, SCALES, Plan
from mcrpy_diffusion.commands.parser import Parser
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials.reference_images import MATERIALS
from mcrpy_diffusion.runtime import frameworks
from mcrpy_diffusion.runtime.console import run as run_command
from mcrpy_diffusion.settings import SAMPLERS
from mcrpy_diffusion.workflow.compare import FEATURES

OF_MATERIAL: dict[str, Callable[[Plan, str], Any]] = {
    "data": make.make_data,
    "train": make.train_model,
    "sample": make.draw_samples,
    "evaluate": measure.evaluate_material,
}
STEPS = (*OF_MATERIAL, "tables", "figures", "all", "ablate")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a step; 0 done, 2 wrong input, 130 stopped."""

    def start() -> None:
        options = vars(make_parser().parse_args(arguments))
        step, cases, n_samples = (options.pop(name) for name in ("step", "cases", "n_ablation_samples"))
        plan = make_plan(options)
        if step == "ablate":
            for material in plan.materials:
                ablation.ablate(plan, material, cases=cases, n_samples=n_samples)
                say(ablation.write_table(plan, material))
            return
        for material in plan.materials:
            for name, do in OF_MATERIAL.items():
                if step in (name, "all"):
                    say(f"{material}: {name}")
                    do(plan, material)
            if step == "all":  # early results
                tables.write_tables(plan.out)
        if step in ("evaluate", "all") and plan.study_material in plan.materials and plan.extent == 64:
            say(f"{plan.study_material}: sampling steps")
            measure.study_sampling_steps(plan)
        if step in ("tables", "all"):
            write_tables(plan)
        if step in ("figures", "all"):
            for path in figures.write_figures(plan):
                say(path)

    frameworks.before_torch()
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    return run_command(start)


def make_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = Parser(prog="run.py", description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--scale", choices=SCALES, help="preset (small)")
    parser.add_argument("--extent", type=int, choices=tuple(EXTENTS), default=64, help="rows and columns (64)")
    parser.add_argument(
        "--materials", nargs="+", metavar="NAME", help=f"of {', '.join(MATERIALS)} (those of the extent)"
    )
    parser.add_argument(
        "--references", type=Path, metavar="DIR", help="real micrographs, <material>_256.npy or _64.npy"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="existing data sets <material>/training, /held_out")
    parser.add_argument(
        "--shipped", action="store_true", default=None, help="the models of the package, in place of training"
    )
    parser.add_argument("--work", type=Path, metavar="DIR", help="data sets, models, structures (work/paper)")
    parser.add_argument("--out", type=Path, metavar="DIR", dest="results", help="results (benchmarks/paper/results)")
    parser.add_argument("--steps", type=int, metavar="N", dest="n_steps", help="training steps (the preset's)")
    parser.add_argument("--set", nargs="+", metavar="FIELD=VALUE", help="other training settings than the preset's")
    for name in ("--n_training", "--n_held_out", "--n_samples"):
        parser.add_argument(name, type=int, metavar="N", help="structures (1000)")
    parser.add_argument("--paper_recipe", action="store_true", default=None, help="data by MCRpy as published, slow")
    parser.add_argument("--n_jobs", type=int, metavar="N", help="processes that make data (one per core)")
    parser.add_argument(
        "--features", nargs="+", choices=FEATURES, help="(vgg19, and inception if its weights are installed)"
    )
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, dest="sampler_types", help="(ddim and the preset's)")
    parser.add_argument("--study_material", choices=MATERIALS, help="material of figure 8 (carbonate)")
    parser.add_argument("--study_steps", nargs="+", type=int, metavar="N", help="sampling steps of figure 8")
    parser.add_argument("--study_samples", type=int, metavar="N", help="structures of each (256)")
    group = parser.add_argument_group("ablate")
    group.add_argument(
        "--cases", nargs="+", metavar="CASE", help=f"of {', '.join(c.name for c in ablation.CASES)} (all)"
    )
    group.add_argument("--n_ablation_samples", type=int, metavar="N", default=256, help="structures of each case (256)")
    return parser


def make_plan(options: dict[str, Any]) -> Plan:
    """The plan for the options that were given."""
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in options.items() if v is not None}
    given.setdefault("materials", EXTENTS[given["extent"]])
    changes = {}
    for text in given.pop("set", ()):
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set must be FIELD=VALUE, such as batch_size=32, got {text!r}")
        if name == "n_training_steps":
            raise InputError(f"--set must not have n_training_steps; use --steps {value}")
        try:
            changes[name] = json.loads(value)
        except ValueError:
            changes[name] = value
    return Plan(**given, changes=changes)


def write_tables(plan: Plan) -> None:
    """Write the tables of all results so far."""
    for path in tables.write_tables(plan.out):
        say(path)


def say(text: object) -> None:
    """Print a line at once."""
    print(os.fspath(text) if isinstance(text, Path) else text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
