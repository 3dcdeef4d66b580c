"""Stage 2: a data set of microstructures -> a checkpoint. Running it again resumes."""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mcrpy_diffusion import frameworks
from mcrpy_diffusion.checkpoint import ModelInfo, build_network, package_versions, read_info, save_model
from mcrpy_diffusion.config import TrainingSettings, differences
from mcrpy_diffusion.data.augmentation import augment
from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.data.phase_encoding import encode, volume_fractions
from mcrpy_diffusion.diffusion.conditioning import condition_table, normalise
from mcrpy_diffusion.diffusion.ema import ExponentialMovingAverage
from mcrpy_diffusion.diffusion.losses import hybrid_loss, simple_loss, velocity_loss
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule, Prediction
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.files import write_atomically
from mcrpy_diffusion.progress import Progress

log = logging.getLogger(__name__)

STATE_NAME = "training_state.pt"
MODEL_NAME = "model.safetensors"
HISTORY_EVERY = 10


@dataclass(frozen=True)
class TrainingData:
    """Images to train on: `phases` (N, I, J) and what is known of them."""

    phases: np.ndarray
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
    flags = {k: bool(recipe.get(k, False)) for k in ("periodic", "isotropic")}
    return TrainingData(dataset.load(), int(recipe.get("n_phases", 2)), **flags, provenance=recipe)


