"""Settings of stage 3: how many structures, by which sampler."""

from __future__ import annotations

from dataclasses import dataclass

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings.base import MAX_SEED, Settings, option
from mcrpy_diffusion.settings.training import PRECISIONS, TrainingSettings

_STRUCTURES, _SAMPLING, _REQUEST = "structures", "sampling", "what the structures are asked for"


@dataclass(frozen=True)
class Sampler:
    """What is known of a sampler without running it; `diffusion.samplers` holds the function of the same name.

    Attributes
    ----------
    title : str
    description : str
        For the help of the option.
    n_sampling_steps : int
        Default number of steps.
    exponent : float
        How the steps shorten towards the clean image, see `timesteps.timestep_pairs`.
    options : tuple of str
        Fields of `SamplingSettings` that this sampler alone takes.
    """

    title: str
    description: str
    n_sampling_steps: int
    exponent: float = 1.0
    options: tuple[str, ...] = ()


SAMPLERS = {
    "ddim": Sampler("DDIM", "deterministic for eta 0", 150, options=("eta",)),
    "ddpm": Sampler("DDPM", "ancestral sampling", 50),
    # x_0 changes fast in log SNR near the clean image: there the steps shorten
    "dpm_solver": Sampler("DPM-Solver++", "DPM-Solver++(2M), fewest steps", 20, exponent=2.0),
    "analytic_ddpm": Sampler("analytic DDPM", "ddpm with the variance of coarse steps, models of log odds", 50),
}

N_VOLUME_STEPS = 17


@dataclass(frozen=True)
class SamplingSettings(Settings):
    """Stage 3: how many structures, by which sampler."""

    n_samples: int = option(16, "number of new structures", low=1, beginner=True, group=_STRUCTURES)
    sampler: str = option(
        "ddim",
        "; ".join(f"{name}: {sampler.description}" for name, sampler in SAMPLERS.items()),
        choices=tuple(SAMPLERS),
        beginner=True,
        group=_SAMPLING,
    )
    n_sampling_steps: int = option(150, "number of denoising steps", low=1, beginner=True, group=_SAMPLING)
    eta: float = option(
        0.0, "noise added in each step of ddim: 0 none, 1 as much as ddpm", low=0.0, high=1.0, group=_SAMPLING
    )
    hold_volume_fraction: bool = option(
        True,
        "give each structure exactly the volume fraction it is conditioned on; models of log odds only",
        group=_SAMPLING,
    )
    seed: int = option(
        0,
        "seed of the first structure; structure i uses seed + i",
        low=0,
        high=MAX_SEED,
        beginner=True,
        group=_STRUCTURES,
    )
    batch_size: int = option(16, "structures sampled at once; more need more memory", low=1, group=_SAMPLING)
    precision: str = option(
        "auto",
        "floating-point precision of the network; auto: bfloat16 where the processor supports it",
        choices=PRECISIONS,
        group=_SAMPLING,
    )

    plane_weight: float = option(
        0.45,
        "volumes: what the surroundings of a voxel in one plane count; more makes interfaces smoother",
        low=0.0,
        high=1.0,
        group=_SAMPLING,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.eta and "eta" not in SAMPLERS[self.sampler].options:
            raise InputError(f"eta must be 0 with the sampler {self.sampler}, got {self.eta}")


@dataclass(frozen=True)
class RequestSettings(Settings):
    """What structures of a trained model are asked for besides their seeds."""

    volume_fraction: tuple[str, ...] = option(
        (),
        "volume fraction of each phase from 1 on; .25:.35 spreads it evenly over the structures",
        beginner=True,
        group=_REQUEST,
        if_none="the training structures'",
    )
    target_image: str | None = option(
        None, "micrograph whose S2, lineal path and volume fractions each structure gets", group=_REQUEST
    )
    descriptor_filename: str | None = option(
        None, "MCRpy characterization (.pickle) whose descriptors each structure gets", group=_REQUEST
    )
    descriptor_types: tuple[str, ...] = option(
        (), "which descriptors of the characterization; none: all", group=_REQUEST
    )
    limit_to: int | None = option(
        None,
        "number of distances of S2 and lineal path",
        unit="pixels",
        low=1,
        group=_REQUEST,
        if_none="the characterization's; of a micrograph half of the extent for S2, a quarter for the lineal path",
    )
    known: str | None = option(
        None, "image whose pixels each structure keeps; a smaller one comes into the middle", group=_REQUEST
    )
    known_mask: str | None = option(
        None, "image of the same shape, not 0 where the pixels of `known` are known", group=_REQUEST, if_none="all"
    )


def default_sampling(training: TrainingSettings) -> SamplingSettings:
    """Return the default sampler and number of steps for a network, by what it predicts.

    - log odds: ancestral sampling in 50 steps, which closes gaps in grain boundaries.
    - v, used for grey images: DPM-Solver++ in 20 steps, which keeps most of the pixel noise (benchmarks/README.md).
    - everything else: DDIM in 150 steps, as published.

    The number of steps is at most the number of timesteps.
    """
    sampler = {"log_odds": "ddpm", "v": "dpm_solver"}.get(training.prediction, "ddim")
    n_steps = min(SAMPLERS[sampler].n_sampling_steps, training.n_timesteps)
    return SamplingSettings(sampler=sampler, n_sampling_steps=n_steps)


def volume_sampling(training: TrainingSettings) -> SamplingSettings:
    """Return the default sampler and number of steps for volumes: each step passes all slices of three planes.

    Ancestral sampling, in a third of the steps that images take (benchmarks/three_dimensions).
    """
    n_steps = min(N_VOLUME_STEPS, training.n_timesteps)
    return SamplingSettings(sampler="ddpm", n_sampling_steps=n_steps)
