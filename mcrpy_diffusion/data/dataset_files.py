"""Files of a data set: written atomically, and checked when they are read."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.npy_files import load_npy
from mcrpy_diffusion.io.untrusted import parse_json, read_bytes, read_json, reject_symlinks

logger = logging.getLogger(__name__)

FORMAT = 1
MICROGRAPHS_NAME = "micrographs.npz"
_SAMPLE = re.compile(r"\d{6,}\.npy")
_LEFTOVER = re.compile(r"(dataset\.json|samples\.jsonl|micrographs\.npz|\d{6,}\.npy|\.?images_[\w.]+)\.tmp")
_MAX_LINES_BYTES = 2**30  # of samples.jsonl
_MAX_INDEX = 10**9


def sample_path(root: Path, index: int, name: str = "samples") -> Path:
    return root / name / f"{index:06d}.npy"


def is_map_name(name: str) -> bool:
    return name.isidentifier() and name != "samples"


def save_array(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    replace_file(path, lambda stream: np.save(stream, values, allow_pickle=False))


def load_sample(path: Path) -> np.ndarray:
    def check(shape: tuple[int, ...], _: np.dtype) -> None:
        if len(shape) != 2 or 0 in shape:
            raise InputError(f"its shape must be (I, J), got {shape}")

    reject_symlinks(path)
    try:
        return load_npy(path, check=check)
    except InputError as error:
        reason = str(error).removeprefix(repr(str(path))).strip()
        raise InputError(
            f"{str(path)!r} is not a valid sample ({reason}); repeat the generation to make it again"
        ) from error


def plain(values: Any) -> Any:
    """Return values as they are after a round trip through JSON; numpy's numbers and arrays are allowed."""

    def convert(value: Any) -> Any:
        if isinstance(value, (np.generic, np.ndarray)):
            return value.tolist()
        raise TypeError(f"{type(value).__name__} cannot be written as JSON")

    return json.loads(json.dumps(dict(values) if isinstance(values, Mapping) else values, default=convert))


def replace_file(path: Path, write: Any) -> None:
    """Write a file atomically: under a temporary name that is then renamed, without waiting for the disk."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as stream:
        write(stream)
    os.replace(temporary, path)


def write_info(root: Path, info: dict[str, Any]) -> None:
    replace_file(root / "dataset.json", lambda stream: stream.write(json.dumps(info, indent=1).encode()))


def read_info(root: Path) -> dict[str, Any]:
    try:
        info = read_json(root / "dataset.json")
        if info["format"] == FORMAT and isinstance(info["recipe"], dict) and isinstance(info["complete"], bool):
            return info
        problem = f"must have the format {FORMAT}, got {info['format']!r}"
    except FileNotFoundError:
        problem = "does not exist; give a data set's folder"
    except NotADirectoryError:
        problem = "does not exist, because the folder is a file"
    except InputError:
        raise
    except (ValueError, KeyError, TypeError):
        problem = "is not a valid record of a data set; give another folder"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    raise InputError(f"{str(root / 'dataset.json')!r} {problem}")


def read_lines(root: Path) -> tuple[list[bytes], bool]:
    """Return the checked lines of samples.jsonl, and whether the last one is complete."""
    path = root / "samples.jsonl"
    raw = read_bytes(path, at_most=_MAX_LINES_BYTES) if path.exists() else b""
    *whole, torn = raw.split(b"\n")
    try:
        if all(_is_line(parse_json(line)) for line in whole):
            return whole, not torn
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{str(path)!r} is damaged; give another folder, or delete this one")


def _is_line(line: dict[str, Any]) -> bool:
    """Whether a line of samples.jsonl has valid entries; index and maps become file names."""
    index, accepted, maps = line["index"], line["accepted"], line.get("maps", {})
    return (
        type(line["seed"]) is int
        and isinstance(line["reason"], str)
        and accepted is (index is not None)
        and (index is None or (type(index) is int and 0 <= index < _MAX_INDEX))
        and isinstance(maps, dict)
        and all(is_map_name(name) for name in maps)
    )


def check_place(root: Path) -> None:
    """Reject links in a data set's folder, through which other files would be read, changed or deleted."""
    if root.is_dir():
        reject_symlinks(*sorted(root.iterdir()))


def repair(root: Path) -> list[bytes]:
    """Repair the folder of a killed process: delete temporary files, incomplete lines, and lines without a sample."""
    for leftover in [*root.glob("*.tmp"), *root.glob("*/*.tmp")]:
        if _LEFTOVER.fullmatch(leftover.name):
            leftover.unlink()
    lines, whole = read_lines(root)
    kept, recorded = [], set()
    for raw in lines:
        line = json.loads(raw)
        if line["accepted"]:
            files = [sample_path(root, line["index"], name) for name in ("samples", *line.get("maps", ()))]
            if not all(_is_sample(file) for file in files):
                continue
            recorded.add(files[0])
        kept.append(raw)
    if len(kept) < len(lines):
        logger.warning("%d samples of %s are missing or damaged and are made again", len(lines) - len(kept), root)
    if len(kept) < len(lines) or not whole:
        replace_file(root / "samples.jsonl", lambda stream: stream.write(b"".join(line + b"\n" for line in kept)))
    for unrecorded in set(root.glob("samples/*.npy")) - recorded:  # the process was killed before it wrote the line
        if _SAMPLE.fullmatch(unrecorded.name):
            unrecorded.unlink()
    return kept


def _is_sample(path: Path) -> bool:
    """Whether the file is a complete array, by its header and size; the values are not read."""
    reject_symlinks(path)
    try:
        return path.is_file() and np.load(path, mmap_mode="r", allow_pickle=False).size > 0
    except (OSError, ValueError, EOFError):
        return False