def train(
    data: TrainingData,
    settings: TrainingSettings,
    folder: str | os.PathLike[str],
    *,
    device: str | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Path:
    """Train a diffusion model, or go on where an earlier call stopped.

    Parameters
    ----------
    data : TrainingData
    settings : TrainingSettings
    folder : path
        Gets model.safetensors at the end, and training_state.pt on the way.
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
        If the extent does not fit the network, or the folder holds a model or a state of other settings or data.
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
    fractions = volume_fractions(data.phases, data.n_phases)
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
    run = TrainingRun(data, info, torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    state_path = folder / STATE_NAME
    if state_path.exists():
        run.load_state(state_path)
        log.info("training goes on at step %d of %d", run.step, settings.n_training_steps)
    loop(run, state_path, on_step)
    save_model(model_path, run.ema.weights, replace(info, step=run.step, training_seconds=round(run.seconds, 1)))
    return model_path


def loop(run: TrainingRun, state_path: Path, on_step: Callable[[int, float], None] | None) -> None:
    """Do the steps that are left, saving the state from time to time and when asked to stop."""
    settings = run.info.settings
    saved = time.monotonic()
    with (
        stop_requests() as stop,
        Progress(settings.n_training_steps, "training", initial=run.step, unit="step") as bar,
    ):
        while run.step < settings.n_training_steps:
            loss = run.do_step()
            if not math.isfinite(loss):
                raise FloatingPointError(
                    f"the loss is {loss} at step {run.step}; the last state is {state_path}: "
                    "try a smaller learning_rate or precision float32"
                )
            bar.update(1, loss=f"{run.mean_loss():.4f}")
            if on_step is not None:
                on_step(run.step, loss)
            due = time.monotonic() - saved > settings.checkpoint_seconds
            if due or stop.is_set() or run.step == settings.n_training_steps:
                run.save_state(state_path)
                saved = time.monotonic()
            if stop.is_set():
                raise KeyboardInterrupt


class TrainingRun:
    """Network, optimiser and average of one run, and the step they have reached.

    The random numbers of step n come from (seed, n) alone: nothing random has to be stored.
    """

    def __init__(self, data: TrainingData, info: ModelInfo, device: torch.device) -> None:
        settings = info.settings
        self.info, self.device = info, device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = build_network(info)
        self.network = network.to(device).to(memory_format=torch.channels_last).train()
        self.ema = ExponentialMovingAverage(self.network, settings.ema_decay)
        self.schedule = NoiseSchedule.named(settings.schedule, settings.n_timesteps)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate, fused=True)
        self.autocast = precision(settings.precision, device)
        self.images = torch.from_numpy(np.ascontiguousarray(data.phases))
        fractions = volume_fractions(data.phases, data.n_phases)
        self.conditions = normalise(torch.from_numpy(fractions), info.conditions)
        self.step, self.seconds = 0, 0.0
        self.history: list[tuple[int, float]] = []
        self._recent: list[float] = []

    def do_step(self) -> float:
        """Do one optimisation step and return its loss."""
        started = time.monotonic()
        settings = self.info.settings
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + self.step)
        with torch.random.fork_rng(devices=[]):  # dropout knows the global generator alone
            torch.manual_seed(settings.seed * 1_000_003 + self.step)
            loss = self.loss(generator)
            loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), settings.gradient_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, settings)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.network)
        self.step += 1
        value = float(loss.detach())
        self._recent.append(value)
        if self.step % HISTORY_EVERY == 0:
            self.history.append((self.step, float(np.mean(self._recent))))
            self._recent = []
        self.seconds += time.monotonic() - started
        return value

    def loss(self, generator: torch.Generator) -> Tensor:
        """Loss of a batch drawn with `generator`: L_hybrid, or without learned variance L_simple."""
        settings, schedule = self.info.settings, self.schedule
        prediction = cast(Prediction, settings.prediction)
        chosen = torch.randint(len(self.images), (settings.batch_size,), generator=generator)
        x_0 = torch.as_tensor(encode(self.images[chosen], self.info.n_phases))
        x_0 = augment(x_0, periodic=self.info.periodic, isotropic=self.info.isotropic, generator=generator)
        t = stratified_timesteps(settings.batch_size, settings.n_timesteps, generator).to(self.device)
        noise = torch.randn(x_0.shape, generator=generator)
        x_0, noise = (x.to(self.device, memory_format=torch.channels_last) for x in (x_0, noise))
        x_t = schedule.add_noise(x_0, noise, t)
        conditions = self.conditions[chosen].to(self.device) if settings.condition_on_volume_fraction else None
        with self.autocast():
            output = self.network(x_t, t, conditions)
        output = output.float()
        if settings.learned_variance:
            return hybrid_loss(output, x_0, x_t, t, noise, schedule, prediction=prediction).total.mean()
        if prediction == "log_odds":
            predicted = schedule.predict_x_0(output, x_t, t, prediction)
            return velocity_loss(predicted, x_0, t, schedule).mean()
        return simple_loss(output, schedule.target(x_0, noise, t, prediction)).mean()

    def mean_loss(self) -> float:
        """Mean loss of the last few steps."""
        return float(np.mean(self._recent)) if self._recent else self.history[-1][1]

    def save_state(self, path: Path) -> None:
        """Write everything needed to go on."""
        state = {
            "identity": identity(self.info),
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "average": self.ema.weights,
            "num_updates": self.ema.num_updates,
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
            "recent": self._recent,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(path, lambda file: file.write(buffer.getbuffer()))

    def load_state(self, path: Path) -> None:
        """Go back to a written state; InputError where it belongs to other settings or data."""
        state = read_state(path)
        check_same(state["identity"], identity(self.info), path)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        for key, value in state["average"].items():
            self.ema.weights[key].copy_(value)
        self.ema.num_updates = state["num_updates"]
        self.step, self.seconds = state["step"], state["seconds"]
        self.history, self._recent = [tuple(pair) for pair in state["history"]], list(state["recent"])


def read_state(path: Path) -> dict[str, Any]:
    """Read a training state without unpickling classes."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; none of them says what to do
        raise InputError(f"{path}: not a readable training state; delete it to train anew") from error


def read_history(folder: str | os.PathLike[str]) -> list[tuple[int, float]]:
    """Return [(step, mean loss of the ten steps before)] of the run in a folder; empty where its state is gone."""
    path = Path(folder) / STATE_NAME
    return [tuple(pair) for pair in read_state(path)["history"]] if path.exists() else []


def identity(info: ModelInfo) -> dict[str, Any]:
    """What must be equal for a run to be the same run."""
    fixed = {k: v for k, v in info.settings.to_dict().items() if k != "checkpoint_seconds"}
    facts = {"n_phases": info.n_phases, "extent": list(info.extent), "periodic": info.periodic}
    return {**fixed, **facts, "isotropic": info.isotropic, **info.provenance}


def check_same(old: dict[str, Any], new: dict[str, Any], path: Path) -> None:
    """Raise InputError naming what differs."""
    changed = differences(old, new)
    if changed:
        what = "; ".join(changed)
        raise InputError(f"{path} was made with other settings ({what}); give another folder or delete it")


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


def precision(name: str, device: torch.device) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    """Make the autocast context: bfloat16 where the device computes in it, else float32."""
    if name == "bfloat16" or (name == "auto" and has_bfloat16(device)):
        return lambda: torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware; emulation is many times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(check is not None and check() for check in checks)


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
