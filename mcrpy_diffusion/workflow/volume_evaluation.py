"""The last stage of a run that makes volumes: their slices against structures in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mcrpy_diffusion.workflow.compare_volumes import measure_volumes
from mcrpy_diffusion.workflow.match_plan import Plan
from mcrpy_diffusion.workflow.mcrpy_files import write_mcrpy_files
from mcrpy_diffusion.workflow.run_log import read_timings, stage

COMPARED_FOLDER = "structures_2d"
N_COMPARED = 32  # structures in two dimensions of a model of which nothing else is known


def evaluate_volumes(plan: Plan, model_path: Path, volumes: np.ndarray, original: Sequence[np.ndarray] | None) -> None:
    """Compare volumes with the original, write figures, tables and what MCRpy opens, and print the closing table.

    Parameters
    ----------
    plan : Plan
    model_path : Path
    volumes : ndarray, shape (n, I, J, K)
    original : sequence of ndarrays, optional
        Structures in two dimensions of any extent; without any the model makes some.
    """
    from mcrpy_diffusion.reports.volume_report import write_volume_report
    from mcrpy_diffusion.reports.volume_rows import volume_table

    with stage(plan, "evaluation"):
        images = structures_of(model_path, plan.folder) if original is None else list(original)
        evaluation, planes = measure_volumes(
            dict.fromkeys("xyz", images),
            volumes,
            n_phases=plan.reference.n_phases,
            periodic=plan.generation.periodic,
            isotropic=True,
        )
    with stage(plan, "MCRpy files"):
        write_mcrpy_files(plan, model_path)
    written = write_volume_report(
        plan.folder,
        name=plan.reference.name,
        evaluation=evaluation,
        original=planes,
        generated=volumes,
        settings=plan.to_dict(),
        seconds=read_timings(plan),
        suffix=plan.suffix,
    )
    print(volume_table(evaluation))
    for path in [plan.structure_path(0), model_path, *written]:
        print(f"  {path}")


def structures_of(model_path: Path, folder: Path) -> list[np.ndarray]:
    """Structures in two dimensions by the model that made the volumes, from a folder that a stopped run completes."""
    from mcrpy_diffusion.models.model import load_model
    from mcrpy_diffusion.models.structure_folder import StructureFolder, sample_to_folder

    model = load_model(model_path)
    settings = model.info.sampling_settings(n_samples=N_COMPARED)
    made = sample_to_folder(model, settings, folder / COMPARED_FOLDER)
    files = StructureFolder.by_seed(made, range(N_COMPARED), model.info.extent, model.info.n_phases)
    return list(files.read())
