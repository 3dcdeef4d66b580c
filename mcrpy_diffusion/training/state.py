"""Training states on disk: checkpoints/step_<n>.pt, the last few kept; everything needed to go on."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path
from typing import Any

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import write_atomically
from mcrpy_diffusion.io.training_state import read_state

log = logging.getLogger(__name__)

FOLDER = "checkpoints"


def states(folder: str | os.PathLike[str]) -> list[Path]:
    """The states of a training folder, the oldest first."""
    return sorted((Path(folder) / FOLDER).glob("step_*.pt"))


def write_state(folder: str | os.PathLike[str], state: dict[str, Any], *, keep: int) -> Path:
    """Write a state whole or not at all, then delete all but the newest `keep`.

    Parameters
    ----------
    folder : path
        The training's folder.
    state : dict
        Tensors, numbers, strings, lists and dictionaries of them; "step" names the file.
    keep : int, at least 1
    """
    import torch

    path = Path(folder) / FOLDER / f"step_{state['step']:08d}.pt"
    path.parent.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))
    for old in states(folder)[:-keep]:
        old.unlink()
    return path


def latest(folder: str | os.PathLike[str]) -> tuple[Path, dict[str, Any]] | None:
    """The newest state that can be read; None where there is none at all.

    Raises
    ------
    InputError
        If there are states, but none can be read.
    """
    found = states(folder)[::-1]
    for path in found:
        try:
            return path, read_state(path)
        except InputError as error:
            log.warning("%s", error)
    if found:
        raise InputError(f"{found[0].parent}: no readable training state; delete the folder to train anew")
    return None


def read_history(folder: str | os.PathLike[str]) -> list[tuple[int, float]]:
    """Return [(step, mean loss of the steps since the entry before)] of a training; empty where its states are gone."""
    found = latest(folder)
    try:
        return [] if found is None else [(int(step), float(loss)) for step, loss in found[1]["history"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder}: the training state has no history; delete {FOLDER} there to train anew") from error
