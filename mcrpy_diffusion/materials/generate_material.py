"""Training structures of named materials, by their own generator or by reconstruction of a reference image."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials import engine, recipes
from mcrpy_diffusion.materials.filling import complete, show_counts
from mcrpy_diffusion.materials.generate import generate
from mcrpy_diffusion.materials.reference import Reference
from mcrpy_diffusion.materials.resolve import resolve
from mcrpy_diffusion.materials.samples import draw_seed
from mcrpy_diffusion.runtime.progress import Progress
from mcrpy_diffusion.settings import N_CROPS, GenerationSettings


def generate_material(
    material: str,
    options: Mapping[str, Any],
    folder: str | os.PathLike[str],
    *,
    reference: Reference | None = None,
    paper_recipe: bool = False,
    grain_ids: bool = False,
    n_jobs: int = -1,
    scheduler: str | None = None,
) -> Path:
    """Make training structures of a named material, or resume an interrupted call.

    Parameters
    ----------
    material : str
        alloy, fibre, carbonate, ceramics, pmma or copolymer.
    options : mapping
        Fields of the material's settings that differ from its defaults; `n_training_samples`, `seed` and `isotropic`
        as in `GenerationSettings`.
    folder, n_jobs, scheduler
        As in `generate.generate`.
    reference : Reference, optional
        Replaces the built-in image of a material that MCRpy reconstructs.
    paper_recipe : bool
        Whether to use the paper's descriptors and optimizer instead of the faster equivalent.
    grain_ids : bool
        For alloy: whether to write the map of grains of each sample to the folder grain_ids.

    Returns
    -------
    Path
        The folder, with a complete data set.

    Raises
    ------
    InputError
        If the material is unknown, an option does not belong to it, or its structures cannot be made.
    """
    recipes.check_material(material)
    if grain_ids and material != "alloy":
        raise InputError(f"material must be alloy with --grain_ids, got {material!r}")
    if material in recipes.DIRECT:
        if reference is not None:
            raise InputError(f"the material {material} has its own generator; omit the micrograph")
        general = {k: options[k] for k in ("n_training_samples", "seed", "isotropic") if k in options}
        own = recipes.DIRECT[material]().replace(**{k: v for k, v in options.items() if k not in general})
        settings = GenerationSettings().replace(**general)
        source = recipes.DirectSource(own, grain_ids)
        return _generate_directly(material, source, settings, folder, n_jobs=n_jobs, scheduler=scheduler)
    settings = recipes.descriptor_settings(material, options, paper_recipe=paper_recipe)
    if reference is None:
        image = recipes.built_in_reference(material, settings.extent)
        reference = Reference.of([image], name=material)
    return generate(resolve(settings, reference), reference, folder, n_jobs=n_jobs, scheduler=scheduler)


def _generate_directly(
    material: str,
    source: recipes.DirectSource,
    general: GenerationSettings,
    folder: str | os.PathLike[str],
    *,
    n_jobs: int,
    scheduler: str | None,
) -> Path:
    """Make structures by a generator that needs no reference."""
    source.check_settings(draw_seed(general.seed, 0, 0))  # invalid settings create no folder
    n = general.n_training_samples or N_CROPS

    def make(dataset: Dataset, log_file: Path, bar: Progress) -> None:
        engine.fill_in_processes(
            dataset,
            source,
            n_samples=n,
            seed=general.seed,
            n_jobs=n_jobs,
            scheduler=scheduler,
            log_path=log_file,
            progress=show_counts(bar),
        )

    own = source.settings.to_dict()
    recipe = {"material": material, "training_data": "recipe", **own, "n_phases": 2, "seed": general.seed}
    recipe |= {"n_training_samples": n, "isotropic": general.isotropic}
    return complete(folder, recipe, make, settings=own, packages=("numpy", "microstructpy"))
