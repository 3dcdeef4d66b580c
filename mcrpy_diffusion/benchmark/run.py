"""Descriptor-based reconstruction by MCRpy against the diffusion model, on one reference: costs and quality.

Each method makes its structures in a process of its own (`worker`). All of them, and the training of the model, see the
training part of the micrograph alone; the held-out part is what they are measured against.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcrpy_diffusion.benchmark.page import console_tables, write_page
from mcrpy_diffusion.benchmark.plan import Plan, make_plan
from mcrpy_diffusion.benchmark.results import measure
from mcrpy_diffusion.benchmark.tasks import locked, prepare, run_tasks
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.reports.segmentation import write_segmentation
from mcrpy_diffusion.workflow.compare import feature_network


def benchmark(options: Mapping[str, Any]) -> None:
    """Make the structures that are missing, measure all, print the tables, and write them, the plot and the page.

    Parameters
    ----------
    options : mapping
        `reference` and `out`; `preset`, `model`, `n_jobs`, `dry_run`; any field of `BenchmarkSettings`, and of
        `TrainingSettings` but its seed.

    Raises
    ------
    InputError
        If anything given cannot be used, or no method made a structure.
    """
    plan = make_plan(options)
    plan.announce()
    if options.get("dry_run"):
        return
    check_features(plan)
    prepare(plan)
    write_segmentation(plan.folder, plan.reference.readings)
    with locked(plan.folder):
        failures = run_tasks(plan)
        results = measure(plan, failures)
        written = write_page(plan, results)
    print("\n".join([console_tables(results), *(f"  {path}" for path in written)]))


def check_features(plan: Plan) -> None:
    """Raise InputError where the features cannot be measured, before hours of work."""
    network = feature_network(plan.settings.features, periodic=not plan.has_held_out)
    if network is not None and min(plan.settings.extent) < network.minimum_extent:
        least = network.minimum_extent
        raise InputError(
            f"the extent must be at least {least} x {least} for the features {network.name}, got "
            f"{plan.settings.extent_x} x {plan.settings.extent_y}; or give --features none"
        )
