"""What each method cost and how good its structures are: the content of benchmark.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcrpy_diffusion.benchmark.costs import break_evens, machines_of, method_cost, model_cost_of
from mcrpy_diffusion.benchmark.machine import distinct
from mcrpy_diffusion.benchmark.plan import METHODS, Plan, note_on_given_model
from mcrpy_diffusion.benchmark.quality import RealSets, quality, real_quality
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.runtime.progress import Progress

BUSY = 1.3  # wall time over CPU time with one thread, above which other work ran on the machine


def measure(plan: Plan, failures: Mapping[str, str]) -> dict[str, Any]:
    """Measure all methods.

    Parameters
    ----------
    plan : Plan
    failures : mapping
        Task -> why it failed.

    Returns
    -------
    dict
        The content of benchmark.json, see `README.md`. Numbers are plain Python ones; what could not be measured is
        None.

    Raises
    ------
    InputError
        If no method made a structure.
    """
    made = {m: structures for m in plan.settings.methods if (structures := plan.structures(m)) is not None}
    if not made:
        raise InputError("; ".join(f"{name} failed: {reason}" for name, reason in failures.items()))
    model_cost = model_cost_of(plan)
    real = RealSets.of(plan)
    rows: list[dict[str, Any]] = []
    with Progress(sum(map(len, made.values())), "evaluation", unit="structure") as bar:
        for method in plan.settings.methods:
            structures, failed = made.get(method), failures.get(method)
            row: dict[str, Any] = {"method": method, "title": plan.title(method)}
            row |= {"n_asked": plan.settings.number_of(method), "n": 0 if structures is None else len(structures)}
            row |= {"is_diffusion": METHODS[method].is_diffusion, "failed": failed}
            row |= {"cost": None, "quality": None, "measured_on": []}
            if structures is not None:
                row |= {"cost": method_cost(plan, method, model_cost), "quality": quality(structures, real)}
                row |= {"measured_on": machines_of(plan, method)}
                bar.update(len(structures))
            rows.append(row)
    counts = sorted({len(structures) for structures in made.values()}) if plan.has_held_out else []
    measured = distinct((row["method"], found) for row in rows for found in row["measured_on"])
    return {
        "reference": plan.reference.micrographs[0].name,
        "extent": list(plan.settings.extent),
        "n_phases": plan.reference.n_phases,
        "has_held_out": plan.has_held_out,
        "clock": plan.settings.clock,
        "measured_on": measured,
        "machine": measured[0]["machine"],
        "versions": measured[0]["versions"],
        "training_part": list(plan.training_part.shape),
        "held_out_part": None if plan.held_out_part is None else list(plan.held_out_part.shape),
        "counts": real.counts(),
        "methods": rows,
        "floors": {str(n): real_quality(n, real) for n in counts},
        "break_even": break_evens(rows),
        "notes": notes(plan, rows, failures),
        "settings": plan.to_dict(),
    }


def notes(plan: Plan, rows: list[dict[str, Any]], failures: Mapping[str, str]) -> list[str]:
    """Say what a reader has to know before believing a figure."""
    found = [f"{name} failed: {reason}" for name, reason in failures.items()]
    found += [
        f"{row['method']}: {row['n']} of {row['n_asked']} structures" for row in rows if 0 < row["n"] < row["n_asked"]
    ]
    if not plan.has_held_out:
        found.append(plan.division)
    if plan.samples_a_model:
        found += [*model_cost_of(plan)["notes"], *filter(None, [note_on_given_model(plan)])]
    if len(distinct((row["method"], each) for row in rows for each in row["measured_on"])) > 1:
        found.append("not all seconds were measured on the same machine, threads and versions: see below the tables")
    counts = {row["n"] for row in rows if row["n"]}
    if len(counts) > 1 and plan.settings.features != "none":
        found.append(
            "the numbers of structures differ: a Frechet distance is larger for fewer of them, compare each with that "
            "of as many real crops"
        )
    busy = [row["cost"]["seconds_each"] / row["cost"]["cpu_seconds_each"] for row in rows if _one_thread(row)]
    if busy and max(busy) > BUSY:
        found.append(f"the machine was shared: wall time is up to {max(busy):.1f} times the CPU time")
    return found


def _one_thread(row: Mapping[str, Any]) -> bool:
    has_one = all(found["machine"]["threads"] == 1 for found in row["measured_on"])
    return row["cost"] is not None and has_one and row["cost"]["cpu_seconds_each"] > 0.01
