"""Stage 2: a data set of microstructures -> a checkpoint. Running it again resumes."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mcrpy_diffusion.data.augmentation import augment
from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.data.phase_encoding import encode, n_channels, volume_fractions
from mcrpy_diffusion.diffusion.conditioning import condition_table, normalise
from mcrpy_diffusion.diffusion.ema import ExponentialMovingAverage
from mcrpy_diffusion.diffusion.losses import hybrid_loss, likelihood_loss, simple_loss, velocity_loss
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule, Prediction
from mcrpy_diffusion.diffusion.precision import autocast, use_bfloat16
from mcrpy_diffusion.diffusion.self_conditioning import estimate_of
from mcrpy_diffusion.errors import InputError, one_line
from mcrpy_diffusion.io.provenance import check_same, package_versions
from mcrpy_diffusion.models.checkpoint import ModelInfo, build_network, read_info, save_model
from mcrpy_diffusion.runtime import frameworks
from mcrpy_diffusion.runtime.memory import GIB, advice_when_out_of_memory, available_memory, training_memory
from mcrpy_diffusion.runtime.parallel import make_accelerator
from mcrpy_diffusion.runtime.progress import Progress
from mcrpy_diffusion.settings import TrainingSettings
from mcrpy_diffusion.training.log import TrainingLog
from mcrpy_diffusion.training.preview import write_preview
from mcrpy_diffusion.training.state import latest, read_history, states, write_state

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["TrainingData", "read_dataset", "read_history", "train"]

log = logging.getLogger(__name__)

MODEL_NAME = "model.safetensors"
HISTORY_EVERY = 10
CHUNK = 4096  # images looked at at once, where all are looked at


@dataclass(frozen=True)
class TrainingData:
    """Images to train on and what is known of them.

    `phases` (N, I, J) is an array, or anything with `shape` that gives arrays for arrays of indices.
    """

    phases: Any
    n_phases: int
    periodic: bool
    isotropic: bool
    provenance: dict[str, Any]


def read_dataset(folder: str | os.PathLike[str]) -> TrainingData:
    """Load a complete data set.

    Raises
    ------
    InputError
        If the folder is no data set, or its generation has not finished.
    """
    dataset = Dataset.open(folder)
    if not dataset.is_complete:
        raise InputError(f"{folder}: {dataset.n_accepted} samples, not complete; run its generation again to go on")
    recipe = dataset.info["recipe"]
    n_phases = recipe.get("n_phases", 2)
    if not isinstance(n_phases, int):
        raise InputError(f"{folder}: n_phases in dataset.json is {n_phases!r}; allowed is a whole number")
    n_channels(n_phases)  # allowed, or InputError
    flags = {k: bool(recipe.get(k, False)) for k in ("periodic", "isotropic")}
    return TrainingData(dataset.images(), n_phases, **flags, provenance=recipe)


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
        raise InputError("prediction is 'log_odds', which grey values do not have; allowed are epsilon, v, x_0")
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
    with (
        stop_requests() as stop,
        Progress(settings.n_training_steps, "training", initial=run.step, unit="step", silent=not run.is_main) as bar,
        TrainingLog(folder, run.step, tensorboard=settings.tensorboard) if run.is_main else _nothing() as report,
    ):
        saved = reported = time.monotonic()
        while run.step < settings.n_training_steps:
            loss, stopping = run.do_step(stop.is_set())
            if not math.isfinite(loss):
                raise FloatingPointError(not_finite(loss, run, folder))
            bar.update(1, loss=f"{run.mean_loss():.4f}")
            if on_step is not None:
                on_step(run.step, loss)
            if report is not None and run.step % HISTORY_EVERY == 0:
                now = time.monotonic()
                report.write(**run.facts(now - reported))
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


class TrainingRun:
    """Network, optimiser and average of one run, and the step they have reached.

    The random numbers of step n come from (seed, n) alone: nothing random has to be stored. Every process draws those
    of the whole batch and takes its share.

    Parameters
    ----------
    data : TrainingData
    info : ModelInfo
    accelerator : accelerate.Accelerator
    fractions : (N, C)
        Volume fractions of the images.
    """

    def __init__(self, data: TrainingData, info: ModelInfo, accelerator: Accelerator, fractions: np.ndarray) -> None:
        settings = info.settings
        self.info, self.accelerator, self.device = info, accelerator, accelerator.device
        self.is_main = bool(accelerator.is_main_process)
        self.parts = share_of_batch(settings, accelerator.num_processes, accelerator.process_index)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = build_network(info)
        self.name_memory(network)
        self.network = network.to(self.device).to(memory_format=torch.channels_last).train()
        self.shared = accelerator.prepare_model(self.network)  # averages the gradients of all processes
        self.predict: Callable[..., Tensor] = torch.compile(self.shared) if settings.compile else self.shared
        self.ema = ExponentialMovingAverage(self.network, settings.ema_decay)
        self.schedule = NoiseSchedule.named(settings.schedule, settings.n_timesteps)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate, fused=True)
        self.images = data.phases
        self.conditions = normalise(torch.from_numpy(fractions), info.conditions)
        self.step, self.seconds = 0, 0.0
        self.history: list[tuple[int, float]] = []
        self._recent: list[float] = []
        self.gradient_norm = math.nan

    def do_step(self, stop: bool = False) -> tuple[float, bool]:
        """Do one optimisation step; return its loss, and whether any process was asked to stop.

        Where the loss or the gradient is not finite, the weights stay as they were and the loss returned is not finite.
        """
        started = time.monotonic()
        settings, seed = self.info.settings, self.info.settings.seed * 1_000_003 + self.step
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):  # dropout knows the global generator alone
            torch.manual_seed(seed + self.accelerator.process_index * 7_919_000_033)
            x_0, noise, t, told, conditions = self.draw_batch(generator)
            loss = torch.zeros((), device=self.device)
            for i, part in enumerate(self.parts):
                last = i + 1 == len(self.parts)
                with contextlib.nullcontext() if last else self.accelerator.no_sync(self.shared):
                    part_conditions = None if conditions is None else conditions[part]
                    part_loss = self.loss(x_0[part], noise[part], t[part], told[part], part_conditions)
                    (part_loss / len(self.parts)).backward()
                loss += part_loss.detach() / len(self.parts)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), settings.gradient_clip)
        value, stopping = self.agree(float(loss), stop)
        self.gradient_norm = float(norm)
        if not math.isfinite(self.gradient_norm):
            value = math.nan
        if not math.isfinite(value):
            return value, stopping
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, settings)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.network)
        self.step += 1
        self._recent.append(value)
        if self.step % HISTORY_EVERY == 0:
            self.history.append((self.step, float(np.mean(self._recent))))
            self._recent = []
        self.seconds += time.monotonic() - started
        return value, stopping

    def agree(self, loss: float, stop: bool) -> tuple[float, bool]:
        """Mean loss of all processes, and whether any was asked to stop."""
        if self.accelerator.num_processes == 1:
            return loss, stop
        mean = self.accelerator.reduce(torch.tensor([loss, float(stop)], device=self.device), "mean")
        return float(mean[0]), bool(mean[1] > 0)

    def draw_batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """Images x_0, noise, times, which are told an estimate, and conditions of the batch, drawn with `generator`."""
        settings = self.info.settings
        chosen = torch.randint(int(self.images.shape[0]), (settings.batch_size,), generator=generator)
        x_0 = torch.as_tensor(encode(torch.from_numpy(self.images[chosen.numpy()]), self.info.n_phases))
        if settings.augmentation:
            x_0 = augment(x_0, periodic=self.info.periodic, isotropic=self.info.isotropic, generator=generator)
        first = settings.first_time(self.schedule)
        t = first + stratified_timesteps(settings.batch_size, settings.n_timesteps - first, generator)
        noise = torch.randn(x_0.shape, generator=generator)
        told = torch.rand(settings.batch_size, generator=generator) < 0.5
        return x_0, noise, t, told, self.conditions[chosen] if settings.condition_on_volume_fraction else None

    def loss(self, x_0: Tensor, noise: Tensor, t: Tensor, told: Tensor, conditions: Tensor | None) -> Tensor:
        """Mean loss of these images: L_hybrid, or without learned variance L_simple (log odds: of v) or L_vlb."""
        settings, schedule = self.info.settings, self.schedule
        prediction = cast(Prediction, settings.prediction)
        x_0, noise = (x.to(self.device, memory_format=torch.channels_last) for x in (x_0, noise))
        t, told = t.to(self.device), told.to(self.device)
        conditions = None if conditions is None else conditions.to(self.device)
        x_t = schedule.add_noise(x_0, noise, t)
        estimate = self.first_estimate(x_t, t, conditions, told) if settings.self_condition else None
        with autocast(settings.precision, self.device):
            output = self.predict(x_t, t, conditions, estimate)
        output = output.float()
        if settings.learned_variance:
            return hybrid_loss(output, x_0, x_t, t, noise, schedule, prediction=prediction).total.mean()
        if prediction == "log_odds" or settings.loss == "likelihood":
            weighted = likelihood_loss if settings.loss == "likelihood" else velocity_loss
            return weighted(schedule.predict_x_0(output, x_t, t, prediction), x_0, t, schedule).mean()
        return simple_loss(output, schedule.target(x_0, noise, t, prediction)).mean()

    def first_estimate(self, x_t: Tensor, t: Tensor, conditions: Tensor | None, told: Tensor) -> Tensor:
        """What the network expects x_0 to be, for the images that shall be told it; 0 for the others.

        In an autocast of its own: some versions of PyTorch keep weights that were cast without a gradient for the rest
        of one (https://github.com/pytorch/pytorch/issues/105211).
        """
        found = torch.zeros_like(x_t)
        if told.any():
            x_t, t = x_t[told].to(memory_format=torch.channels_last), t[told]
            with torch.no_grad(), autocast(self.info.settings.precision, self.device):
                output = self.network(x_t, t, None if conditions is None else conditions[told])
            output = output.float()
            found[told] = estimate_of(output, x_t, t, self.schedule, cast(Prediction, self.info.settings.prediction))
        return found

    def mean_loss(self) -> float:
        """Mean loss of the last few steps."""
        return float(np.mean(self._recent)) if self._recent else self.history[-1][1]

    def facts(self, seconds: float) -> dict[str, float]:
        """A line of the training log, for the `HISTORY_EVERY` steps that took so many seconds."""
        if self.device.type == "cuda":
            memory = float(torch.cuda.max_memory_allocated(self.device))
        else:
            import psutil

            memory = float(psutil.Process().memory_info().rss)
        return {
            "step": self.step,
            "loss": self.history[-1][1],
            "gradient_norm": self.gradient_norm,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "images_per_second": HISTORY_EVERY * self.info.settings.batch_size / seconds,
            "memory_gib": memory / GIB,
        }

    def name_memory(self, network: nn.Module) -> None:
        """Say before the run what memory it takes, and warn where that is not there."""
        settings = self.info.settings
        images = len(range(settings.batch_size)[self.parts[0]])
        size = 2 if use_bfloat16(settings.precision, self.device) else 4
        shape = (n_channels(self.info.n_phases), *self.info.extent)
        needed = training_memory(network, shape, images, bytes_per_number=size)
        there = available_memory(self.device)
        log.info("memory: training needs about %.2f GiB, %.1f GiB are free", needed / GIB, there / GIB)
        if needed > there:
            log.warning("%.1f GiB may be too much: %s", needed / GIB, memory_advice(settings))

    def draw(self, folder: Path) -> None:
        """Write a picture of what the averaged network makes now."""
        folder.mkdir(exist_ok=True)
        network = copy.deepcopy(self.network).eval()
        network.load_state_dict(self.ema.weights)
        write_preview(folder / f"{self.step:08d}.png", network, self.info, device=str(self.device))

    def state(self) -> dict[str, Any]:
        """Everything needed to go on, and to sample from the average."""
        return {
            "info": self.info.to_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "average": self.ema.weights,
            "num_updates": self.ema.num_updates,
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "recent": self._recent,
        }

    def load_state(self, path: Path, state: dict[str, Any]) -> None:
        """Go back to a written state; InputError where it belongs to other settings or data."""
        try:
            check_same(identity(ModelInfo.from_dict(state["info"])), identity(self.info), path)
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            for key, value in state["average"].items():
                self.ema.weights[key].copy_(value)
            self.ema.num_updates = int(state["num_updates"])
            self.step, self.seconds = state["step"], float(state["seconds"])
            self.history = [(int(step), float(loss)) for step, loss in state["history"]]
            self._recent = [float(loss) for loss in state["recent"]]
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = one_line(error)
            raise InputError(f"{path}: not a state of this training ({reason}); delete it") from error


def share_of_batch(settings: TrainingSettings, num_processes: int, process: int) -> list[slice]:
    """The images of a batch that one process works on, part by part.

    Raises
    ------
    InputError
        If the processes and parts do not divide the batch.
    """
    n_parts = settings.gradient_accumulation
    size, rest = divmod(settings.batch_size, num_processes * n_parts)
    if rest or not size:
        raise InputError(
            f"batch_size is {settings.batch_size} with {num_processes} processes and gradient_accumulation {n_parts}; "
            f"allowed are multiples of {num_processes * n_parts}"
        )
    starts = [(part * num_processes + process) * size for part in range(n_parts)]
    return [slice(start, start + size) for start in starts]


def all_volume_fractions(data: TrainingData) -> np.ndarray:
    """Volume fractions (N, C) of all images, looked at in chunks."""
    n = int(data.phases.shape[0])
    chunks = (data.phases[np.arange(i, min(i + CHUNK, n))] for i in range(0, n, CHUNK))
    return np.concatenate([volume_fractions(chunk, data.n_phases) for chunk in chunks])


def memory_advice(settings: TrainingSettings) -> str:
    """What helps when a training does not fit."""
    more = settings.gradient_accumulation * 2
    return (
        f"try gradient_accumulation {more} (the same result in smaller parts), or a batch_size below "
        f"{settings.batch_size}"
    )


def not_finite(loss: float, run: TrainingRun, folder: Path) -> str:
    """Say where a training broke off, and what may help."""
    found = states(folder)
    last = f"the last good checkpoint is {found[-1]}" if found else "there is no checkpoint yet"
    return (
        f"the loss is {loss} at step {run.step + 1}; {last}: try a smaller learning_rate, a smaller gradient_clip or "
        "precision float32, in another folder"
    )


def identity(info: ModelInfo) -> dict[str, Any]:
    """What must be equal for a run to be the same run."""
    fixed = info.settings.identity()
    facts = {"n_phases": info.n_phases, "extent": list(info.extent), "periodic": info.periodic}
    return {**fixed, **facts, "isotropic": info.isotropic, **info.provenance}


def stratified_timesteps(batch_size: int, num_timesteps: int, generator: torch.Generator) -> Tensor:
    """Times spread evenly over 0 ... T-1 with a common random offset: uniform each, with less noise in the mean.

    Kingma et al. (2021), "Variational diffusion models", appendix I.1.
    """
    offset = torch.rand((), generator=generator, dtype=torch.float64)
    u = (torch.arange(batch_size, dtype=torch.float64) + offset) / batch_size
    return (u * num_timesteps).long().clamp(max=num_timesteps - 1)


def learning_rate(step: int, settings: TrainingSettings) -> float:
    """Warm-up, then constant or a half cosine down to a fiftieth."""
    rate = settings.learning_rate * min(1.0, (step + 1) / max(settings.warmup_steps, 1))
    if settings.learning_rate_schedule == "constant":
        return rate
    return rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / settings.n_training_steps)))


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


@contextlib.contextmanager
def _nothing() -> Iterator[None]:
    yield None
