"""Stage 3: a checkpoint and seeds -> microstructures."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from mcrpy_diffusion.data.phase_encoding import decode, n_channels
from mcrpy_diffusion.diffusion import conditioning, volume_fraction
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule, Prediction
from mcrpy_diffusion.diffusion.precision import use_bfloat16
from mcrpy_diffusion.diffusion.samplers import ddim, ddpm, dpm_solver
from mcrpy_diffusion.diffusion.sampling import Network, noise_like, timestep_pairs
from mcrpy_diffusion.diffusion.self_conditioning import remembering, twice
from mcrpy_diffusion.diffusion.unet import UNet, with_convolutions_in
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.models import pretrained
from mcrpy_diffusion.models.checkpoint import ModelInfo, load_network
from mcrpy_diffusion.runtime import frameworks
from mcrpy_diffusion.runtime.memory import GIB, advice_when_out_of_memory, available_memory
from mcrpy_diffusion.settings import SamplingSettings


class Model:
    """A trained diffusion model, ready to sample.

    Parameters
    ----------
    network : UNet
    info : ModelInfo
    device : str, optional
        "cuda" or "cpu"; the first where there is one.
    """

    def __init__(self, network: UNet, info: ModelInfo, *, device: str | None = None) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.network = network.to(self.device).to(memory_format=torch.channels_last).eval()
        self._fast: UNet | None = None  # the same in bfloat16, made when it is first needed
        self.info = info
        self.schedule = NoiseSchedule.named(info.settings.schedule, info.settings.n_timesteps)

    def fingerprint(self) -> str:
        """Return the SHA-256 of the weights, by their names."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def sample(
        self,
        n: int,
        shape: tuple[int, int] | None = None,
        n_steps: int | None = None,
        sampler: str | None = None,
        seed: int = 0,
        *,
        eta: float = 0.0,
        hold_volume_fraction: bool = True,
        batch_size: int = 16,
        precision: str = "auto",
        callback: Callable[[dict[str, Any]], None] | None = None,
    ) -> np.ndarray:
        """Draw new microstructures.

        Parameters
        ----------
        n : int
            Number of structures.
        shape : tuple of int, optional
            Rows and columns, multiples of the network's stride; those of the training images by default.
        n_steps : int, in 1 ... T, optional
            Network evaluations per structure; what the model's card recommends, without a card as `default_sampling`.
        sampler : str, optional
            "ddim"; "ddpm", ancestral sampling; or "dpm_solver", which needs the fewest steps. What the model's card
            recommends; without a card see `default_sampling`.
        seed : int
            Structure i depends on `seed` + i alone, not on n or the batch size.
        eta : float, in [0, 1]
            Noise that "ddim" adds on the way; 0 for the others.
        hold_volume_fraction : bool
            Keep the volume fractions that the network is told, to the pixel, see `volume_fraction.holding` and
            `exact_phases`. Does nothing where it is told none, or predicts something else than log odds.
        batch_size : int
        precision : str
            "float32", "bfloat16", or "auto": the latter where the device multiplies it in hardware.
        callback : callable, optional
            See `ddim.sample`; called in every batch.

        Returns
        -------
        ndarray, shape (n, I, J)
            Phases as uint8; grey values in [0, 1] as float32.

        Raises
        ------
        InputError
            If a value is out of range.
        """
        settings = self.info.sampling_settings(
            n_samples=n,
            sampler=sampler,
            n_sampling_steps=n_steps,
            eta=eta,
            hold_volume_fraction=hold_volume_fraction,
            seed=seed,
            batch_size=batch_size,
            precision=precision,
        )
        return np.concatenate([phases for _, phases in self.batches(range(seed, seed + n), settings, shape, callback)])

    def batches(
        self,
        seeds: Sequence[int],
        settings: SamplingSettings,
        shape: tuple[int, int] | None = None,
        callback: Callable[[dict[str, Any]], None] | None = None,
    ) -> Iterator[tuple[Sequence[int], np.ndarray]]:
        """Yield (seeds, structures) batch by batch; arguments as in `sample`."""
        shape = shape or self.info.extent
        self.info.settings.check_extent(shape)
        if settings.n_sampling_steps > self.schedule.num_timesteps:
            raise InputError(
                f"n_sampling_steps is {settings.n_sampling_steps}; this model allows 1 to {self.schedule.num_timesteps}"
            )
        prediction, pairs = self.prediction, self.walk(settings)
        self._check_memory(min(settings.batch_size, len(seeds)), shape)
        for start in range(0, len(seeds), settings.batch_size):
            chosen = seeds[start : start + settings.batch_size]
            generators = [torch.Generator().manual_seed(seed) for seed in chosen]
            template = torch.empty(len(chosen), n_channels(self.info.n_phases), *shape)
            fractions, hold = self.fractions(chosen, shape), settings.hold_volume_fraction
            with advice_when_out_of_memory(lambda: f"try a batch_size below {settings.batch_size}"):
                x = sampler(settings)(
                    self.conditioned_network(fractions, settings.precision, hold=hold),
                    noise_like(template, generators).to(self.device),
                    self.schedule,
                    pairs,
                    generator=generators,
                    callback=callback,
                    prediction=prediction,
                )
            yield chosen, self.phases(x, fractions, hold=hold)

    def phases(self, x_0: Tensor, fractions: Tensor | None, *, hold: bool) -> np.ndarray:
        """Turn sampled images (B, C, I, J) into phases or grey values (B, I, J), held at volume fractions or not."""
        if self._holds(fractions, hold):
            return volume_fraction.exact_phases(x_0.cpu(), cast(Tensor, fractions)).numpy()
        return decode(x_0.cpu(), self.info.n_phases).numpy()

    @property
    def prediction(self) -> Prediction:
        """What the network predicts."""
        return cast(Prediction, self.info.settings.prediction)

    def walk(self, settings: SamplingSettings) -> list[tuple[int, int]]:
        """The times of a sampler's steps, see `timestep_pairs`: none that training left out, if the others suffice."""
        return timestep_pairs(
            self.schedule.num_timesteps,
            settings.n_sampling_steps,
            exponent=step_exponent(settings.sampler, self.prediction),
            first=self.info.settings.first_time(self.schedule),
        )

    def _check_memory(self, n: int, shape: tuple[int, int]) -> None:
        """Raise InputError where the first level's channels of n images alone, in and out, do not fit the memory."""
        settings = self.info.settings
        width = settings.channels * settings.channel_multipliers[0]
        needed = 2 * 4 * n * width * shape[0] * shape[1] // settings.patch_size**2
        there = available_memory(self.device)
        if needed > there:
            raise InputError(
                f"{n} structures of {shape[0]} x {shape[1]} at once take more than {needed / GIB:.1f} GiB, "
                f"{there / GIB:.1f} are free; try a smaller batch_size or extent"
            )

    def conditioned_network(
        self, fractions: Tensor | None, precision: str = "auto", *, hold: bool = False, walks: bool = True
    ) -> Network:
        """The network as a function of (x_t, t) in its own memory format and precision, for one batch.

        Parameters
        ----------
        fractions : Tensor, shape (B, C'), or None
            Volume fractions that it is told.
        hold : bool
            Whether its log odds keep them exactly; without effect where it predicts something else.
        walks : bool
            Whether each call is a step of a walk, in which a self-conditioned network is told its estimate of the step
            before; else each call makes two, the second of which is told what the first expected.
        """
        chosen, conditions = self.network, None
        if fractions is not None:
            conditions = conditioning.normalise(fractions, self.info.conditions).to(self.device)
        if use_bfloat16(precision, self.device):
            if self._fast is None:
                self._fast = with_convolutions_in(self.network, torch.bfloat16)
            chosen = self._fast

        def told(x: Tensor, t: Tensor, estimate: Tensor | None) -> Tensor:
            return chosen(x.to(memory_format=torch.channels_last), t, conditions, estimate).float()

        network: Network = functools.partial(told, estimate=None)
        if self.info.settings.self_condition:
            network = (remembering if walks else twice)(told, self.schedule, self.prediction)
        if self._holds(fractions, hold):
            return volume_fraction.holding(network, self.schedule, cast(Tensor, fractions))
        return network

    def _holds(self, fractions: Tensor | None, hold: bool) -> bool:
        return hold and fractions is not None and self.prediction == "log_odds"

    def fractions(self, seeds: Sequence[int], shape: tuple[int, int]) -> Tensor | None:
        """Volume fractions (B, C') to aim at, drawn from those of the training images; None where it is told none."""
        if not self.info.conditions:
            return None
        area_ratio = shape[0] * shape[1] / (self.info.extent[0] * self.info.extent[1])
        return conditioning.draw(seeds, self.info.conditions, area_ratio=area_ratio)


