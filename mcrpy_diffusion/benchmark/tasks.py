"""The tasks of a benchmark, each in a worker process, and running some of them at a time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from mcrpy_diffusion.benchmark.machine import n_threads
from mcrpy_diffusion.benchmark.plan import METHODS, MODEL_TASK, Plan, unused
from mcrpy_diffusion.benchmark.record import Record
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import make_folder, write_atomically, write_json
from mcrpy_diffusion.io.provenance import check_same, read_provenance
from mcrpy_diffusion.runtime.progress import Progress
from mcrpy_diffusion.settings import GenerationSettings

NOT_IN_A_STRUCTURE = ("methods", "n_samples", "n_samples_of", "clock", "features")  # they change no structure
MAY_BE_UNUSED = (
    "n_training_samples",
    "n_ddim_steps",
    "n_fast_steps",
    "fast_sampler",
    "limit_to",
    "max_iter",
    "training",
    "model",
)
_POLL_SECONDS = 0.5

# `-m` would put the working folder first on sys.path; `-c` does too, where PYTHONSAFEPATH, of Python 3.11, is not set.
_START = (
    "import sys; sys.path[:1] = [folder for folder in sys.path[:1] if folder]; "
    "from mcrpy_diffusion.benchmark.worker import main; sys.exit(main(sys.argv[1]))"
)


def prepare(plan: Plan) -> None:
    """Make the folder and what the tasks read.

    Raises
    ------
    InputError
        If the folder is one of other settings, or a record or a structure in it is damaged.
    """
    make_folder(plan.folder)
    check_or_write_settings(plan)
    for task in (MODEL_TASK, *plan.settings.methods):
        Record(plan.record(task))
    for method in plan.settings.methods:
        plan.structures(method)
    write_atomically(plan.folder / "training_part.npy", lambda f: np.save(f, plan.training_part, allow_pickle=False))


def check_or_write_settings(plan: Plan) -> None:
    """Write what determines the structures of a folder to made_by.json; refuse a folder of other settings.

    Settings that have no effect on these methods are neither written nor compared, so that a later command with other
    methods is free to choose them.
    """
    path, without_effect = plan.folder / "made_by.json", {*NOT_IN_A_STRUCTURE, *unused(plan)}
    provenance = {**plan.settings.to_dict(), **plan.fast, "reference_sha256": list(plan.reference.sha256)}
    provenance |= {"training": plan.training.identity(), "model": None if plan.model is None else _sha256(plan.model)}
    provenance = {key: value for key, value in provenance.items() if key not in without_effect}
    old = read_provenance(path) if path.exists() else {}
    added = {key: value for key, value in provenance.items() if key not in old and (not old or key in MAY_BE_UNUSED)}
    check_same({key: value for key, value in old.items() if key not in without_effect} | added, provenance, path)
    if added:
        write_json(path, old | added)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Refuse a folder that another benchmark is writing to."""
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"{folder} is being written by another benchmark; wait for it, or give another --out"
        ) from None
    try:
        yield
    finally:
        lock.release()


