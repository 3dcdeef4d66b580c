"""What each method of a benchmark costs, by the records of its worker, and the break-even of any two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mcrpy_diffusion.benchmark.machine import measured_on
from mcrpy_diffusion.benchmark.plan import METHODS, MODEL_TASK, Plan
from mcrpy_diffusion.benchmark.record import UNITS, Record
from mcrpy_diffusion.metrics.break_even import break_even
from mcrpy_diffusion.models.checkpoint import read_info


def method_cost(plan: Plan, method: str, model_cost: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the cost of a method: seconds `each`, of `setup`, `data` and `training` (0 for MCRpy); peak memory, bytes.

    None where it is not recorded of any structure.

    Notes
    -----
    MCRpy makes a structure in a warm process: what the first one of a process takes longer than the mean of the others
    counts as setup. So do the start of the program and its libraries, and the characterization or the loading of the
    model; for diffusion also the start of the process that trained the model. The seconds of a batch are shared evenly
    by its structures.
    """
    record, clock = Record(plan.record(method)), _clock(plan)
    seeds, is_diffusion = plan.seeds(method), METHODS[method].is_diffusion
    lines = [line for seed, line in record.seeds.items() if seed in seeds]
    if not lines:
        return None
    warm = [line for line in lines if not line["first"]]
    counted = warm or lines
    each = _mean(counted, clock)
    longer = sum(line[clock] - each for line in lines if line["first"]) / max(len(record.starts), 1)
    setup = max(longer, 0.0) + (_mean(record.starts, clock) if record.starts else 0.0)
    stages = {name: model_cost[name] if is_diffusion else 0.0 for name in ("data", "training")}
    if is_diffusion:
        setup += model_cost["setup"] or 0.0
    return {
        "each": each,
        "setup": setup,
        "each_std": float(np.std([line[clock] for line in counted])),
        "n_warm": len(warm),
        **stages,
        "fixed": setup + sum(seconds or 0.0 for seconds in stages.values()),
        "seconds_each": _mean(counted, "seconds"),
        "cpu_seconds_each": _mean(counted, "cpu_seconds"),
        "peak_memory": max(line["peak_memory"] for line in lines),
        "training_peak_memory": model_cost["peak_memory"] if is_diffusion else None,
    }


def _mean(lines: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(np.mean([line[name] for line in lines]))


def _clock(plan: Plan) -> str:
    return "cpu_seconds" if plan.settings.clock == "cpu" else "seconds"


def model_cost_of(plan: Plan) -> dict[str, Any]:
    """Return the cost of the model: seconds of `data`, `training` and `setup` of the process; `peak_memory`; `notes`.

    What is not known is None; of a given model only the seconds of its training can be.
    """
    if plan.model is not None:
        seconds = read_info(plan.model).training_seconds or None
        wall = ", by the wall clock" if plan.settings.clock == "cpu" else ""
        known = f"are those in its file{wall}, those of its data are not known"
        if seconds is None:
            known = "and of its data are not known"
        note = f"the model was given: the seconds of its training {known}"
        return {"data": None, "training": seconds, "setup": None, "peak_memory": None, "notes": [note]}
    record, clock = Record(plan.record(MODEL_TASK)), _clock(plan)
    info = read_info(plan.model_path) if plan.model_path.exists() else None
    data, on_data = _stage_seconds(record, "data", plan.generation.n_training_samples, clock)
    training, on_training = _stage_seconds(record, "training", None if info is None else info.step, clock)
    setup = _mean(record.starts, clock) if record.starts else None
    on_setup = "" if record.starts else "the start of the process that trained the model is not recorded, nor counted"
    if info is not None and info.training_seconds:  # a kill may leave no line, but the model's file counts on
        if clock == "seconds":
            recorded = sum(line["seconds"] for line in record.stage("training"))
            training, on_training = max(min(training or 0.0, recorded), info.training_seconds), ""
        elif training is None:
            training = info.training_seconds
            on_training = "the seconds of the training are by the wall clock: a kill lost the CPU time"
    return {
        "data": data,
        "training": training,
        "setup": setup,
        "peak_memory": max((line["peak_memory"] for line in record.lines if "stage" in line), default=None),
        "notes": [] if info is None else [note for note in (on_data, on_training, on_setup) if note],
    }


def _stage_seconds(record: Record, stage: str, n_all: int | None, clock: str) -> tuple[float | None, str]:
    """Return the seconds of a stage, and a note on them.

    A kill loses the last seconds of its process, and steps since the last state are repeated: the lines can account for
    fewer samples or steps than there are, or for more. Each counts as much as those of the lines.
    """
    lines, unit = record.stage(stage), UNITS[stage]
    seconds, n = sum(line[clock] for line in lines), sum(line[unit] for line in lines)
    if not n or n_all is None:
        return None, f"the seconds of the {stage} are not known after a kill, and not counted"
    note = f"{stage}: the seconds of {n} of {n_all} {unit} are recorded, the others count as much each"
    return seconds * n_all / n, note if n < n_all else ""


def machines_of(plan: Plan, method: str) -> list[dict[str, Any]]:
    """Return what each process of a method ran on, and those that trained its model; see `measured_on`."""
    is_diffusion = METHODS[method].is_diffusion
    tasks = [method, MODEL_TASK] if is_diffusion and plan.model is None else [method]
    starts = [line for task in tasks for line in Record(plan.record(task)).starts]
    if not starts:
        return [measured_on(plan.n_jobs, with_torch=is_diffusion)]
    return [{key: line[key] for key in ("machine", "versions")} for line in starts]


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
