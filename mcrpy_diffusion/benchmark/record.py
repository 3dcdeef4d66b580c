"""What the tasks of a benchmark cost: measured in the worker, a line of a .jsonl file for each structure and stage."""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mcrpy_diffusion.benchmark.machine import is_measured_on
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import write_atomically
from mcrpy_diffusion.runtime.memory import peak_memory

RECORD_EVERY_SECONDS = 10.0  # of the training of a model and its data: a kill loses no more
UNITS = {"data": "samples", "training": "steps"}  # what each of these stages counts


class Record:
    """The lines of a .jsonl file: what each structure, each start of the process and each stage of a training cost.

    Parameters
    ----------
    path : path
        An incomplete last line, of a process that was killed, is dropped when the next one is written.

    Raises
    ------
    InputError
        If a complete line was not written by this class.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        content = self.path.read_bytes() if self.path.exists() else b""
        self._complete = content[: content.rfind(b"\n") + 1]
        self._is_torn = len(self._complete) < len(content)
        try:
            self.lines: list[dict[str, Any]] = [dict(json.loads(line)) for line in self._complete.splitlines()]
            is_valid = all(map(_is_line, self.lines))
        except (ValueError, TypeError, RecursionError, OverflowError):
            is_valid = False
        if not is_valid:
            raise InputError(f"{self.path} is damaged; delete it, and its structures are made again")

    @property
    def seeds(self) -> dict[int, dict[str, Any]]:
        """Seed -> line of each structure; the last one, where it was made twice."""
        return {line["seed"]: line for line in self.lines if "seed" in line}

    @property
    def starts(self) -> list[dict[str, Any]]:
        """The line of each start of the process."""
        return [line for line in self.lines if "setup" in line]

    def stage(self, name: str) -> list[dict[str, Any]]:
        """The lines of a stage, data or training."""
        return [line for line in self.lines if line.get("stage") == name]

    def write(self, **line: Any) -> None:
        """Add a line."""
        if self._is_torn:
            write_atomically(self.path, lambda file: file.write(self._complete))
            self._is_torn = False
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.lines.append(line)

    @contextlib.contextmanager
    def recording(self, stage: str, count: Callable[[], int]) -> Iterator[None]:
        """Write a line of a stage every few seconds and at its end: what it took since the line before.

        Parameters
        ----------
        stage : str
            data or training.
        count : callable
            Returns how many samples or steps are done.
        """
        ended = threading.Event()
        last = {**clocks(with_children=True), UNITS[stage]: count()}

        def write() -> None:
            nonlocal last
            before, last = last, {**clocks(with_children=True), UNITS[stage]: count()}
            since = {key: value - before[key] for key, value in last.items()}
            self.write(stage=stage, peak_memory=peak_memory(), **since)

        def write_repeatedly() -> None:
            while not ended.wait(RECORD_EVERY_SECONDS):
                write()

        writer = threading.Thread(target=write_repeatedly, daemon=True)
        writer.start()
        try:
            yield
        finally:
            ended.set()
            writer.join()
            write()


def _is_line(line: Mapping[str, Any]) -> bool:
    """Whether a line holds everything that is read of its kind."""
    numbers = ["seconds", "cpu_seconds"]
    if "seed" in line:
        numbers += ["peak_memory"]
        is_known = type(line["seed"]) is int and type(line.get("first")) is bool
    elif "stage" in line:
        is_known = line["stage"] in UNITS
        numbers += ["peak_memory", *([UNITS[line["stage"]]] if is_known else [])]
    else:
        is_known = line.get("setup") is True and is_measured_on(line)
    return is_known and all(isinstance(line.get(name), (int, float)) and math.isfinite(line[name]) for name in numbers)


def clocks(*, with_children: bool = False) -> dict[str, float]:
    """Return `seconds` of the wall clock and `cpu_seconds` of this process and of the children that it waited for.

    Parameters
    ----------
    with_children : bool
        Count the children that are still running, too.
    """
    import psutil

    while True:
        ended, running = os.times()[2:4], 0.0
        for process in psutil.Process().children(recursive=True) if with_children else ():
            with contextlib.suppress(psutil.Error):
                running += sum(process.cpu_times()[:4])
        now = os.times()
        if now[2:4] == ended:  # else a child has ended meanwhile and may have been counted twice, or not at all
            return {"seconds": time.perf_counter(), "cpu_seconds": sum(now[:4]) + running}
