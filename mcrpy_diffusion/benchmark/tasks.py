"""The workers of a benchmark: what each is told, and running them, some at a time."""

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

from mcrpy_diffusion.benchmark.machine import n_threads
from mcrpy_diffusion.benchmark.plan import METHODS, MODEL_TASK, Plan, unused
from mcrpy_diffusion.benchmark.worker import Record
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import make_folder, write_atomically, write_json
from mcrpy_diffusion.io.provenance import check_same, read_provenance
from mcrpy_diffusion.runtime.progress import Progress
from mcrpy_diffusion.settings import GenerationSettings

NOT_IN_A_STRUCTURE = ("methods", "n_samples", "n_samples_of", "clock", "features")  # settings that leave them alone
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
    """Make the folder and what the tasks read; refuse a folder of other settings, or with a damaged record."""
    make_folder(plan.folder)
    keep_made_by(plan)
    for task in (MODEL_TASK, *plan.settings.methods):
        Record(plan.record(task))  # its costs are read last of all: hours later it would be too late
    write_atomically(plan.folder / "training_part.npy", lambda f: np.save(f, plan.training_part, allow_pickle=False))


def keep_made_by(plan: Plan) -> None:
    """Write what the structures of a folder are made by, in made_by.json; refuse a folder of other settings.

    What this command has no use for is neither written nor compared, so that a later one, of other methods, is free in
    it; what an earlier one had no use for is added.
    """
    path, without_use = plan.folder / "made_by.json", {*NOT_IN_A_STRUCTURE, *unused(plan)}
    made_by = {**plan.settings.to_dict(), **plan.fast, "reference_sha256": list(plan.reference.sha256)}
    made_by |= {"training": plan.training.identity(), "model": None if plan.model is None else _sha256(plan.model)}
    made_by = {key: value for key, value in made_by.items() if key not in without_use}
    there = read_provenance(path) if path.exists() else {}
    added = {key: value for key, value in made_by.items() if key not in there and (not there or key in MAY_BE_UNUSED)}
    check_same({key: value for key, value in there.items() if key not in without_use} | added, made_by, path)
    if added:
        write_json(path, there | added)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Refuse a folder that another benchmark is writing to, where there are locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (folder / ".lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"{folder} is being written by another benchmark; wait for it, or give another --out"
            ) from None
        except OSError:  # some network file systems have no locks
            pass
        yield


def tasks_of(plan: Plan) -> dict[str, dict[str, Any]]:
    """Return what each worker is told, by task: first the model, last the methods that wait for it."""
    settings = plan.settings
    tasks: dict[str, dict[str, Any]] = {}
    chosen = sorted(settings.methods, key=lambda m: METHODS[m].is_diffusion)
    if plan.model is None and any(METHODS[m].is_diffusion for m in chosen):
        tasks[MODEL_TASK] = {
            "kind": "model",
            "reference": os.path.abspath(plan.reference.micrographs[0].path),
            "generation": plan.generation.to_dict(),
            "training": plan.training.to_dict(),
            "folder": str(plan.folder / MODEL_TASK),
        }
    for name in chosen:
        method = METHODS[name]
        seeds = range(settings.seed, settings.seed + settings.number_of(name))
        tasks[name] = {"folder": str(plan.folder / name), "seeds": list(seeds)}
        tasks[name] |= {"extent": list(settings.extent), "n_phases": plan.reference.n_phases}
        if method.is_diffusion:
            sampling = plan.sampling(name).to_dict()
            tasks[name] |= {"kind": "diffusion", "model": str(plan.model_path), "sampling": sampling}
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
                limit_to=None if name == "gram" else settings.limit_to,  # of a few pixels its network sees nothing
                max_iter=settings.max_iter,
            )
            tasks[name] |= {"kind": "mcrpy", "generation": generation.to_dict(), "accelerated": method.accelerated}
            tasks[name] |= {"training_part": str(plan.folder / "training_part.npy")}
    return {name: {**task, "record": str(plan.record(name)), "n_jobs": plan.n_jobs} for name, task in tasks.items()}


def run_tasks(plan: Plan) -> dict[str, str]:
    """Run the workers, `n_jobs` at a time; return why which of them failed."""
    tasks = tasks_of(plan)
    failures: dict[str, str] = {}
    stop = threading.Event()
    total = sum(plan.settings.number_of(method) for method in plan.settings.methods)
    with ThreadPoolExecutor(plan.n_jobs) as pool, Progress(total, "benchmark", unit="structure") as bar:
        futures: dict[str, Future[str]] = {}
        for name, task in tasks.items():
            before = futures.get(MODEL_TASK) if task["kind"] == "diffusion" else None
            futures[name] = pool.submit(_run, plan, name, task, before, stop)
        try:
            while not all(future.done() for future in futures.values()):
                time.sleep(_POLL_SECONDS)
                bar.update(
                    max(_n_made(plan) - bar.done, 0), at_work=", ".join(n for n in tasks if futures[n].running())
                )
        except BaseException:
            stop.set()
            raise
        bar.update(_n_made(plan) - bar.done)
    for name, future in futures.items():
        if reason := future.result():
            failures[name] = reason
    return failures


def _n_made(plan: Plan) -> int:
    of_each = ((plan.folder / m, plan.settings.number_of(m)) for m in plan.settings.methods)
    return sum(min(len(list(folder.glob("*.npy"))), n) for folder, n in of_each)


def _run(plan: Plan, name: str, task: dict[str, Any], before: Future[str] | None, stop: threading.Event) -> str:
    """Run one worker; return why it failed, or nothing."""
    if before is not None and before.result():
        return f"there is no model: {before.result()}"
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
