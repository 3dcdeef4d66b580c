"""Records of how files were made, which decide whether a command goes on with them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import write_json
from mcrpy_diffusion.io.untrusted import read_json
from mcrpy_diffusion.settings.config import differences


def keep_record(path: Path, made_by: Mapping[str, Any]) -> None:
    """Write what the files beside a record are made by; where it is there, refuse what differs from it.

    Raises
    ------
    InputError
        As `read_record` and `check_same`.
    """
    if path.exists():
        check_same(read_record(path), json.loads(json.dumps(dict(made_by))), path)
    else:
        write_json(path, dict(made_by))


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a record.

    Raises
    ------
    InputError
        If the file cannot be read or holds anything else.
    """
    try:
        record = read_json(path)
    except InputError:
        raise
    except (OSError, ValueError):
        record = None
    if not isinstance(record, dict):
        raise InputError(f"{os.fspath(path)}: no record of how the files beside it were made; delete it, and them")
    return record


def check_same(old: dict[str, Any], new: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Raise InputError naming what differs."""
    changed = differences(old, new)
    if changed:
        what = "; ".join(changed)
        raise InputError(f"{os.fspath(path)} was made with other settings ({what}); give another folder or delete it")
