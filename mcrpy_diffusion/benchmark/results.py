"""What each method cost and how good its structures are: the content of benchmark.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcrpy_diffusion.benchmark.costs import break_evens, machines_of, method_cost, model_cost_of
from mcrpy_diffusion.benchmark.machine import distinct
from mcrpy_diffusion.benchmark.plan import METHODS, Plan
from mcrpy_diffusion.benchmark.quality import RealSets, quality, real_quality
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.runtime.progress import Progress

BUSY = 1.3  # wall over processor seconds with one thread, above which the machine was not quiet


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
    rows = []
    n_all = sum(map(len, made.values()))
    with Progress(n_all, "evaluation", unit="structure") as bar:
        for method in plan.settings.methods:
            row: dict[str, Any] = {"method": method, "title": plan.title(method)}
            row |= {"n_asked": plan.settings.number_of(method), "n": len(made.get(method, ()))}
            row |= {"is_diffusion": METHODS[method].is_diffusion, "failed": failures.get(method)}
            row |= {"cost": None, "quality": None, "measured_on": machines_of(plan, method) if method in made else []}
            if method in made:
                row["cost"] = method_cost(plan, method, model_cost)
                row["quality"] = quality(made[method], real)
                bar.update(len(made[method]))
            rows.append(row)
    counts = sorted({len(structures) for structures in made.values()}) if plan.has_held_out else []
    floors = {str(n): real_quality(n, real) for n in counts}
    results: dict[str, Any] = {"reference": plan.reference.micrographs[0].name}
    results |= {"extent": list(plan.settings.extent), "n_phases": plan.reference.n_phases}
    results |= {"has_held_out": plan.has_held_out, "clock": plan.settings.clock}
    measured = distinct((row["method"], found) for row in rows for found in row["measured_on"])
    results |= {"measured_on": measured, "machine": measured[0]["machine"], "versions": measured[0]["versions"]}
    results |= {"training_part": list(plan.training_part.shape)}
    results |= {"held_out_part": None if plan.held_out_part is None else list(plan.held_out_part.shape)}
    results |= {"counts": real.counts(), "methods": rows, "floors": floors}
    results |= {"break_even": break_evens(rows)}
    return results | {"notes": notes(plan, rows, failures), "settings": plan.to_dict()}


def notes(plan: Plan, rows: list[dict[str, Any]], failures: Mapping[str, str]) -> list[str]:
    """Say what a reader has to know before believing a figure."""
    found = [f"{name} failed: {reason}" for name, reason in failures.items()]
    found += [
        f"{row['method']}: {row['n']} of {row['n_asked']} structures" for row in rows if 0 < row["n"] < row["n_asked"]
    ]
    if not plan.has_held_out:
        found.append(plan.why_nothing_is_held_out)
    if plan.samples_a_model:
        found += model_cost_of(plan)["notes"]
    if plan.model_note and plan.samples_a_model:
        found.append(plan.model_note)
    if any("is_assumed" in each for row in rows for each in row["measured_on"]):
        found.append("older records do not say what they were measured on: what there is now stands for it")
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
        found.append(
            f"other work ran beside: seconds on the clock are up to {max(busy):.1f} times those of the processor"
        )
    return found


def _one_thread(row: Mapping[str, Any]) -> bool:
    has_one = all(found["machine"]["threads"] == 1 for found in row["measured_on"])
    return row["cost"] is not None and has_one and row["cost"]["cpu_seconds_each"] > 0.01
