"""Verification of a data set against its record."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.data.dataset import ACCEPTED, Dataset
from mcrpy_diffusion.data.dataset_files import (
    MICROGRAPHS_NAME,
    check_place,
    load_sample,
    read_info,
    read_lines,
    sample_path,
)
from mcrpy_diffusion.data.dataset_origin import read_micrographs
from mcrpy_diffusion.data.micrograph import hash_phases
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.locks import LOCK_NAME, lock_folder

_OWN_FILES = {"dataset.json", "samples.jsonl", MICROGRAPHS_NAME, LOCK_NAME}
_PACKED = re.compile(r"images_[0-9a-f]{16}\.npy")
_MAX_LISTED = 5  # problems that a message names


def verify(folder: str | os.PathLike[str]) -> Dataset:
    """Check that a data set is complete and agrees with its record; return it, opened for reading.

    Raises
    ------
    InputError
        With the problems in one line: samples that are missing, changed or not recorded, unknown files, an inconsistent
        record; or if another process is writing.
    """
    root = Path(folder)
    check_place(root)
    info = read_info(root)
    with contextlib.ExitStack() as stack:
        if (root / LOCK_NAME).exists():
            with contextlib.suppress(OSError):  # a read-only folder
                stack.callback(lock_folder(root).release)
        lines, whole = read_lines(root)
        dataset = Dataset(root, info, lines, None)
        problems = [] if whole else ["the last line of samples.jsonl is incomplete"]
        problems += _inconsistencies(dataset)
        problems += [problem for line in dataset.samples if line["accepted"] for problem in _changed(root, line)]
        problems += _wrong_micrographs(dataset)
        problems += [f"{name} does not belong there" for name in _unknown_files(dataset)]
    if problems:
        more = f", and {len(problems) - _MAX_LISTED} more" if len(problems) > _MAX_LISTED else ""
        raise InputError(f"{str(root)!r}: {'; '.join(problems[:_MAX_LISTED])}{more}")
    return dataset


def _inconsistencies(dataset: Dataset) -> list[str]:
    info, problems = dataset.info, []
    for key, kind in (("recipe", dict), ("settings", dict), ("versions", dict), ("reference_sha256", list)):
        if not isinstance(info.get(key), kind):
            problems.append(f"dataset.json has no {key}")
    if not dataset.is_complete:
        problems.append(f"it is not complete: {dataset.n_accepted} samples so far")
    elif (info.get("n_accepted"), info.get("n_tried")) != (dataset.n_accepted, dataset.n_tried):
        problems.append(
            f"dataset.json records {info.get('n_accepted')} samples of {info.get('n_tried')} seeds, samples.jsonl "
            f"{dataset.n_accepted} of {dataset.n_tried}"
        )
    if len(dataset.tried) < dataset.n_tried:
        problems.append("samples.jsonl has a seed twice")
    if dataset.n_accepted < dataset.counts().get(ACCEPTED, 0):
        problems.append("samples.jsonl has a sample twice")
    return problems


def _changed(root: Path, line: dict[str, Any]) -> Iterator[str]:
    """Yield the problems of the files of an accepted sample."""
    hashes = {"samples": line.get("sha256"), **line.get("maps", {})}
    for name, expected in hashes.items():
        path = sample_path(root, line["index"], name)
        shown = f"{name}/{path.name}"
        if not path.is_file():
            yield f"{shown} is missing"
            continue
        try:
            values = load_sample(path)
        except InputError:
            yield f"{shown} is not a valid sample"
            continue
        known = line.get("volume_fraction")
        if expected is None and known is not None:  # of a version without hashes
            fractions = known if isinstance(known, list) else [known]
            own = [float(np.mean(values == phase)) for phase in range(1, len(fractions) + 1)]
            if not (all(isinstance(f, (int, float)) for f in fractions) and np.allclose(own, fractions, atol=1e-6)):
                yield f"{shown} has the volume fraction {own}, its line says {known}"
        elif expected not in (None, hash_phases(values)):
            yield f"{shown} was changed"


def _wrong_micrographs(dataset: Dataset) -> list[str]:
    """Return the problem of stored micrographs; they may be missing."""
    try:
        if (dataset.folder / MICROGRAPHS_NAME).exists():
            read_micrographs(dataset.folder, dataset.info)
    except InputError as error:
        return [str(error)]
    return []


def _unknown_files(dataset: Dataset) -> list[str]:
    root = dataset.folder
    lines = [line for line in dataset.samples if line["accepted"]]
    own = {sample_path(root, line["index"], name) for line in lines for name in ("samples", *line.get("maps", ()))}
    folders = {path.parent for path in own} | {root / "samples"}
    unknown = [file for folder in folders if folder.is_dir() for file in folder.iterdir() if file not in own]
    for path in root.iterdir():
        if not (path.name in _OWN_FILES or _PACKED.fullmatch(path.name) or path.suffix == ".log" or path in folders):
            unknown.append(path)
    return [path.relative_to(root).as_posix() for path in sorted(unknown)]
