"""Data sets, models and samples of one material; each function makes what is missing."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paper.plan import SEEDS, Plan, sampler_key
from benchmarks.paper.record import timed
from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import make_folder
from mcrpy_diffusion.models.structure_folder import PROVENANCE_NAME, StructureFolder
from mcrpy_diffusion.settings import SamplingSettings


def make_data(plan: Plan, material: str) -> None:
    """Make the training set and, from other seeds, the held-out set.

    Raises
    ------
    InputError
        If they cannot be made, or the folder of `--data` has no complete data set.
    """
    from mcrpy_diffusion.materials.generate_material import generate_material

    for kind in SEEDS:
        folder = plan.data_folder(material) / kind
        if is_complete(folder) and plan.data is not None:
            continue
        if plan.data is not None:
            raise InputError(f"{folder} must be a complete data set; make it, or leave --data out")
        with contextlib.nullcontext() if is_complete(folder) else timed(folder.parent, kind):
            generate_material(
                material,
                plan.data_options(kind),
                folder,
                reference=plan.reference(material),
                paper_recipe=plan.paper_recipe and material not in ("alloy", "fibre"),
                n_jobs=plan.n_jobs,
            )


def is_complete(folder: Path) -> bool:
    """Whether a data set exists and is complete."""
    try:
        return Dataset.open(folder).is_complete
    except InputError:
        return False


def read_set(plan: Plan, material: str, kind: str) -> np.ndarray:
    """Return the structures (N, I, J) of a data set.

    Raises
    ------
    InputError
        If it does not exist.
    """
    return Dataset.open(plan.data_folder(material) / kind).load()


def train_model(plan: Plan, material: str) -> Path:
    """Train on the training set, unless the plan uses shipped models."""
    from mcrpy_diffusion.training.train import MODEL_NAME, read_dataset, train

    if plan.shipped:
        return plan.model_path(material)
    folder = make_folder(plan.run_folder(material))
    done = (folder / MODEL_NAME).exists()
    with contextlib.nullcontext() if done else timed(folder, "training"):
        return train(read_dataset(plan.data_folder(material) / "training"), plan.training, folder)


def draw_samples(plan: Plan, material: str) -> None:
    """Sample the structures of each sampler."""
    for settings in plan.samplers:
        draw_set(plan, material, settings)


def draw_set(plan: Plan, material: str, settings: SamplingSettings) -> np.ndarray:
    """Sample structures (n, I, J) of a material in the plan's extent by one sampler; see `draw`."""
    return draw(plan.model_path(material), settings, plan.run_folder(material), shape=(plan.extent, plan.extent))


def draw(model: Path, settings: SamplingSettings, folder: Path, *, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Sample the missing structures of `folder`/<sampler>_<steps>, and return all, (n, I, J).

    Parameters
    ----------
    model : path
    settings : SamplingSettings
    folder : path
    shape : (I, J), optional
        Rows and columns; by default, those of the training images.

    Raises
    ------
    InputError
        If there is no model, or existing structures are of another model or other settings.
    """
    from mcrpy_diffusion.models.model import load_model

    provenance, loaded = made_with(model, settings), load_model(model)
    own = make_folder(folder / sampler_key(settings))
    shape = shape or loaded.info.extent
    seeds = range(settings.seed, settings.seed + settings.n_samples)
    structures = StructureFolder.by_seed(own, seeds, shape, loaded.info.n_phases)
    with timed(folder, sampler_key(settings)) if structures.missing() else contextlib.nullcontext():
        structures.complete(lambda missing: loaded.batches(missing, settings, shape), own / PROVENANCE_NAME, provenance)
    return structures.read()


def made_with(model: Path, settings: SamplingSettings) -> dict[str, Any]:
    """Return what determines a structure besides its seed."""
    from mcrpy_diffusion.models.model import load_model

    if not model.is_file():
        raise InputError(f"{model}: there is no model; run the step train first")
    kept = {k: v for k, v in settings.to_dict().items() if k not in ("n_samples", "batch_size")}
    return kept | {"weights_sha256": load_model(model).fingerprint()}  # another card makes no other structures
