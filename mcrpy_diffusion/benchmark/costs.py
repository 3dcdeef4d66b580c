"""What each method of a benchmark cost, as its worker wrote it, and the break-even of any two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mcrpy_diffusion.benchmark.machine import measured_on
from mcrpy_diffusion.benchmark.plan import METHODS, MODEL_TASK, Plan
from mcrpy_diffusion.benchmark.worker import Record
from mcrpy_diffusion.metrics.break_even import break_even
from mcrpy_diffusion.models.checkpoint import read_info


def method_cost(plan: Plan, method: str, model_cost: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what a method cost: seconds `each`, of `setup`, and of `data` and `training` (0 for MCRpy); memory.

    None where that is not recorded of any structure.

    Notes
    -----
    MCRpy makes a structure in a warm process: what the first of a process took longer than the others' mean counts as
    setup, beside the start of the program, its libraries, and the characterization or the loading of the model; for
    diffusion also beside the start of the process that made the model. Samples of the model come in batches, over which
    their seconds are shared.
    """
    record, key = Record(plan.record(method)), _clock(plan)
    seeds = range(plan.settings.seed, plan.settings.seed + plan.settings.number_of(method))
    lines = [line for seed, line in record.seeds.items() if seed in seeds]
    if not lines:
        return None
    warm = [line for line in lines if not line["first"]] or lines
    each = float(np.mean([line[key] for line in warm]))
    starts = [line[key] for line in record.lines if line.get("setup")]
    longer = max(sum(line[key] - each for line in lines if line["first"]) / max(len(starts), 1), 0.0)
    is_diffusion = METHODS[method].is_diffusion
    found: dict[str, Any] = {"each": each, "setup": float(np.mean(starts)) + longer if starts else longer}
    found |= {"each_std": float(np.std([line[key] for line in warm])), "n_warm": len(warm) if warm is not lines else 0}
    found |= {name: model_cost[name] if is_diffusion else 0.0 for name in ("data", "training")}
    if is_diffusion:
        found["setup"] += model_cost["setup"] or 0.0
    found["fixed"] = found["setup"] + (found["data"] or 0.0) + (found["training"] or 0.0)
    for name in ("seconds", "cpu_seconds"):
        found[f"{name}_each"] = float(np.mean([line[name] for line in warm]))
    found["peak_memory"] = max(line["peak_memory"] for line in lines)
    found["training_peak_memory"] = model_cost["peak_memory"] if is_diffusion else None
    return found


def _clock(plan: Plan) -> str:
    return "cpu_seconds" if plan.settings.clock == "cpu" else "seconds"


def model_cost_of(plan: Plan) -> dict[str, Any]:
    """Return the seconds of `data` and `training`, and of the `setup` of the process that made them; memory; `notes`.

    Of a model that was given, as far as it knows them. What is not known is None.
    """
    if plan.model is not None:
        seconds = read_info(plan.model).training_seconds or None
        found: dict[str, Any] = {"data": None, "training": seconds, "setup": None, "peak_memory": None}
        return found | {"notes": [_note_on_given(seconds, plan.settings.clock)]}
    lines = Record(plan.record(MODEL_TASK)).lines
    info = read_info(plan.model_path) if plan.model_path.exists() else None
    n_steps = None if info is None else info.step
    starts = [line[_clock(plan)] for line in lines if line.get("setup")]
    stages = [line for line in lines if "stage" in line]
    data, on_data = _stage_seconds(stages, "data", "samples", plan.generation.n_training_samples, _clock(plan))
    training, on_training = _stage_seconds(stages, "training", "steps", n_steps, _clock(plan))
    found = {"data": data, "training": training, "setup": float(np.mean(starts)) if starts else None}
    found["peak_memory"] = max((line["peak_memory"] for line in stages), default=None)
    if info is None:
        return found | {"notes": []}
    if plan.settings.clock == "wall" and info.training_seconds:  # a kill may leave no line, but the model counts on
        recorded = sum(line["seconds"] for line in stages if line["stage"] == "training")
        found["training"], on_training = max(min(training or 0.0, recorded), info.training_seconds), ""
    if found["training"] is None and info.training_seconds:
        found["training"] = info.training_seconds
        on_training = "the seconds of the training are those of the clock on the wall: a kill took the processor's"
    on_setup = "" if starts else "the start of the process that made the model is not recorded, and not counted"
    return found | {"notes": [note for note in (on_data, on_training, on_setup) if note]}


def _note_on_given(seconds: float | None, clock: str) -> str:
    if seconds is None:
        return "the model was given: the seconds of its training and of its data are not known"
    wall = ", of the clock on the wall" if clock == "cpu" else ""
    return (
        f"the model was given: the seconds of its training are those it carries{wall}, those of its data are not known"
    )


def _stage_seconds(
    lines: Sequence[Mapping[str, Any]], stage: str, unit: str, whole: int | None, clock: str
) -> tuple[float | None, str]:
    """Return the seconds of a stage, and what is to be said of them.

    A kill takes the last seconds of its process, and steps since the last state are done again: the lines can say of
    fewer samples or steps than there are, or of more. Those that there are cost as much each as those of the lines.
    """
    lines = [line for line in lines if line["stage"] == stage]
    seconds, n = sum(line[clock] for line in lines), sum(line.get(unit, 0) for line in lines)
    if lines and (whole is None or not all(unit in line for line in lines)):  # older lines do not count them
        return seconds, ""
    if not n or whole is None:
        return None, f"the seconds of the {stage} are not known, a kill took them, and are not counted"
    note = f"of the {stage} the seconds of {n} of {whole} {unit} are recorded, the others count as much each"
    return seconds * whole / n, note if n < whole else ""


def machines_of(plan: Plan, method: str) -> list[dict[str, Any]]:
    """Return what each process of a method was measured on, and those that made its model; see `measured_on`.

    Older records do not say it: what there is now stands for it, and has `is_assumed`.
    """
    is_diffusion = METHODS[method].is_diffusion
    tasks = [method, MODEL_TASK] if is_diffusion and plan.model is None else [method]
    starts = [line for task in tasks for line in Record(plan.record(task)).lines if line.get("setup")]
    found = [{key: line[key] for key in ("machine", "versions")} for line in starts if "machine" in line]
    if not found or len(found) < len(starts):
        found.append(measured_on(plan.n_jobs, with_torch=is_diffusion) | {"is_assumed": True})
    return found


def break_evens(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int | None]]:
    """Return, for each of MCRpy's methods and each sampler, the count from which on diffusion is cheaper, or None."""
    costs = {row["method"]: row["cost"] for row in rows if row["cost"] is not None}
    samplers = [row["method"] for row in rows if row["is_diffusion"] and row["method"] in costs]
    others = [row["method"] for row in rows if not row["is_diffusion"] and row["method"] in costs]
    return {
        other: {
            sampler: break_even(
                costs[sampler]["fixed"], costs[sampler]["each"], costs[other]["fixed"], costs[other]["each"]
            )
            for sampler in samplers
        }
        for other in others
    }
