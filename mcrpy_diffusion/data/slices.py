"""Slices of volumes, as sources of training structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcrpy_diffusion.data.raw_images import RawImage
from mcrpy_diffusion.errors import InputError, one_line
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


def volume_records(slices: Sequence[VolumeSlice]) -> list[dict[str, Any]]:
    """Return the shape of each volume and the axes of its slices, for the recipe of a data set."""
    records: list[dict[str, Any]] = []
    for each in slices:
        if each.index == 0 and (not records or AXES[each.axis] in records[-1]["along"]):
            records.append({"shape": list(each.shape), "along": []})
        if each.index == 0:
            records[-1]["along"].append(AXES[each.axis])
    return records


def recorded_slices(records: Any, n: int) -> list[VolumeSlice]:
    """Return the `n` slices of records that `volume_records` made; raise InputError if they are damaged."""
    found: list[VolumeSlice] = []
    try:
        for record in records:
            i, j, k = (int(length) for length in record["shape"])
            for axis in map(AXES.index, record["along"]):
                if (i, j, k)[axis] > n:
                    raise ValueError("more slices than images")
                found += [VolumeSlice(axis, index, (i, j, k)) for index in range((i, j, k)[axis])]
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"the record of the volumes is damaged: {one_line(error)}") from error
    if len(found) != n:
        raise InputError(f"the record of the volumes must be of {n} slices, got {len(found)}")
    return found


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
