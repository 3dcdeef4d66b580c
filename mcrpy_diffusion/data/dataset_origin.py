"""What a data set says about its structures: whether they are periodic, and the micrographs that crops come from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.data.dataset_files import MICROGRAPHS_NAME, check_place, replace_file
from mcrpy_diffusion.data.micrograph import hash_phases
from mcrpy_diffusion.data.slices import recorded_slices
from mcrpy_diffusion.data.split import MicrographSplit
from mcrpy_diffusion.errors import InputError, one_line
from mcrpy_diffusion.io.npy_files import Budget, archive_members
from mcrpy_diffusion.io.untrusted import open_regular, read_json
from mcrpy_diffusion.settings import GenerationSettings, PixelSize

MAX_STORED_BYTES = 2**28  # of micrographs in memory; larger ones are not stored with their crops


@dataclass(frozen=True)
class DatasetOrigin:
    """What the record of a data set says.

    Attributes
    ----------
    periodic : bool or None
        Whether the structures continue across their edges; None if there is no record.
    is_of_crops : bool
        Whether they are crops, which overlap.
    split : MicrographSplit or None
        The micrographs that the crops were cut from; None if there are none, or they are not stored.
    pixel_size : PixelSize or None
    """

    periodic: bool | None = None
    is_of_crops: bool = False
    split: MicrographSplit | None = None
    pixel_size: PixelSize | None = None


def read_origin(folder: str | os.PathLike[str]) -> DatasetOrigin:
    """Read the origin of a folder's structures; a folder without the record of a data set has none.

    Raises
    ------
    InputError
        If the micrographs are damaged, or are not those of the record.
    """
    root = Path(folder)
    try:
        info = read_json(root / "dataset.json")
        recipe = info["recipe"]
        if not isinstance(recipe, dict):
            return DatasetOrigin()
    except (OSError, ValueError, KeyError, TypeError):  # a folder of structures, or not of this package
        return DatasetOrigin()
    periodic, is_of_crops = recipe.get("periodic"), recipe.get("training_data") == "crops"
    split = None
    if is_of_crops and (root / MICROGRAPHS_NAME).exists():
        check_place(root)
        micrographs = read_micrographs(root, info)
        slices = recorded_slices(recipe["volumes"], len(micrographs)) if "volumes" in recipe else []
        split = MicrographSplit.of(micrographs, _settings(root, recipe), slices)
    size = info.get("pixel_size")
    pixel_size = None if size is None else PixelSize.from_dict(size)
    return DatasetOrigin(periodic if isinstance(periodic, bool) else None, is_of_crops, split, pixel_size)


def store_micrographs(root: Path, micrographs: Sequence[np.ndarray]) -> None:
    """Write the micrographs of crops into their data set, unless they are there or too large together."""
    path = root / MICROGRAPHS_NAME
    if path.exists() or sum(m.nbytes for m in micrographs) > MAX_STORED_BYTES:
        return
    arrays = {f"{k:06d}": m for k, m in enumerate(micrographs)}
    replace_file(path, lambda stream: np.savez_compressed(stream, **arrays))


def read_micrographs(root: Path, info: Mapping[str, Any]) -> list[np.ndarray]:
    """Read the micrographs of a data set, which must have the hashes of its record `info`.

    Raises
    ------
    InputError
        If they cannot be read, or are others.
    """
    path, budget = root / MICROGRAPHS_NAME, Budget("micrographs", MAX_STORED_BYTES)
    shown = repr(str(path))

    def check(shape: tuple[int, ...], dtype: np.dtype) -> None:
        if len(shape) != 2 or 0 in shape:
            raise InputError(f"{shown} must hold images (I, J), got the shape {shape}")
        budget.take(str(path), shape[0] * shape[1] * dtype.itemsize)

    try:
        with open_regular(path) as stream:
            members = archive_members(stream, shown)
            found = [members[name](check) for name in sorted(members)]
    except InputError:
        raise
    except Exception as error:  # damaged archives raise many kinds
        raise InputError(f"{shown} is not a valid .npz file: {one_line(error)}") from error
    if [hash_phases(m) for m in found] != list(info.get("reference_sha256", [])):
        raise InputError(
            f"{shown} does not hold the micrographs of dataset.json; delete it, or make the data set again"
        )
    return found


def _settings(root: Path, recipe: Mapping[str, Any]) -> GenerationSettings:
    names = ("extent_x", "extent_y", "training_data", "n_training_samples", "held_out_fraction", "seed")
    try:
        return GenerationSettings().replace(**{name: recipe[name] for name in names})
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{str(root / 'dataset.json')!r} is not a valid record: {one_line(error)}") from error
