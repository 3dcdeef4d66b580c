"""Stage 3: a checkpoint and seeds -> microstructures."""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from mcrpy_diffusion.data.phase_encoding import decode, n_channels
from mcrpy_diffusion.diffusion import conditioning
from mcrpy_diffusion.diffusion.conditions import CONDITIONS
from mcrpy_diffusion.diffusion.denoiser import Denoiser, NetworkDenoiser
from mcrpy_diffusion.diffusion.log_odds import prior_log_odds
from mcrpy_diffusion.diffusion.multiplane import SLAB_PIXELS, MultiPlane
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule, Prediction
from mcrpy_diffusion.diffusion.precision import use_bfloat16
from mcrpy_diffusion.diffusion.samplers import sampler
from mcrpy_diffusion.diffusion.sdedit import start_from
from mcrpy_diffusion.diffusion.self_conditioning import SelfConditioned, two_pass_self_conditioning
from mcrpy_diffusion.diffusion.timesteps import Callback, Step, noise_like, timestep_pairs
from mcrpy_diffusion.diffusion.unet import UNet, with_convolutions_in
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.models import pretrained
from mcrpy_diffusion.models.checkpoint import ModelInfo, load_network, min_timestep
from mcrpy_diffusion.models.request import Request, volume_fraction_table
from mcrpy_diffusion.models.sampling_state import SamplingState, StateFiles
from mcrpy_diffusion.runtime import frameworks
from mcrpy_diffusion.runtime.memory import GIB, advice_when_out_of_memory, available_memory
from mcrpy_diffusion.settings import SAMPLERS, SamplingSettings

VOLUMES_AT_ONCE = 10  # arrays of the size of a volume that the sampling of one holds


