"""One training run: network, optimiser and average, and the step that they have reached."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mcrpy_diffusion.data.augmentation import augment
from mcrpy_diffusion.data.phase_encoding import encode, n_channels
from mcrpy_diffusion.diffusion.conditioning import normalise
from mcrpy_diffusion.diffusion.denoiser import NetworkDenoiser
from mcrpy_diffusion.diffusion.ema import ExponentialMovingAverage
from mcrpy_diffusion.diffusion.losses import hybrid_loss_of, likelihood_loss, simple_loss, velocity_loss
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule, Prediction
from mcrpy_diffusion.diffusion.precision import autocast, use_bfloat16
from mcrpy_diffusion.diffusion.self_conditioning import as_estimate
from mcrpy_diffusion.errors import InputError, one_line
from mcrpy_diffusion.io.provenance import check_same
from mcrpy_diffusion.models.checkpoint import ModelInfo, build_network, min_timestep
from mcrpy_diffusion.runtime.memory import GIB, available_memory, training_memory
from mcrpy_diffusion.settings import TrainingSettings
from mcrpy_diffusion.training.data import TrainingData
from mcrpy_diffusion.training.preview import write_preview

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)

HISTORY_EVERY = 10


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
        self.log_memory(network)
        self.network = network.to(self.device).to(memory_format=torch.channels_last).train()
        self.shared = accelerator.prepare_model(self.network)  # averages the gradients of all processes
        self.predict: Callable[..., Tensor] = torch.compile(self.shared) if settings.compile else self.shared
        self.ema = ExponentialMovingAverage(self.network, settings.ema_decay)
        self.schedule = NoiseSchedule.named(settings.schedule, settings.n_timesteps)
        self.prediction = cast(Prediction, settings.prediction)
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
            x_0, noise, t, mask, conditions = self.draw_batch(generator)
            loss = torch.zeros((), device=self.device)
            for i, part in enumerate(self.parts):
                last = i + 1 == len(self.parts)
                with contextlib.nullcontext() if last else self.accelerator.no_sync(self.shared):
                    part_conditions = None if conditions is None else conditions[part]
                    part_loss = self.loss(x_0[part], noise[part], t[part], mask[part], part_conditions)
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
        """Draw images x_0, noise, times, which images are given an estimate, and conditions of the batch."""
        settings = self.info.settings
        chosen = torch.randint(int(self.images.shape[0]), (settings.batch_size,), generator=generator)
        x_0 = encode(torch.from_numpy(self.images[chosen.numpy()]), self.info.n_phases)
        if settings.augmentation:
            x_0 = augment(x_0, periodic=self.info.periodic, isotropic=self.info.isotropic, generator=generator)
        first = min_timestep(settings, self.schedule)
        t = first + stratified_timesteps(settings.batch_size, settings.n_timesteps - first, generator)
        noise = torch.randn(x_0.shape, generator=generator)
        self_cond_mask = torch.rand(settings.batch_size, generator=generator) < 0.5
        return x_0, noise, t, self_cond_mask, self.conditions[chosen] if settings.condition_on_volume_fraction else None

    def loss(self, x_0: Tensor, noise: Tensor, t: Tensor, self_cond_mask: Tensor, conditions: Tensor | None) -> Tensor:
        """Mean loss of these images: L_hybrid, or without learned variance L_simple (log odds: of v) or L_vlb."""
        settings, schedule = self.info.settings, self.schedule
        x_0, noise = (x.to(self.device, memory_format=torch.channels_last) for x in (x_0, noise))
        t, self_cond_mask = t.to(self.device), self_cond_mask.to(self.device)
        conditions = None if conditions is None else conditions.to(self.device)
        x_t = schedule.add_noise(x_0, noise, t)
        estimate = self.first_estimate(x_t, t, conditions, self_cond_mask) if settings.self_condition else None
        denoised = self.denoiser(self.predict, conditions)(x_t, t, estimate)
        if settings.learned_variance:
            return hybrid_loss_of(denoised, x_0, x_t, t, noise, schedule, prediction=self.prediction).total.mean()
        if settings.loss == "likelihood":
            return likelihood_loss(denoised.x_0, x_0, t, schedule).mean()
        if denoised.log_odds is not None:
            return velocity_loss(denoised.x_0, x_0, t, schedule).mean()
        return simple_loss(cast(Tensor, denoised.output), schedule.target(x_0, noise, t, self.prediction)).mean()

    def denoiser(self, network: Callable[..., Tensor], conditions: Tensor | None) -> NetworkDenoiser:
        """The network as sampling has it, but without clipping, and with autocast around each call.

        Each call has an autocast of its own: some versions of PyTorch keep weights that were cast without a gradient
        for the rest of one (https://github.com/pytorch/pytorch/issues/105211).
        """

        def predict(x_t: Tensor, t: Tensor, **given: Tensor) -> Tensor:
            with autocast(self.info.settings.precision, self.device):
                return network(x_t, t, **given)

        return NetworkDenoiser(predict, self.schedule, self.prediction, conditions=conditions, clip=False)

    def first_estimate(self, x_t: Tensor, t: Tensor, conditions: Tensor | None, mask: Tensor) -> Tensor:
        """Estimate x_0 by a first pass for the images of `mask` (B,), 0 for the others (Chen et al. 2023)."""
        found = torch.zeros_like(x_t)
        if mask.any():
            denoise = self.denoiser(self.network, None if conditions is None else conditions[mask])
            with torch.no_grad():
                found[mask] = as_estimate(denoise(x_t[mask], t[mask]))
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

    def log_memory(self, network: nn.Module) -> None:
        """Log the memory that the run needs, and warn where it is not available."""
        settings = self.info.settings
        images = len(range(settings.batch_size)[self.parts[0]])
        size = 2 if use_bfloat16(settings.precision, self.device) else 4
        shape = (n_channels(self.info.n_phases), *self.info.extent)
        needed = training_memory(network, shape, images, bytes_per_number=size)
        available = available_memory(self.device)
        log.info("memory: training needs about %.2f GiB, %.1f GiB are free", needed / GIB, available / GIB)
        if needed > available:
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
            raise InputError(f"{path}: not a state of this training ({one_line(error)}); delete it") from error


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
            f"batch_size must be a multiple of {num_processes * n_parts} with {num_processes} processes and "
            f"gradient_accumulation {n_parts}, got {settings.batch_size}"
        )
    starts = [(part * num_processes + process) * size for part in range(n_parts)]
    return [slice(start, start + size) for start in starts]


def memory_advice(settings: TrainingSettings) -> str:
    """What helps when a training does not fit."""
    more = settings.gradient_accumulation * 2
    return (
        f"try gradient_accumulation {more} (the same result in smaller parts), or a batch_size below "
        f"{settings.batch_size}"
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
