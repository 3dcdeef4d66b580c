"""A look at what a network has learned so far: a few structures as one picture."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

import numpy as np

from mcrpy_diffusion.data.phase_encoding import decode, n_channels
from mcrpy_diffusion.files import write_atomically

if TYPE_CHECKING:
    import torch
    from torch import nn

    from mcrpy_diffusion.checkpoint import ModelInfo
    from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule, Prediction

N_STRUCTURES, N_STEPS, SEED = 8, 50, 0


def write_preview(
    path: str | os.PathLike[str],
    network: nn.Module,
    info: ModelInfo,
    schedule: NoiseSchedule,
    device: torch.device,
) -> None:
    """Draw eight structures side by side as a grey PNG file, from the same noise at every call.

    Parameters
    ----------
    path : path
    network : nn.Module
        In evaluation mode, on `device`.
    info : ModelInfo
    schedule : NoiseSchedule
    device : torch.device
    """
    import torch
    from PIL import Image

    from mcrpy_diffusion.diffusion import ddim
    from mcrpy_diffusion.diffusion.sampling import noise_like
    from mcrpy_diffusion.diffusion.self_conditioning import remembering

    generators = [torch.Generator().manual_seed(SEED + i) for i in range(N_STRUCTURES)]
    noise = noise_like(torch.empty(N_STRUCTURES, n_channels(info.n_phases), *info.extent), generators)
    # the mean volume fraction of the training images, which is 0 after normalisation
    n_conditions = len(info.conditions[0]) if info.conditions else 0
    conditions = torch.zeros(N_STRUCTURES, n_conditions, device=device) if n_conditions else None
    prediction = cast("Prediction", info.settings.prediction)
    first = schedule.first_uncertain_time if info.settings.leaves_out_certain_times else 0
    pairs = ddim.timestep_pairs(schedule.num_timesteps, min(N_STEPS, schedule.num_timesteps), first=first)
    images = ddim.sample(
        remembering(lambda x, t, estimate: network(x, t, conditions, estimate).float(), schedule, prediction),
        noise.to(device),
        schedule,
        pairs,
        prediction=prediction,
    )
    structures = decode(images.cpu(), info.n_phases).numpy()
    levels = structures / max(info.n_phases - 1, 1) * 255
    framed = np.pad(levels.astype(np.uint8), ((0, 0), (0, 0), (0, 4)), constant_values=128)
    picture = Image.fromarray(np.concatenate(list(framed), axis=1))
    write_atomically(path, lambda file: picture.save(file, format="PNG"))
