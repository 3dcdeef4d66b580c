"""Stage 2: a data set of microstructures -> a checkpoint. Running it again resumes."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from mcrpy_diffusion.diffusion.conditioning import condition_table
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.provenance import check_same, package_versions
from mcrpy_diffusion.models.checkpoint import ModelInfo, read_info, save_model
from mcrpy_diffusion.runtime import frameworks
from mcrpy_diffusion.runtime.memory import advice_when_out_of_memory
from mcrpy_diffusion.runtime.parallel import make_accelerator
from mcrpy_diffusion.runtime.progress import Progress
from mcrpy_diffusion.settings import TrainingSettings
from mcrpy_diffusion.training.data import TrainingData, all_volume_fractions, read_dataset
from mcrpy_diffusion.training.log import TrainingLog
from mcrpy_diffusion.training.run import HISTORY_EVERY, TrainingRun, identity, memory_advice
from mcrpy_diffusion.training.state import latest, read_history, states, write_state

__all__ = ["TrainingData", "identity", "read_dataset", "read_history", "train"]

log = logging.getLogger(__name__)

MODEL_NAME = "model.safetensors"


def train(
    data: TrainingData,
    settings: TrainingSettings,
    folder: str | os.PathLike[str],
    *,
    device: str | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Path:
    """Train a diffusion model, or go on where an earlier call stopped.

    Started by torchrun, several processes share each batch; the loss is that of one process up to rounding.

    Parameters
    ----------
    data : TrainingData
    settings : TrainingSettings
    folder : path
        Gets model.safetensors at the end; on the way checkpoints/step_<n>.pt, training_log.csv (see `TrainingLog`),
        and where wanted previews/<n>.png and tensorboard/.
    device : str, optional
        "cuda" or "cpu"; the first where there is one.
    on_step : callable, optional
        Called with (step, loss) after each step.

    Returns
    -------
    Path
        The model.

    Raises
    ------
    InputError
        If the extent does not fit the network, the batch cannot be shared evenly, the folder holds a model or a state
        of other settings or data, or the memory does not suffice.
    FloatingPointError
        If the loss is no longer finite.
    KeyboardInterrupt
        After the state was saved, at Ctrl-C or SIGTERM.
    """
    frameworks.before_torch()
    folder = Path(folder)
    extent = (int(data.phases.shape[1]), int(data.phases.shape[2]))
    settings.check_extent(extent)
    if settings.prediction == "log_odds" and data.n_phases == 0:
        raise InputError("prediction must be one of epsilon, v, x_0 for grey values, got 'log_odds'")
    fractions = all_volume_fractions(data)
    info = ModelInfo(
        settings=settings,
        n_phases=data.n_phases,
        extent=extent,
        periodic=data.periodic,
        isotropic=data.isotropic,
        conditions=condition_table(fractions) if settings.condition_on_volume_fraction else [],
        provenance=data.provenance,
        versions=package_versions("torch", "numpy"),
        pixel_size=data.pixel_size,
    )
    model_path = folder / MODEL_NAME
    if model_path.exists():
        check_same(identity(read_info(model_path)), identity(info), model_path)
        return model_path
    with advice_when_out_of_memory(lambda: memory_advice(settings)):
        run = TrainingRun(data, info, make_accelerator(device), fractions)
        found = latest(folder)
        if found is not None:
            run.load_state(*found)
            log.info("training goes on at step %d of %d", run.step, settings.n_training_steps)
        loop(run, folder, on_step)
    if run.is_main:
        save_model(model_path, run.ema.weights, replace(info, step=run.step, training_seconds=round(run.seconds, 1)))
    run.accelerator.wait_for_everyone()
    return model_path


def loop(run: TrainingRun, folder: Path, on_step: Callable[[int, float], None] | None) -> None:
    """Do the steps that are left; save, report and draw from time to time, and save when asked to stop."""
    settings = run.info.settings
    log_file = TrainingLog(folder, run.step, tensorboard=settings.tensorboard) if run.is_main else None
    with (
        stop_requests() as stop,
        Progress(settings.n_training_steps, "training", initial=run.step, unit="step", silent=not run.is_main) as bar,
        log_file or contextlib.nullcontext(),
    ):
        saved = reported = time.monotonic()
        while run.step < settings.n_training_steps:
            loss, stopping = run.do_step(stop.is_set())
            if not math.isfinite(loss):
                raise FloatingPointError(not_finite(loss, run, folder))
            bar.update(1, loss=f"{run.mean_loss():.4f}")
            if on_step is not None:
                on_step(run.step, loss)
            if log_file is not None and run.step % HISTORY_EVERY == 0:
                now = time.monotonic()
                log_file.write(**run.facts(now - reported))
                reported = now
            if settings.preview_steps and run.step % settings.preview_steps == 0 and run.is_main:
                run.draw(folder / "previews")
            due = time.monotonic() - saved > settings.checkpoint_seconds
            due = due or bool(settings.checkpoint_steps and run.step % settings.checkpoint_steps == 0)
            if run.is_main and (due or stopping or run.step == settings.n_training_steps):
                write_state(folder, run.state(), keep=settings.keep_checkpoints)
                saved = time.monotonic()
            if stopping:
                run.accelerator.wait_for_everyone()
                raise KeyboardInterrupt


def not_finite(loss: float, run: TrainingRun, folder: Path) -> str:
    """Say where a training broke off, and what may help."""
    found = states(folder)
    last = f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"
    return (
        f"the loss is {loss} at step {run.step + 1}; {last}: try a smaller learning_rate, a smaller gradient_clip or "
        "precision float32, in another folder"
    )


@contextlib.contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event, so that a step is finished before the state is saved.

    Outside the main thread, where Python allows no handlers, the event is never set.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    old = {s: signal.signal(s, lambda *_: stop.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
