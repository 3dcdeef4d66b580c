"""One method of the benchmark in a process of its own, so that its time and memory are its alone.

Started by `tasks.worker_command` with TASK.json. Each structure is written as it comes, and what it
cost as a line of a .jsonl file, so that the same task goes on where a kill stopped it. The making of the model writes
such a line every few seconds.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.benchmark.machine import is_measured_on, measured_on
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import write_atomically
from mcrpy_diffusion.runtime.console import run
from mcrpy_diffusion.runtime.memory import peak_memory

RECORD_EVERY_SECONDS = 10.0  # of the making of a model: a kill loses no more than that

Maker = Callable[[Sequence[int]], Iterable[np.ndarray]]


def main(path: str) -> int:
    """Do a task; return the exit status, as every command does."""
    _end_with_parent()
    task = json.loads(Path(path).read_text())
    return run(lambda: make_model(task) if task["kind"] == "model" else make_structures(task))


def make_structures(task: Mapping[str, Any]) -> None:
    """Make the structures of a method that are not there yet.

    Parameters
    ----------
    task : mapping
        `folder` for <seed>.npy; `record`, the .jsonl file; `seeds`; `kind`, and what that needs.
    """
    from mcrpy_diffusion.models.structure_folder import StructureFolder

    folder, record = Path(task["folder"]), Record(task["record"])
    folder.mkdir(parents=True, exist_ok=True)
    files = StructureFolder.by_seed(folder, task["seeds"], tuple(task["extent"]), task["n_phases"])
    missing = sorted({*files.missing(), *(seed for seed in task["seeds"] if seed not in record.seeds)})
    if not missing:
        return
    make, batch_size = {"mcrpy": _mcrpy, "diffusion": _diffusion}[task["kind"]](task)
    _write_setup(record, task)
    for start in range(0, len(missing), batch_size):
        chosen = missing[start : start + batch_size]
        with Stopwatch() as watch:
            structures = make(chosen)
        cost = {key: value / len(chosen) for key, value in watch.seconds.items()}
        for seed, structure in zip(chosen, structures, strict=True):
            files.write(seed, structure)
            record.write(seed=seed, first=start == 0 and batch_size == 1, peak_memory=peak_memory(), **cost)


def make_model(task: Mapping[str, Any]) -> None:
    """Make the training data and train on them, or go on where that stopped."""
    from mcrpy_diffusion.materials.generate import generate
    from mcrpy_diffusion.materials.reference import reference_from_micrographs
    from mcrpy_diffusion.settings import GenerationSettings, TrainingSettings
    from mcrpy_diffusion.training.train import MODEL_NAME, read_dataset, train

    record, folder = Record(task["record"]), Path(task["folder"])
    if (folder / MODEL_NAME).exists():
        return
    generation = GenerationSettings.from_dict(task["generation"])
    reference = reference_from_micrographs([task["reference"]], {"use_multiphase": generation.use_multiphase})
    samples, steps = folder / "training_data", [0]
    _write_setup(record, task)
    with Stage(record, "data", "samples", lambda: len(list(samples.glob("samples/*.npy")))):
        dataset = generate(generation, reference, samples, n_jobs=1)

    def count(*_: Any) -> None:
        steps[0] += 1

    with Stage(record, "training", "steps", lambda: steps[0]):
        train(read_dataset(dataset), TrainingSettings.from_dict(task["training"]), folder, on_step=count)


def _write_setup(record: Record, task: Mapping[str, Any]) -> None:
    """Record what this process took until now, before its work begins, and what it runs on."""
    seconds = dict(zip(("seconds", "cpu_seconds"), _since_program_start()))
    found = measured_on(task.get("n_jobs", 1), with_torch=task["kind"] != "mcrpy")
    record.write(setup=True, **seconds, **found)


def _mcrpy(task: Mapping[str, Any]) -> tuple[Maker, int]:
    """Prepare MCRpy, without PyTorch, which its users do not load."""
    from mcrpy_diffusion.mcrpy_bridge.plain_reconstruction import accelerated_maker, plain_maker
    from mcrpy_diffusion.settings import GenerationSettings

    phases = np.load(task["training_part"], allow_pickle=False)
    maker = accelerated_maker if task["accelerated"] else plain_maker
    make = maker(phases, GenerationSettings.from_dict(task["generation"]))
    return lambda seeds: [make(seed) for seed in seeds], 1


def _diffusion(task: Mapping[str, Any]) -> tuple[Maker, int]:
    from mcrpy_diffusion.models.model import load_model
    from mcrpy_diffusion.settings import SamplingSettings

    model, settings, extent = load_model(task["model"]), SamplingSettings.from_dict(task["sampling"]), task["extent"]

    def make(seeds: Sequence[int]) -> np.ndarray:
        return np.concatenate([phases for _, phases in model.batches(seeds, settings, tuple(extent))])

    return make, settings.batch_size


class Record:
    """The lines of a .jsonl file: what each structure cost, each start of the process, each stage of a training.

    Parameters
    ----------
    path : path
        A torn last line, of a process that was killed, is dropped when the next one is written.

    Raises
    ------
    InputError
        If a whole line is none that this class wrote.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._whole = self.path.read_bytes() if self.path.exists() else b""
        end = self._whole.rfind(b"\n") + 1
        self._is_torn, self._whole = end < len(self._whole), self._whole[:end]
        try:
            self.lines: list[dict[str, Any]] = [dict(json.loads(line)) for line in self._whole.splitlines()]
            is_whole = all(map(_is_line, self.lines))
        except (ValueError, TypeError, RecursionError, OverflowError):
            is_whole = False
        if not is_whole:
            raise InputError(f"{self.path} is damaged; delete it, its structures are made anew")

    @property
    def seeds(self) -> dict[int, dict[str, Any]]:
        """Seed -> line of each structure; the last one, where it was made twice."""
        return {line["seed"]: line for line in self.lines if "seed" in line}

    def write(self, **line: Any) -> None:
        """Add a line."""
        if self._is_torn:
            write_atomically(self.path, lambda file: file.write(self._whole))
            self._is_torn = False
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.lines.append(line)


