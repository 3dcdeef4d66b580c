"""One method of the benchmark in a process of its own, so that its time and memory are its alone.

Started by `tasks.worker_command` with TASK.json. Each structure and its cost are written at once, so that the same task
continues where a kill stopped it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.benchmark.machine import measured_on
from mcrpy_diffusion.benchmark.record import Record, clocks
from mcrpy_diffusion.runtime.console import run
from mcrpy_diffusion.runtime.memory import peak_memory

Maker = Callable[[Sequence[int]], Iterable[np.ndarray]]


def main(path: str) -> int:
    """Do a task; return the exit status, as every command does."""
    _end_with_parent()
    task = json.loads(Path(path).read_text())
    return run(lambda: make_model(task) if task["kind"] == "model" else make_structures(task))


def make_structures(task: Mapping[str, Any]) -> None:
    """Make the structures of a method that are missing.

    Parameters
    ----------
    task : mapping
        `folder` of the files <seed>.npy; `record`, the .jsonl file; `seeds`; `extent`; `n_phases`; `n_jobs`; `kind`,
        and what that needs.
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
        before = clocks()
        structures = make(chosen)
        cost = {key: (value - before[key]) / len(chosen) for key, value in clocks().items()}
        for seed, structure in zip(chosen, structures, strict=True):
            files.write(seed, structure)
            record.write(seed=seed, first=start == 0 and batch_size == 1, peak_memory=peak_memory(), **cost)


def make_model(task: Mapping[str, Any]) -> None:
    """Make the training data and train on them, or continue where that stopped."""
    from mcrpy_diffusion.materials.generate import generate
    from mcrpy_diffusion.materials.reference import reference_from_micrographs
    from mcrpy_diffusion.settings import GenerationSettings, TrainingSettings
    from mcrpy_diffusion.training.train import MODEL_NAME, read_dataset, train

    record, folder = Record(task["record"]), Path(task["folder"])
    if (folder / MODEL_NAME).exists():
        return
    generation = GenerationSettings.from_dict(task["generation"])
    reference = reference_from_micrographs([task["reference"]], {"use_multiphase": generation.use_multiphase})
    dataset, n_steps = folder / "training_data", 0

    def count_step(*_: Any) -> None:
        nonlocal n_steps
        n_steps += 1

    _write_setup(record, task)
    with record.recording("data", lambda: len(list(dataset.glob("samples/*.npy")))):
        generate(generation, reference, dataset, n_jobs=1)
    with record.recording("training", lambda: n_steps):
        train(read_dataset(dataset), TrainingSettings.from_dict(task["training"]), folder, on_step=count_step)


def _write_setup(record: Record, task: Mapping[str, Any]) -> None:
    """Record what the start of this process took, before its work begins, and what it runs on."""
    import psutil

    seconds = time.time() - psutil.Process().create_time()
    found = measured_on(task["n_jobs"], with_torch=task["kind"] != "mcrpy")
    record.write(setup=True, seconds=seconds, cpu_seconds=clocks()["cpu_seconds"], **found)


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


def _end_with_parent() -> None:
    """End this process when the one that started it ends: that closes the pipe to our standard input."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
