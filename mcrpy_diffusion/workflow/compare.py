"""Two folders of structures -> the report of one against the other: the stages evaluate and report on files."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.data.crops import random_crops, split
from mcrpy_diffusion.data.dataset_origin import DatasetOrigin, read_origin
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.evaluate import evaluate
from mcrpy_diffusion.evaluation.pairs import find_pairs
from mcrpy_diffusion.metrics.copying import nearest_crop_distance
from mcrpy_diffusion.metrics.image_features import FeatureNetwork, inception, vgg19
from mcrpy_diffusion.reports.console import console_table
from mcrpy_diffusion.reports.report import write_report
from mcrpy_diffusion.runtime import frameworks
from mcrpy_diffusion.settings import FEATURES, ImageSettings
from mcrpy_diffusion.workflow.compare_volumes import compare_volumes
from mcrpy_diffusion.workflow.read_structures import holds_volumes, read_set, read_structures

N_CROPS = 1000
N_PROBED = 8  # held-out structures that are looked for in the held-out part of a data set


def compare_folders(
    original: str | os.PathLike[str],
    generated: str | os.PathLike[str],
    out: str | os.PathLike[str],
    periodic: bool | None = None,
    *,
    seed: int = 0,
    features: str = "none",
    held_out: str | os.PathLike[str] | None = None,
    boundary_phase: int | None = None,
    isotropic: bool = False,
    properties: bool = False,
    **reading: Any,
) -> str:
    """Compare generated structures with original ones and write the report.

    Parameters
    ----------
    original, generated : path
        Folders with .npy structures, data sets, or images: folders or files as in `data.micrograph.read_images`.
        Generated structures have one extent. Originals have the same extent, or are larger: then random crops of them
        are compared, which are not periodic. Generated volumes are compared by `compare_volumes`.
    out : path
        Folder for report.html, metrics.json and the pictures.
    periodic : bool, optional
        Whether the structures continue across their edges; by default what a data set says, else yes.
    seed : int
        Seed of the crops.
    features : str
        Network (`vgg19`, `inception`) for the Frechet distance, precision, recall, density and coverage, or `none`.
    held_out : path, optional
        Folder with real structures that were not used for training; larger ones are cut to crops.
    boundary_phase : int, optional
        The phase of the boundaries between grains; by default, grains are not measured.
    isotropic : bool
        Whether mirror images and quarter turns are searched for copies too.
    properties : bool
        Whether conductivity and tortuosity factor are computed, which needs taufactor.
    **reading
        Fields of `settings.ImageSettings`: how images are read. `crop` and `slices_along` hold for real ones alone.

    Returns
    -------
    str
        The closing table and the files written.

    Raises
    ------
    InputError
        If a folder has no structures, they differ in extent or kind, or the network's weights are missing.
    """
    if features not in FEATURES:
        raise InputError(f"features must be one of {', '.join(FEATURES)}, got {features!r}")
    started = time.monotonic()
    settings_of_images = ImageSettings().replace(**reading)
    if holds_volumes(generated):
        if features != "none" or boundary_phase is not None:
            raise InputError("features and boundary_phase are for structures in two dimensions, got volumes")
        return compare_volumes(
            original,
            generated,
            out,
            periodic,
            held_out=held_out,
            isotropic=isotropic,
            properties=properties,
            images=settings_of_images,
        )
    of_generated = replace(settings_of_images, crop=None, slices_along=())
    structures, of_original = read_structures(generated, of_generated), read_set(original, settings_of_images)
    references = of_original.structures
    unseen = [] if held_out is None else read_structures(held_out, settings_of_images)
    extents = {s.shape for s in structures}
    if len(extents) > 1:
        raise InputError(f"{generated}: the structures must have one extent, got {sorted(extents)}")
    if len({s.dtype for s in [*structures, *references, *unseen]}) > 1:
        paths = ", ".join(str(folder) for folder in (original, generated, held_out) if folder is not None)
        raise InputError(f"{paths}: structures must be all phases or all grey values, got both")
    extent = (structures[0].shape[0], structures[0].shape[1])
    made, origin = np.stack(structures), read_origin(original)
    warnings: list[str] = []
    if periodic is not None and origin.periodic not in (None, periodic):
        kinds = {True: "periodic", False: "not periodic"}
        warnings.append(
            f"the data set says that its structures are {kinds[not periodic]}, the option {kinds[periodic]}"
        )
    if periodic is None:
        periodic = origin.periodic is not False
    parts = None if origin.split is None else list(origin.split.training)
    if all(r.shape == extent for r in references):
        real = training = np.stack(references)
        micrographs = parts
        if origin.is_of_crops and parts is None:
            warnings.append(
                f"copies were searched among the {len(real)} crops alone, not at every position of the micrographs, "
                "which the data set does not hold: it is of an earlier version, or they are too large"
            )
    else:
        micrographs = parts or references
        real, training = random_crops(micrographs, N_CROPS, extent=extent, seed=seed), None
        periodic = False
    floor_sets = None
    if micrographs is not None and features != "none":
        floor_sets = disjoint_crops(micrographs, (len(real), len(made)), extent=extent, seed=seed)
    unseen_images = _cut(unseen, extent, seed=seed) if unseen else None
    largest = max(images.max() for images in (made, real, unseen_images) if images is not None)
    n_phases = 0 if made.dtype.kind == "f" else max(int(largest) + 1, 2)
    evaluation = evaluate(
        real,
        made,
        n_phases=n_phases,
        periodic=periodic,
        training=training,
        held_out=unseen_images,
        micrographs=micrographs,
        held_out_micrographs=None if held_out is None else _held_out_micrographs(held_out, unseen, origin, extent),
        features=feature_network(features, periodic=periodic),
        floor_sets=floor_sets,
        overlapping=origin.is_of_crops,
        boundary_phase=boundary_phase,
        isotropic=isotropic,
        properties=properties,
    )
    evaluation = replace(evaluation, warnings=(*warnings, *evaluation.warnings))
    folders = {"original": original, "generated": generated, "held_out": held_out}
    settings: dict[str, Any] = {name: None if path is None else str(path) for name, path in folders.items()}
    settings |= {"periodic": periodic, "seed": seed, "features": features}
    settings |= {"boundary_phase": boundary_phase, "isotropic": isotropic, "properties": properties}
    seconds = {"evaluation": time.monotonic() - started}
    written = write_report(
        out,
        name=Path(original).resolve().name,
        metrics=evaluation,
        original=real,
        generated=made,
        settings=settings,
        seconds=seconds,
        pairs=find_pairs(
            evaluation.nearest_training_image.closest_pairs, made, training=training, micrographs=micrographs
        ),
        readings=of_original.readings,
        pixel_size=settings_of_images.given_pixel_size or origin.pixel_size or of_original.pixel_size,
    )
    return "\n".join([console_table(evaluation, seconds, full=True), *(f"  {path}" for path in written)])


def _held_out_micrographs(
    folder: str | os.PathLike[str], unseen: Sequence[np.ndarray], origin: DatasetOrigin, extent: tuple[int, int]
) -> Sequence[np.ndarray] | None:
    """Return what held-out structures are crops of; None if they are independent, or it is unknown.

    Held-out structures of a data set's own extent may be crops of the part that the data set holds out.
    """
    if any(image.shape != extent for image in unseen):
        return unseen
    own = read_origin(folder)
    if own.split is not None:
        return own.split.training
    held_out = [] if origin.split is None else origin.split.held_out
    if held_out and not nearest_crop_distance(np.stack(unseen[:N_PROBED]), held_out, point_reflection=False).any():
        return held_out
    return None


def _cut(structures: Sequence[np.ndarray], extent: tuple[int, int], *, seed: int) -> np.ndarray:
    """Return structures of an extent as they are, else random crops of them, (N, I, J)."""
    if all(s.shape == extent for s in structures):
        return np.stack(structures)
    return random_crops(structures, N_CROPS, extent=extent, seed=seed)


def disjoint_crops(
    micrographs: Sequence[np.ndarray], numbers: tuple[int, int], *, extent: tuple[int, int], seed: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Cut two sets of crops without a common pixel, from the two halves of each micrograph.

    A micrograph that is too small for two halves is used for one of the sets alone. None if a set is empty.
    """
    halves: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for micrograph in micrographs:
        one, other = split(micrograph, extent=extent, held_out_fraction=0.5)
        if other is None:
            min(halves, key=len).append(one)
        else:
            halves[0].append(one)
            halves[1].append(other)
    if not all(halves):
        return None
    first, second = (random_crops(half, n, extent=extent, seed=seed) for half, n in zip(halves, numbers))
    return first, second


def feature_network(name: str, *, periodic: bool) -> FeatureNetwork | None:
    """Return the network of that name, with its weights.

    Parameters
    ----------
    name : str
        One of `FEATURES`; `none` is None.
    periodic : bool
        Whether the structures continue across their edges; Inception ignores it.

    Raises
    ------
    InputError
        If the weights are missing.
    """
    if name == "none":
        return None
    frameworks.before_torch()
    if name == "inception":
        return inception()
    from mcrpy_diffusion.mcrpy_bridge.vgg19 import read_vgg19_weights

    return vgg19(read_vgg19_weights(), periodic=periodic)
