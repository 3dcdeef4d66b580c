"""A look at what a network has learned so far: a few structures as one picture."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from mcrpy_diffusion.io.files import write_atomically

if TYPE_CHECKING:
    from mcrpy_diffusion.diffusion.unet import UNet
    from mcrpy_diffusion.models.checkpoint import ModelInfo

N_STRUCTURES, N_STEPS = 8, 50


def write_preview(path: str | os.PathLike[str], network: UNet, info: ModelInfo, *, device: str) -> None:
    """Draw eight structures side by side as a grey PNG file, from the same noise at every call.

    Parameters
    ----------
    path : path
    network : UNet
        On `device`.
    info : ModelInfo
    device : str
        As in `Model`.
    """
    from PIL import Image

    from mcrpy_diffusion.models.model import Model

    n_steps = min(N_STEPS, info.settings.n_timesteps)
    structures = Model(network, info, device=device).sample(
        N_STRUCTURES, sampler="ddim", n_steps=n_steps, precision=info.settings.precision
    )
    levels = structures / max(info.n_phases - 1, 1) * 255
    framed = np.pad(levels.astype(np.uint8), ((0, 0), (0, 0), (0, 4)), constant_values=128)
    picture = Image.fromarray(np.concatenate(list(framed), axis=1))
    write_atomically(path, lambda file: picture.save(file, format="PNG"))