def tasks_of(plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the task of each worker by its name: first the model, last the methods that wait for it."""
    settings = plan.settings
    tasks: dict[str, dict[str, Any]] = {}
    if plan.model is None and plan.samples_a_model:
        tasks[MODEL_TASK] = {
            "kind": "model",
            "reference": os.path.abspath(plan.reference.micrographs[0].path),
            "generation": plan.generation.to_dict(),
            "training": plan.training.to_dict(),
        }
    for name in sorted(settings.methods, key=lambda m: METHODS[m].is_diffusion):
        method = METHODS[name]
        tasks[name] = {"seeds": list(plan.seeds(name)), "extent": list(settings.extent)}
        tasks[name] |= {"n_phases": plan.reference.n_phases}
        if method.is_diffusion:
            tasks[name] |= {"kind": "diffusion", "model": str(plan.model_path)}
            tasks[name] |= {"sampling": plan.sampling(name).to_dict()}
        else:
            generation = GenerationSettings(
                extent_x=settings.extent_x,
                extent_y=settings.extent_y,
                training_data="descriptors",
                use_multiphase=settings.use_multiphase,
                isotropic=settings.isotropic,
                descriptor_types=method.descriptor_types,
                optimizer_type=method.optimizer_type,
                loss_type=method.loss_type,
                limit_to=None if name == "gram" else settings.limit_to,  # VGG-19 sees nothing in a few pixels
                max_iter=settings.max_iter,
            )
            tasks[name] |= {"kind": "mcrpy", "generation": generation.to_dict(), "accelerated": method.accelerated}
            tasks[name] |= {"training_part": str(plan.folder / "training_part.npy")}
    for name, task in tasks.items():
        task |= {"folder": str(plan.folder / name), "record": str(plan.record(name)), "n_jobs": plan.n_jobs}
    return tasks


def run_tasks(plan: Plan) -> dict[str, str]:
    """Run the workers, `n_jobs` at a time; return the reason of each failure by task."""
    tasks = tasks_of(plan)
    stop = threading.Event()
    total = sum(plan.settings.number_of(method) for method in plan.settings.methods)
    with ThreadPoolExecutor(plan.n_jobs) as pool, Progress(total, "benchmark", unit="structure") as bar:
        futures: dict[str, Future[str]] = {}
        for name, task in tasks.items():
            model = futures.get(MODEL_TASK) if task["kind"] == "diffusion" else None
            futures[name] = pool.submit(_run, plan, name, task, model, stop)
        try:
            while not all(future.done() for future in futures.values()):
                time.sleep(_POLL_SECONDS)
                running = ", ".join(name for name, future in futures.items() if future.running())
                bar.update(max(_n_made(plan) - bar.done, 0), at_work=running)
        except BaseException:
            stop.set()
            raise
        bar.update(_n_made(plan) - bar.done)
    return {name: reason for name, future in futures.items() if (reason := future.result())}


def _n_made(plan: Plan) -> int:
    return sum(len(plan.structure_folder(method).present()) for method in plan.settings.methods)


def _run(plan: Plan, name: str, task: dict[str, Any], model: Future[str] | None, stop: threading.Event) -> str:
    """Run one worker, after that of the model if it needs one; return the reason if it failed, else nothing."""
    if model is not None and model.result():
        return f"there is no model: {model.result()}"
    if stop.is_set():
        return "stopped"
    task_file, log = plan.folder / f"{name}.task.json", plan.folder / f"{name}.log"
    write_json(task_file, task)
    command = worker_command(task_file)
    environment = worker_environment(plan.n_jobs, hide_gpus=task["kind"] == "mcrpy")
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment)
        while process.poll() is None:
            if stop.wait(_POLL_SECONDS / 2):
                process.terminate()
                process.wait()
    if process.returncode == 0 or stop.is_set():
        return ""
    return _reason(process.returncode, log.read_text(errors="replace"))


def worker_command(task_file: Path) -> list[str]:
    """Return what starts a worker: nothing is imported from the working folder, unless PYTHONPATH names it."""
    return [sys.executable, "-c", _START, str(task_file)]


def worker_environment(n_jobs: int, *, hide_gpus: bool) -> dict[str, str]:
    """Return a worker's environment: as many threads as OMP_NUM_THREADS says, else an equal share of the cores."""
    from mcrpy_diffusion.mcrpy_bridge.environment import variables

    environment = {**os.environ}
    threads = n_threads(n_jobs)
    for key, value in variables(threads=threads, hide_gpus=hide_gpus).items():
        environment.setdefault(key, value)
    environment.setdefault("MKL_NUM_THREADS", str(threads))
    environment.setdefault("PYTHONSAFEPATH", "1")  # for the processes that the worker starts
    return environment


def _reason(status: int, log: str) -> str:
    """Say in one line why a worker failed: the last line it wrote."""
    if status < 0:
        return f"it was ended by signal {-status}" + (", as for want of memory" if status == -9 else "")
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return (lines[-1] if lines else f"exit status {status}").removeprefix("error: ")[:300]
