"""Known pixels of the structures: read from an image and a mask, and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mcrpy_diffusion.data.micrograph import read_micrograph
from mcrpy_diffusion.data.phase_encoding import encode
from mcrpy_diffusion.errors import InputError

if TYPE_CHECKING:
    from mcrpy_diffusion.diffusion.known_pixels import KnownPixels


def read_known_pixels(image: str, mask: str | None, n_phases: int, extent: tuple[int, ...]) -> tuple[KnownPixels, str]:
    """Read the pixels that are known, and return them with the hash of both files.

    Parameters
    ----------
    image : str
        File of a micrograph, at most as large as the structures; it comes into their middle.
    mask : str or None
        File of an image of the same shape, not 0 where the micrograph is known; by default everywhere.
    n_phases : int
        0 for grey values.
    extent : (int, int)
        Of the structures.

    Raises
    ------
    InputError
        If a file cannot be used, or the shapes or numbers of phases do not fit.
    """
    import torch

    from mcrpy_diffusion.diffusion.known_pixels import KnownPixels

    if len(extent) != 2:
        raise InputError(f"known must be given for images, got a volume of {_size(extent)}")
    found = read_micrograph(image, grey_values=n_phases == 0, use_multiphase=n_phases > 2)
    shape = found.phases.shape
    if n_phases and found.n_phases > n_phases:
        raise InputError(f"{image} must have {n_phases} phases, as the model, got {found.n_phases}")
    if any(size > room for size, room in zip(shape, extent, strict=True)):
        raise InputError(f"{image} must be at most {_size(extent)}, as the structures, got {_size(shape)}")
    where, digest = np.ones(shape, bool), found.sha256
    if mask is not None:
        given = read_micrograph(mask)
        if given.phases.shape != shape:
            raise InputError(f"{mask} must be {_size(shape)}, as {image}, got {_size(given.phases.shape)}")
        where, digest = given.phases > 0, f"{digest} {given.sha256}"
    if shape == tuple(extent) and where.all():
        raise InputError(f"{image} leaves no pixel unknown; give a mask with known_mask, or a larger extent")
    room = [((all_ - own) // 2, all_ - own - (all_ - own) // 2) for own, all_ in zip(shape, extent, strict=True)]
    channels = encode(torch.from_numpy(np.pad(found.phases, room)[None]), n_phases)[0]
    return KnownPixels(channels, torch.from_numpy(np.pad(where, room))), digest


def check_volume_fractions(known: KnownPixels, rows: np.ndarray) -> None:
    """Raise InputError where the known pixels exclude volume fractions (N, C') of phases 1, 2, ..."""
    import torch

    width = rows.shape[1]
    least = known.whole_fractions(torch.zeros(1, width))[0].numpy()
    most = least + 1 - float(known.mask.double().mean())
    n_pixels = known.mask.numel()
    for phase in range(width):
        low, high = rows[:, phase].min(), rows[:, phase].max()
        if low < least[phase] - 0.5 / n_pixels or high > most[phase] + 0.5 / n_pixels:
            raise InputError(
                f"the volume fraction of phase {phase + 1} must be between {least[phase]:.4g} and {most[phase]:.4g} "
                f"with these known pixels, got {low if low < least[phase] else high:.4g}"
            )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
