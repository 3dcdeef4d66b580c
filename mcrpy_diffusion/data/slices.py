"""Slices of volumes, as sources of training structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcrpy_diffusion.data.raw_images import RawImage
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings.images import AXES


@dataclass(frozen=True)
class VolumeSlice:
    """The position of a slice in its volume.

    Attributes
    ----------
    axis : int
        Normal to the slice: 0, 1 or 2.
    index : int
        Position along the axis.
    shape : (int, int, int)
        Of the volume.
    """

    axis: int
    index: int
    shape: tuple[int, int, int]


def slices_of(images: Sequence[RawImage], along: Sequence[str]) -> list[tuple[RawImage, VolumeSlice | None]]:
    """Return all slices of a volume that are normal to the given axes.

    Parameters
    ----------
    images : sequence of RawImage
        The planes of the volume, normal to its first axis.
    along : sequence of str
        Of x, y and z: the first, second and third axis.

    Raises
    ------
    InputError
        If there is only one plane, or the planes differ in size or type.
    """
    name = images[0].name.rpartition("[")[0] or images[0].name
    shapes = {(image.values.shape, image.values.dtype, image.white) for image in images}
    if len(images) < 2 or len(shapes) > 1:
        got = "one plane" if len(images) < 2 else "planes of several sizes or depths"
        raise InputError(f"with --slices_along, {name!r} must hold a volume, got {got}")
    volume = np.stack([image.values for image in images])
    shape = (volume.shape[0], volume.shape[1], volume.shape[2])
    found: list[tuple[RawImage, VolumeSlice | None]] = []
    for axis in (AXES.index(letter) for letter in along):
        for index, plane in enumerate(np.moveaxis(volume, axis, 0)):
            image = images[0].with_values(plane, f"{name}[{AXES[axis]} {index}]")
            found.append((image, VolumeSlice(axis, index, shape)))
    return found