def sampler(settings: SamplingSettings) -> Callable[..., Tensor]:
    """The function that walks from noise to images, with what it alone needs filled in."""
    if settings.sampler == "ddim":
        return functools.partial(ddim.sample, eta=settings.eta)
    return {"ddpm": ddpm.sample, "dpm_solver": dpm_solver.sample}[settings.sampler]


def step_exponent(sampler: str, prediction: Prediction) -> float:
    """How the steps shorten towards the clean image; see `timestep_pairs`.

    DPM-Solver++ extrapolates x_0, which changes fast in log SNR at the end of the walk: even steps in t lose its
    second order (examples/toy_density.py). Log odds change evenly in t.
    """
    return 2.0 if sampler == "dpm_solver" and prediction != "log_odds" else 1.0


def load_model(path: str | os.PathLike[str], *, device: str | None = None) -> Model:
    """Load a model for sampling.

    Parameters
    ----------
    path : path or str
        A model, a training state, a folder with model.safetensors, or the name of a pretrained model.
    device : str, optional
        "cuda" or "cpu"; the first where there is one.

    Raises
    ------
    InputError
        If there is no such model, or the file is no checkpoint of this package.

    Examples
    --------
    >>> model = load_model("results/model.safetensors")  # or load_model("copolymer")  # doctest: +SKIP
    >>> model.sample(16, seed=0).shape  # doctest: +SKIP
    (16, 64, 64)
    """
    frameworks.before_torch()
    network, info = load_network(pretrained.find(path))
    return Model(network, info, device=device)
