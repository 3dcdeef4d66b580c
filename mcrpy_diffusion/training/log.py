"""What a training reports on the way: training_log.csv, and TensorBoard where wanted."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import write_atomically

NAME = "training_log.csv"
COLUMNS = ("step", "loss", "gradient_norm", "learning_rate", "images_per_second", "memory_gib")


class TrainingLog:
    """One line per interval of steps; use as a context manager.

    `memory_gib` is the most that a graphics card had in use, or what the process holds on a processor.

    Parameters
    ----------
    folder : path
        Gets training_log.csv, and tensorboard/ where wanted.
    step : int
        Where the training goes on: lines of later steps, written before it was killed, are dropped.
    tensorboard : bool

    Raises
    ------
    InputError
        If TensorBoard is wanted and not installed.
    """

    def __init__(self, folder: str | os.PathLike[str], step: int, *, tensorboard: bool = False) -> None:
        path = Path(folder) / NAME
        kept = [line for line in read_log(folder) if line["step"] <= step]
        write_atomically(path, lambda file: file.write(_lines(COLUMNS, *([line[c] for c in COLUMNS] for line in kept))))
        self._writer = _tensorboard_writer(Path(folder) / "tensorboard", step) if tensorboard else None
        self._file = path.open("ab", buffering=0)

    def write(self, **values: float) -> None:
        """Add the values of one interval: `COLUMNS`."""
        self._file.write(_lines([values[c] if c == "step" else f"{values[c]:.6g}" for c in COLUMNS]))
        if self._writer is not None:
            for name in COLUMNS[1:]:
                self._writer.add_scalar(name, values[name], int(values["step"]))
            self._writer.flush()

    def __enter__(self) -> TrainingLog:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        if self._writer is not None:
            self._writer.close()


def read_log(folder: str | os.PathLike[str]) -> list[dict[str, float]]:
    """Read training_log.csv, one dictionary of `COLUMNS` per line; a line cut off by a kill is left out."""
    path = Path(folder) / NAME
    if not path.exists():
        return []
    lines = []
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                lines.append({c: int(row[c]) if c == "step" else float(row[c]) for c in COLUMNS})
            except (TypeError, ValueError, KeyError):
                continue
    return lines


def _lines(*rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _tensorboard_writer(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError("tensorboard is not installed: pip install 'mcrpy-diffusion[tensorboard]'") from error
    return SummaryWriter(str(folder), purge_step=step + 1)
