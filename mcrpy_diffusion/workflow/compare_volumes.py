"""A folder of volumes against one of original structures in two dimensions -> the report of the volumes."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.data.dataset_origin import DatasetOrigin, read_origin
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.shapes import pieces
from mcrpy_diffusion.evaluation.volume_results import VolumeEvaluation
from mcrpy_diffusion.evaluation.volumes import AXES, evaluate_volumes
from mcrpy_diffusion.reports.volume_report import write_volume_report
from mcrpy_diffusion.reports.volume_rows import volume_table
from mcrpy_diffusion.settings import ImageSettings
from mcrpy_diffusion.workflow.read_structures import read_structures, read_volumes


def compare_volumes(
    original: str | os.PathLike[str],
    generated: str | os.PathLike[str],
    out: str | os.PathLike[str],
    periodic: bool | None = None,
    *,
    held_out: str | os.PathLike[str] | None = None,
    isotropic: bool = False,
    properties: bool = False,
    images: ImageSettings | None = None,
) -> str:
    """Compare generated volumes with original structures, and with true volumes, and write the report.

    Parameters
    ----------
    original : path
        Folder with .npy structures in two dimensions, for the planes across all three axes; or folders `x`, `y` and
        `z` in it, one for the planes across each. Larger ones, and the micrographs of a data set of crops, are cut
        into pieces of the extent of the slices, which are not periodic.
    generated : path
        Folder with .npy volumes of one extent.
    out : path
        Folder for report.html, metrics.json and the pictures.
    periodic : bool, optional
        Whether the structures and volumes continue across their edges; by default what a data set says, else yes.
    held_out : path, optional
        Folder with true volumes of the same extent.
    isotropic : bool
        Whether rows and columns of the original structures are alike.
    properties : bool
        Whether the conductivity is computed, which needs taufactor.
    images : ImageSettings, optional
        How images of original structures are read.

    Returns
    -------
    str
        The closing table and the files written.

    Raises
    ------
    InputError
        If a folder has no structures, or they differ in extent or kind.
    """
    started = time.monotonic()
    made = read_volumes(generated)
    true = None if held_out is None else read_volumes(held_out)
    read, origin = _read_planes(Path(original), images)
    if periodic is None:
        periodic = origin.periodic is not False
    references = [image for of_plane in read.values() for image in of_plane]
    kinds = {made.dtype, *(image.dtype for image in references)}
    if len(kinds | (set() if true is None else {true.dtype})) > 1:
        raise InputError("structures must be all phases or all grey values, got both")
    largest = max(int(values.max()) for values in (made, *references, *([] if true is None else [true])))
    evaluation, planes = measure_volumes(
        read,
        made,
        n_phases=0 if made.dtype.kind == "f" else max(largest + 1, 2),
        periodic=periodic,
        true=true,
        isotropic=isotropic,
        properties=properties,
    )
    if origin.is_of_crops and origin.split is None:
        text = "original structures are crops that overlap: the floors are too low"
        evaluation = replace(evaluation, warnings=(*evaluation.warnings, text))
    folders = {"original": original, "generated": generated, "held_out": held_out}
    settings: dict[str, Any] = {name: None if path is None else str(path) for name, path in folders.items()}
    settings |= {"periodic": periodic, "isotropic": isotropic}
    seconds = {"evaluation": time.monotonic() - started}
    written = write_volume_report(
        out,
        name=Path(original).resolve().name,
        evaluation=evaluation,
        original=planes,
        generated=made,
        true=true,
        settings=settings,
        seconds=seconds,
    )
    return "\n".join([volume_table(evaluation), *(f"  {path}" for path in written)])


def measure_volumes(
    originals: Mapping[str, Sequence[np.ndarray]],
    generated: np.ndarray,
    *,
    n_phases: int,
    periodic: bool,
    true: np.ndarray | None = None,
    isotropic: bool = False,
    properties: bool = False,
) -> tuple[VolumeEvaluation, dict[str, np.ndarray]]:
    """Compare volumes with original structures of any extent.

    Parameters
    ----------
    originals : mapping
        Original structures of the planes x, y and z. Those larger than the slices are cut into pieces, which are not
        periodic.
    generated, n_phases, periodic, true, isotropic, properties
        As for `evaluate_volumes`.

    Returns
    -------
    evaluation : VolumeEvaluation
    planes : dict of (N, A, B)
        The original structures that the slices were compared with.
    """
    planes, are_cut = {}, False
    for k, axis in enumerate(AXES):
        extent = [n for j, n in enumerate(generated.shape[1:]) if j != k]
        planes[axis], cut = _of_one_extent(originals[axis], (extent[0], extent[1]))
        are_cut = are_cut or cut
    evaluation = evaluate_volumes(
        planes,
        generated,
        n_phases=n_phases,
        periodic=periodic,
        periodic_original=periodic and not are_cut,
        true=true,
        isotropic=isotropic,
        properties=properties,
    )
    if are_cut:
        text = "original structures are pieces of larger ones: those of one micrograph are not independent"
        evaluation = replace(evaluation, warnings=(*evaluation.warnings, text))
    return evaluation, planes


def _read_planes(folder: Path, settings: ImageSettings | None) -> tuple[dict[str, list[np.ndarray]], DatasetOrigin]:
    """Read the original structures of each plane: those of subfolders x, y, z, or one set for all; and its origin."""
    if all((folder / axis).is_dir() for axis in AXES):
        return {axis: read_structures(folder / axis, settings) for axis in AXES}, DatasetOrigin()
    origin = read_origin(folder)
    images = read_structures(folder, settings) if origin.split is None else list(origin.split.training)
    return dict.fromkeys(AXES, images), origin


def _of_one_extent(images: Sequence[np.ndarray], extent: tuple[int, int]) -> tuple[np.ndarray, bool]:
    """Return structures (N, A, B) no larger than an extent, larger ones cut into pieces, and whether any were."""
    smallest = np.min([image.shape for image in images] + [extent], axis=0)
    common = (int(smallest[0]), int(smallest[1]))
    if all(image.shape == common for image in images):
        return np.stack(images), False
    return np.concatenate([pieces(image[None], common) for image in images]), True
