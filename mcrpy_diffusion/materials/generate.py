"""Training structures from references: crops, or MCRpy's descriptor-based reconstructions."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcrpy_diffusion.data import dataset_check
from mcrpy_diffusion.data.dataset import ACCEPTED, Dataset
from mcrpy_diffusion.data.dataset_origin import store_micrographs
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials.filling import complete, show_counts
from mcrpy_diffusion.materials.reference import Reference
from mcrpy_diffusion.materials.resolve import recipe, resolve
from mcrpy_diffusion.runtime.console import say_error
from mcrpy_diffusion.runtime.progress import Progress
from mcrpy_diffusion.settings import N_CROPS, GenerationSettings


def generate(
    settings: GenerationSettings,
    reference: Reference,
    folder: str | os.PathLike[str],
    *,
    n_jobs: int = -1,
    scheduler: str | None = None,
    log_path: str | os.PathLike[str] | None = None,
) -> Path:
    """Make the training structures from a reference, or resume an interrupted call.

    Parameters
    ----------
    settings : GenerationSettings
        As `resolve` returns them.
    reference : Reference
    folder : path
        Folder of the data set.
    n_jobs : int
        Worker processes, as in joblib: -1 is one per core, -2 one less.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers are used instead of processes of this machine.
    log_path : path, optional
        Receives the output of MCRpy. By default it is generate.log in the folder, with a line of progress per minute.

    Returns
    -------
    Path
        The folder, with a complete data set.

    Raises
    ------
    InputError
        If the folder contains samples of another recipe or is in use, no scheduler answers, or the acceptance rate is
        significantly below 5 %.
    """
    n = settings.n_training_samples
    if n is None:
        raise ValueError("the settings are not resolved; call resolve first")
    if settings.training_data == "crops":
        for text in reference.split(settings).missing_phases():
            say_error(f"warning: {text}")

    def make(dataset: Dataset, log_file: Path, bar: Progress) -> None:
        if settings.training_data == "crops":
            _add_crops(dataset, settings, reference, bar)
            return
        from mcrpy_diffusion.materials import descriptor_based

        descriptor_based.generate(
            dataset,
            settings,
            references=reference.images or None,
            characterizations=None if reference.characterization is None else [reference.characterization],
            n_samples=n,
            n_jobs=n_jobs,
            scheduler=scheduler,
            log_path=log_file,
            progress=show_counts(bar),
        )

    return complete(
        folder,
        recipe(settings, reference),
        make,
        settings=settings.to_dict(),
        packages=("mcrpy", "microstructpy", "numpy", "scipy", "tensorflow"),
        reference_sha256=reference.sha256,
        source=source_record(reference),
        log_path=log_path,
    )


def source_record(reference: Reference) -> dict[str, Any]:
    """Return how the micrographs were read and their pixel size, for dataset.json."""
    size = reference.pixel_size
    record = {"images": [reading.to_dict() for reading in reference.readings]}
    return record if size is None else {**record, "pixel_size": size.to_dict()}


def _add_crops(dataset: Dataset, settings: GenerationSettings, reference: Reference, bar: Progress) -> None:
    store_micrographs(dataset.folder, reference.images)
    two_phases = reference.n_phases in (0, 2)
    for i, image in enumerate(reference.split(settings).training_crops()):
        if i not in dataset.tried:
            dataset.append(i, image, volume_fraction=float(image.mean()) if two_phases else None)
            bar.update()


def generate_from_images(reference: Reference, options: Mapping[str, Any], folder: str | os.PathLike[str]) -> Path:
    """Make a data set of crops of many images; all positions once if there are no more than requested.

    Parameters
    ----------
    reference : Reference
        That of `reference.reference_from_images`.
    options : mapping
        Fields of `GenerationSettings` that differ from the defaults.
    folder : path
        Folder of the data set.

    Raises
    ------
    InputError
        If there are fewer than two positions of crops, or an image is smaller than the extent.
    """
    settings = resolve(GenerationSettings().replace(**{**options, "training_data": "crops"}), reference)
    n = reference.split(settings).n_positions
    if n < 2:
        raise InputError("images must have at least 2 crop positions, got 1; give more images or a smaller extent")
    settings = settings.replace(n_training_samples=min(n, settings.n_training_samples or N_CROPS))
    return generate(settings, reference, folder)


def verify(folder: str | os.PathLike[str]) -> str:
    """Check a data set by `data.dataset_check.verify`, and return one line about its contents."""
    dataset = dataset_check.verify(folder)
    rejected = "".join(f", {reason} {n}" for reason, n in dataset.counts().items() if reason != ACCEPTED)
    return f"{folder}: {dataset.n_accepted} structures of {dataset.n_tried} seeds agree with the record{rejected}"