class Model:
    """A trained diffusion model, ready to sample.

    Parameters
    ----------
    network : UNet
    info : ModelInfo
    device : str, optional
        "cuda" or "cpu"; by default "cuda" where it is available.
    """

    def __init__(self, network: UNet, info: ModelInfo, *, device: str | None = None) -> None:
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.network = network.to(self.device).to(memory_format=torch.channels_last).eval()
        self._bfloat16: UNet | None = None  # the same in bfloat16, made when it is first needed
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
        shape: tuple[int, ...] | None = None,
        n_steps: int | None = None,
        sampler: str | None = None,
        seed: int = 0,
        *,
        eta: float = 0.0,
        hold_volume_fraction: bool = True,
        volume_fraction: float | str | Sequence[float | str] | None = None,
        batch_size: int = 16,
        precision: str = "auto",
        callback: Callback | None = None,
    ) -> np.ndarray:
        """Draw new microstructures.

        Parameters
        ----------
        n : int
            Number of structures.
        shape : tuple of int, optional
            Rows and columns, multiples of the network's stride; those of the training images by default. Three
            numbers make volumes, whose slices in all three planes are like the training images; see `MultiPlane`.
        n_steps : int, in 1 ... T, optional
            Denoising steps. The default is the recommendation of the model's card, without a card see
            `default_sampling`; of volumes see `volume_sampling`.
        sampler : str, optional
            "ddim"; "ddpm", ancestral sampling; or "dpm_solver", which needs the fewest steps. Default as for `n_steps`.
        seed : int
            Structure i depends on `seed` + i alone, not on n or the batch size; in bfloat16 but for the rounding of
            kernels for other batches, which can turn some pixels in a thousand.
        eta : float, in [0, 1]
            Noise that "ddim" adds in each step; 0 for the others.
        hold_volume_fraction : bool
            Keep the volume fractions that condition the network, to the pixel; see `constrain_volume_fraction` and
            `exact_phases`. Without effect where nothing conditions the network, or its prediction is not log odds.
        volume_fraction : float, str, or sequence of them, optional
            What all structures have, to the pixel: see `request.volume_fraction_table`. The network is conditioned on
            the nearest fraction that it has seen.
        batch_size : int
            Structures sampled at once; volumes are sampled one by one.
        precision : str
            "float32", "bfloat16", or "auto": bfloat16 where the device multiplies it in hardware.
        callback : callable, optional
            See `ddim.sample`; called in every batch.

        Returns
        -------
        ndarray, shape (n, I, J) or (n, I, J, K)
            Phases as uint8; grey values in [0, 1] as float32.

        Raises
        ------
        InputError
            If a value is out of range.
        """
        settings = self.info.sampling_settings(
            n_dims=len(shape or self.info.extent),
            n_samples=n,
            sampler=sampler,
            n_sampling_steps=n_steps,
            eta=eta,
            hold_volume_fraction=hold_volume_fraction,
            seed=seed,
            batch_size=batch_size,
            precision=precision,
        )
        request = Request(() if volume_fraction is None else volume_fraction_table(volume_fraction))
        if advice := request.advice(self.info):
            warnings.warn(advice, stacklevel=2)
        batches = self.batches(range(seed, seed + n), settings, shape, callback, request=request)
        return np.concatenate([phases for _, phases in batches])

    def batches(
        self,
        seeds: Sequence[int],
        settings: SamplingSettings,
        shape: tuple[int, ...] | None = None,
        callback: Callback | None = None,
        *,
        request: Request = Request(),  # noqa: B008  frozen
        conditions: Mapping[str, Any] | None = None,
        initial: Tensor | None = None,
        strength: float = 1.0,
        state_files: StateFiles | None = None,
    ) -> Iterator[tuple[Sequence[int], np.ndarray]]:
        """Yield (seeds, structures) batch by batch.

        Parameters
        ----------
        seeds, settings, shape, callback
            As in `sample`.
        request : Request
            What the structures are asked for.
        conditions : mapping, optional
            Name in `diffusion.conditions.CONDITIONS` -> value that all structures keep to, in addition to the request.
        initial : Tensor, shape (C, I, J) or (C, I, J, K), in [-1, 1], optional
            Image to start from in place of noise; the volume fractions aimed at are its own. See `sdedit.start_from`.
        strength : float, in (0, 1]
            Share of the noise process that the initial image passes through.
        state_files : StateFiles, optional
            Where the state of volumes is kept while they are sampled: after a stop, sampling goes on from there.
        """
        shape = shape or self.info.extent
        self.info.settings.check_extent(shape)
        request.check(self.info, settings)
        pairs = self.timesteps(settings)
        options = {name: getattr(settings, name) for name in SAMPLERS[settings.sampler].options}
        is_volume = len(shape) == 3
        batch_size = 1 if is_volume else settings.batch_size
        self._check_memory(min(batch_size, len(seeds)), shape)
        for start in range(0, len(seeds), batch_size):
            chosen = seeds[start : start + batch_size]
            generators = [torch.Generator().manual_seed(seed) for seed in chosen]
            if initial is None:
                x, kept = noise_like(torch.empty(len(chosen), self.n_channels, *shape), generators), pairs
            else:
                x, kept = start_from(
                    initial.expand(len(chosen), *initial.shape), strength, pairs, self.schedule, generators
                )
            if kept:
                asked = {**request.conditions(chosen, self.schedule), **(conditions or {})}
                fractions = self.fractions(chosen, shape, initial, asked.get("requested_volume_fraction"))
                kept_to = self.conditions(fractions, settings.hold_volume_fraction, asked)
                memory: dict[str, Tensor] = {}
                state, callbacks = None, [] if callback is None else [callback]
                if is_volume and state_files is not None:
                    state = SamplingState(state_files, chosen[0], generators[0], memory, self.device)
                    callbacks.append(state)
                step = None if state is None else state.load()
                start_after = {} if step is None else {"after": step}  # a sampler that reports no step needs no `after`
                with advice_when_out_of_memory(lambda: f"try a batch_size below {settings.batch_size}"):
                    x = sampler(settings.sampler)(
                        self.denoiser(
                            fractions,
                            kept_to,
                            precision=settings.precision,
                            memory=memory,
                            planes_generator=generators[0] if is_volume else None,
                            plane_weight=settings.plane_weight,
                        ),
                        x.to(self.device),
                        self.schedule,
                        kept,
                        generator=generators,
                        callback=all_of(callbacks),
                        **start_after,
                        **options,
                    )
                yield chosen, self.phases(x, kept_to)
                if state is not None:
                    state.remove()
            else:  # the noise is too weak to change anything
                yield chosen, self.phases(x, {})

    @property
    def n_channels(self) -> int:
        """Channels of an image."""
        return n_channels(self.info.n_phases)

    def denoiser(
        self,
        fractions: Tensor | None,
        conditions: Mapping[str, Any] | None = None,
        *,
        precision: str = "auto",
        clip: bool = True,
        self_cond_mode: Literal["sampling", "two_pass"] = "sampling",
        memory: dict[str, Tensor] | None = None,
        planes_generator: torch.Generator | None = None,
        plane_weight: float = SamplingSettings.plane_weight,
    ) -> Denoiser:
        """Make the denoiser of one batch: the network, self-conditioned where it was trained so, and conditions.

        Parameters
        ----------
        fractions : Tensor, shape (B, C'), or None
            Volume fractions that condition the network.
        conditions : mapping, optional
            Name in `diffusion.conditions.CONDITIONS` -> value for the batch, applied in this order.
        precision : str
            As in `sample`.
        clip : bool
            Clip x_0 to [-1, 1], as in sampling.
        self_cond_mode : "sampling" or "two_pass"
            Whether calls are the steps of one sampling, each given the previous estimate; or functions of (x_t, t)
            alone, which make two passes each.
        memory : dict, optional
            What the denoiser keeps between the steps of one sampling, see `SelfConditioned`.
        planes_generator : torch.Generator, optional
            Where given, the denoiser is one of a volume, see `MultiPlane`; fractions are of shape (1, C').
        plane_weight : float
            Of the planes of a volume.
        """
        embedded = None if fractions is None else conditioning.normalise(fractions, self.info.conditions)
        denoise: Denoiser = NetworkDenoiser(
            self._network_in(precision),
            self.schedule,
            cast(Prediction, self.info.settings.prediction),
            conditions=None if embedded is None else embedded.to(self.device),
            clip=clip,
        )
        if planes_generator is not None:
            prior = self._prior(fractions, denoise) if self.info.settings.prediction == "log_odds" else None
            denoise = MultiPlane(
                [denoise] * 3,
                self.schedule,
                prior,
                planes_generator,
                weight=plane_weight,
                periodic=self.info.periodic,
            )
        given = {name: (CONDITIONS[name], value) for name, value in (conditions or {}).items()}
        for condition, value in (each for each in given.values() if each[0].inside):
            denoise = condition.wrap(denoise, value)
        if self.info.settings.self_condition:
            if self_cond_mode == "sampling":
                denoise = SelfConditioned(denoise, self.schedule, memory)
            else:
                denoise = two_pass_self_conditioning(denoise)
        for condition, value in (each for each in given.values() if not each[0].inside):
            denoise = condition.wrap(denoise, value)
        return denoise

    def conditions(
        self, fractions: Tensor | None, hold_volume_fraction: bool, conditions: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The conditions of a batch: those given, and the volume fractions where they can be kept."""
        given = dict(conditions or {})
        held = hold_volume_fraction and "requested_volume_fraction" not in given
        if held and fractions is not None and self.info.settings.prediction == "log_odds":
            known = given.get("known_pixels")
            given.setdefault("volume_fraction", fractions if known is None else known.whole_fractions(fractions))
        return given

    def phases(self, x_0: Tensor, conditions: Mapping[str, Any]) -> np.ndarray:
        """Turn sampled images (B, C, I, J) into phases or grey values (B, I, J)."""
        for name, value in conditions.items():
            finish = CONDITIONS[name].finish
            x_0 = x_0 if finish is None else finish(x_0, value)
        for name, value in conditions.items():
            to_phases = CONDITIONS[name].to_phases
            if to_phases is not None:
                return to_phases(x_0.cpu(), value).numpy()
        return decode(x_0.cpu(), self.info.n_phases).numpy()

    def timesteps(self, settings: SamplingSettings) -> list[tuple[int, int]]:
        """Pairs (t, t_next) of a sampler's steps, see `timestep_pairs`; times that training left out come last.

        Log odds change evenly in t, so that their steps are even whatever the sampler.

        Raises
        ------
        InputError
            If there are more steps than times.
        """
        total = self.schedule.num_timesteps
        if settings.n_sampling_steps > total:
            raise InputError(
                f"n_sampling_steps must be between 1 and {total} for this model, got {settings.n_sampling_steps}"
            )
        is_even = self.info.settings.prediction == "log_odds"
        exponent = 1.0 if is_even else SAMPLERS[settings.sampler].exponent
        first = min_timestep(self.info.settings, self.schedule)
        return timestep_pairs(total, settings.n_sampling_steps, exponent=exponent, first=first)

    def fractions(
        self,
        seeds: Sequence[int],
        shape: tuple[int, ...],
        initial: Tensor | None = None,
        requested: Tensor | None = None,
    ) -> Tensor | None:
        """Volume fractions (B, C') that condition the network; None where nothing does.

        They are drawn from those of the training images, or are those of the initial image, or the nearest of the
        training range to the requested ones. A volume has that of the whole, which its slices scatter about.
        """
        if not self.info.conditions:
            return None
        if requested is not None:
            return conditioning.nearest(requested, self.info.conditions)
        if initial is not None:
            means = ((initial.double() + 1) / 2).flatten(1).mean(1)
            return (means if len(means) == 1 else means[1:]).expand(len(seeds), -1)
        area_ratio = math.prod(shape) / math.prod(self.info.extent)
        return conditioning.draw(seeds, self.info.conditions, area_ratio=area_ratio)

    def _prior(self, fractions: Tensor | None, denoise: Denoiser) -> Tensor:
        """Half log odds (1, C) of the phases before anything is seen: by the fractions, or by what the network
        says of noise alone."""
        if fractions is not None:
            return prior_log_odds(fractions)
        shape = (1, self.n_channels, *self.info.extent)
        noise = noise_like(torch.empty(shape), torch.Generator().manual_seed(0)).to(self.device)
        latest = torch.tensor([self.schedule.num_timesteps - 1], device=self.device)
        log_odds = denoise(noise, latest).log_odds
        assert log_odds is not None
        return log_odds.context.flatten(2).mean(2)

    def _network_in(self, precision: str) -> UNet:
        """The network, or its copy in bfloat16."""
        if not use_bfloat16(precision, self.device):
            return self.network
        if self._bfloat16 is None:
            self._bfloat16 = with_convolutions_in(self.network, torch.bfloat16)
        return self._bfloat16

    def memory_needed(self, n: int, shape: tuple[int, ...]) -> int:
        """Least memory in bytes of sampling n images at once, or a volume.

        Counted are the first level's channels in and out of the images that pass the network at once, and for a volume
        the numbers of each voxel that are kept between the planes.
        """
        settings = self.info.settings
        width = settings.channels * settings.channel_multipliers[0]
        n_pixels = n * math.prod(shape)
        kept = 0
        if len(shape) == 3:
            kept = 4 * VOLUMES_AT_ONCE * self.n_channels * n_pixels
            largest = math.prod(sorted(shape)[1:])  # slice
            n_pixels = min(n_pixels, max(largest, SLAB_PIXELS))
        return kept + 2 * 4 * width * n_pixels // settings.patch_size**2

    def _check_memory(self, n: int, shape: tuple[int, ...]) -> None:
        """Raise InputError where the least memory needed is not there."""
        needed, available = self.memory_needed(n, shape), available_memory(self.device)
        if needed > available:
            raise InputError(
                f"{n} structures of {' x '.join(map(str, shape))} at once take more than {needed / GIB:.1f} GiB, "
                f"{available / GIB:.1f} GiB are free; try a smaller batch_size or extent"
            )


def all_of(callbacks: Sequence[Callback]) -> Callback | None:
    """One callback that calls several; None for none."""

    def call(step: Step) -> None:
        for callback in callbacks:
            callback(step)

    return call if callbacks else None


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