def _is_line(line: Mapping[str, Any]) -> bool:
    """Whether a line has what is read of it: by its kind, seconds, memory, and what a structure or a stage is."""
    numbers = ["seconds", "cpu_seconds"]
    if "seed" in line:
        numbers += ["peak_memory"]
        is_known = type(line["seed"]) is int and type(line.get("first")) is bool
    elif "stage" in line:
        numbers += ["peak_memory", *(unit for unit in ("samples", "steps") if unit in line)]
        is_known = line["stage"] in ("data", "training")
    else:
        is_known = line.get("setup") is True and is_measured_on(line)
    return is_known and all(isinstance(line.get(name), (int, float)) and math.isfinite(line[name]) for name in numbers)


class Stopwatch:
    """Measures `seconds` and, of this process and those it waited for, `cpu_seconds`; use as a context manager."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __enter__(self) -> Stopwatch:
        self._started, self._cpu_started = time.perf_counter(), _cpu_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        seconds = time.perf_counter() - self._started
        self.seconds = {"seconds": seconds, "cpu_seconds": _cpu_seconds() - self._cpu_started}


class Stage:
    """Records a stage of the making of a model, a line every few seconds of what came since; use as a context manager.

    Parameters
    ----------
    record : Record
    name : str
        data or training.
    unit : str
        What the stage does one after another: samples or steps.
    count : callable
        Says how many of them are done.
    """

    def __init__(self, record: Record, name: str, unit: str, count: Callable[[], int]) -> None:
        self._record, self._name, self._unit, self._count = record, name, unit, count
        self._ended = threading.Event()
        self._writer = threading.Thread(target=self._write_now_and_then, daemon=True)

    def __enter__(self) -> Stage:
        self._last = self._now()
        self._writer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._writer.join()
        self._write()

    def _write_now_and_then(self) -> None:
        while not self._ended.wait(RECORD_EVERY_SECONDS):
            self._write()

    def _write(self) -> None:
        last, self._last = self._last, self._now()
        since = {key: value - last[key] for key, value in self._last.items()}
        self._record.write(stage=self._name, peak_memory=peak_memory(), **since)

    def _now(self) -> dict[str, float]:
        found = {"seconds": time.perf_counter(), "cpu_seconds": _cpu_seconds_of_all()}
        return found | {self._unit: self._count()}


def _cpu_seconds() -> float:
    return sum(os.times()[:4])


def _cpu_seconds_of_all() -> float:
    """Return those of this process and of all that it started, whether they ended or not."""
    import psutil

    while True:
        ended = os.times()[2:4]
        running = 0.0
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                running += sum(process.cpu_times()[:4])
        now = os.times()
        if now[2:4] == ended:  # else one may have been counted twice, or not at all
            return sum(now[:4]) + running


def _since_program_start() -> tuple[float, float]:
    import psutil

    return time.time() - psutil.Process().create_time(), _cpu_seconds()


def _end_with_parent() -> None:
    """End this process once the one that started it is gone: its pipe to our standard input then closes."""

    def watch() -> None:
        for _ in _until_closed():
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _until_closed() -> Iterator[bytes]:
    while block := os.read(sys.stdin.fileno(), 1024):
        yield block


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
