"""Provenance: records of how files were made, and their differences from the current settings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import write_json
from mcrpy_diffusion.io.untrusted import read_json


def check_or_write_provenance(path: Path, provenance: Mapping[str, Any]) -> None:
    """Write the provenance of the files in a folder, or raise InputError if the existing record differs from it."""
    if path.exists():
        check_same(read_provenance(path), json.loads(json.dumps(dict(provenance))), path)
    else:
        write_json(path, dict(provenance))


def read_provenance(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a record; raise InputError if the file is something else."""
    try:
        record = read_json(path)
    except InputError:
        raise
    except (OSError, ValueError):
        record = None
    if not isinstance(record, dict):
        raise InputError(
            f"{os.fspath(path)} must be a record of how the files in its folder were made; delete it and these files"
        )
    return record


def check_same(old: dict[str, Any], new: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Raise InputError with the differences, if there are any."""
    changed = differences(old, new)
    if changed:
        what = "; ".join(changed)
        raise InputError(f"{os.fspath(path)} was made with other settings ({what}); give another folder or delete it")


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return the differences of two dictionaries as "key: old -> new"."""
    keys = [k for k in {**old, **new} if old.get(k) != new.get(k)]
    return [f"{k}: {old.get(k)!r} -> {new.get(k)!r}" for k in keys]


def package_versions(*names: str) -> dict[str, str]:
    """Return the versions of the installed packages, including this one."""
    found = {}
    for name in ("mcrpy_diffusion", *names):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
