"""MCRpy descriptor: the pixel mean squared error to the nearest image of a reference set."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from mcrpy.descriptors.PhaseDescriptor import PhaseDescriptor
from mcrpy.src import descriptor_factory

from mcrpy_diffusion.data.micrograph import read_source
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge.plugin_options import get_option
from mcrpy_diffusion.settings import ImageSettings

_BLOCK_PIXELS = 2**22  # references are searched in blocks of about this many pixels


class PixelMSE(PhaseDescriptor):
    """Mean squared pixel difference to the nearest reference, eq. (24) of Lee & Yun (2023), for each phase.

    The nearest reference has the smallest difference over all phases, and for periodic structures over all shifts. The
    value 0 is a copy. With up to two phases the value is the fraction of differing pixels; with more phases that
    fraction is half of the sum over the phases.

    The references are given by the option `references`: arrays (M, I, J), files, or folders of files. References that
    are 2, 4, ... times as large as the structure are averaged over blocks, as MCRpy does at coarser levels.
    """

    is_differentiable = True

    @classmethod
    def make_descriptor(
        cls,
        desired_shape_2d: tuple[int, int] | None = None,
        desired_shape_extended: tuple[int, ...] | None = None,
        use_multigrid_descriptor: bool = True,
        use_multiphase: bool = True,
        limit_to: int = 8,
        **kwargs: Any,
    ) -> Callable[[tf.Tensor], tf.Tensor]:
        """Return the function (1, I, J, C) -> (C, levels), TensorFlow in and out.

        All phases are compared together; MCRpy's `PhaseDescriptor` would pass them one by one.

        Raises
        ------
        InputError
            If there are no references, or their shapes or values differ from those of the structure.
        """
        if desired_shape_2d is None or desired_shape_extended is None:
            raise ValueError("desired_shape_2d and desired_shape_extended must be given")
        if kwargs.get("full_3d"):  # of MCRpy's repository
            raise InputError("full_3d must be False with PixelMSE, which describes slices, got True")
        references = get_option("references", kwargs)
        if references is None:
            raise InputError("PixelMSE needs references: give --references FILE ..., or set settings.references")
        kwargs["references"] = _read(references, int(desired_shape_extended[-1]))
        make = cls.make_multigrid_descriptor if use_multigrid_descriptor else cls.make_singlegrid_descriptor
        per_level = make(
            limit_to=limit_to,
            desired_shape_2d=desired_shape_2d,
            desired_shape_extended=desired_shape_extended,
            **kwargs,
        )

        @tf.function
        def per_phase(microstructure: tf.Tensor) -> tf.Tensor:
            return tf.transpose(per_level(microstructure))

        return per_phase

    @staticmethod
    def make_singlephase_descriptor(
        desired_shape_2d: tuple[int, int] = (64, 64),
        references: np.ndarray | None = None,
        periodic: bool = True,
        **kwargs: Any,
    ) -> Callable[[tf.Tensor], tf.Tensor]:
        """Return the function (1, I, J, C) -> (C,), for references (M, I, J, C) in [0, 1]."""
        if references is None:
            raise ValueError("references must be an array (M, I, J, C), got None")
        shape = int(desired_shape_2d[0]), int(desired_shape_2d[1])
        known = _averaged(references, shape)
        size = max(_BLOCK_PIXELS // known[0].size, 1)
        blocks = [known[start : start + size] for start in range(0, len(known), size)]
        searches = [_make_search(block, periodic) for block in blocks]

        @tf.function
        def compute_descriptor(microstructure: tf.Tensor) -> tf.Tensor:
            x = tf.reshape(tf.cast(microstructure, tf.float64), known.shape[1:])
            distances, nearest = zip(*(search(tf.stop_gradient(x)) for search in searches))
            best = tf.gather(tf.stack(nearest), tf.argmin(tf.stack(distances)))
            return tf.reduce_mean(tf.math.squared_difference(x, best), axis=(0, 1))

        return compute_descriptor

    @classmethod
    def visualize_subplot(
        cls,
        descriptor_value: np.ndarray,
        ax: Any,
        descriptor_type: str | None = None,
        mg_level: int | None = None,
        n_phase: int | None = None,
        axis: bool = True,
    ) -> None:
        """Draw the distance as a bar with its number."""
        value = float(np.asarray(descriptor_value).squeeze())
        bars = ax.bar(["nearest"], [value])
        ax.bar_label(bars, fmt="%.4f")
        ax.set_ylim(0, max(1.2 * value, 0.05))
        ax.set_title(f"MSE: l={mg_level}, p={n_phase}")
        if not axis:  # of MCRpy's repository
            ax.set_axis_off()


def _make_search(known: np.ndarray, periodic: bool) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Return the function (I, J, C) -> smallest sum of squared differences, and the nearest (shifted) reference.

    The sum of (x - y)^2 is the sum of x^2 + y^2 - 2 x y. The last term, for all shifts, is a correlation by FFT.
    """
    references = tf.constant(known)
    energy = tf.reduce_sum(references**2, axis=(1, 2, 3))
    _, n_rows, n_columns, _ = known.shape
    channels_first = [0, 3, 1, 2]
    spectrum = tf.math.conj(tf.signal.rfft2d(tf.transpose(references, channels_first))) if periodic else None

    def search(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        if spectrum is None:
            overlap = tf.einsum("ijc,mijc->m", x, references)[:, None, None]
        else:
            product = tf.signal.rfft2d(tf.transpose(x, [2, 0, 1])) * spectrum
            overlap = tf.signal.irfft2d(tf.reduce_sum(product, axis=1), [n_rows, n_columns])
        squares = tf.reduce_sum(x**2) + energy[:, None, None] - 2 * overlap
        flat = tf.reshape(squares, [-1])
        where = tf.argmin(flat, output_type=tf.int32)
        n_shifts = flat.shape[0] // len(known)
        which, shift = where // n_shifts, where % n_shifts
        nearest = tf.roll(references[which], [shift // squares.shape[2], shift % squares.shape[2]], axis=[0, 1])
        return flat[where], nearest

    return search


def _read(references: Any, n_channels: int) -> np.ndarray:
    """Return the references as (M, I, J, C) channels in [0, 1], C = `n_channels`."""
    if isinstance(references, np.ndarray):
        images = [references] if references.ndim == 2 else list(references)
    else:
        images = _images(references, n_channels > 2)
    extents = sorted({np.shape(image) for image in images})
    if len(images) == 0 or len(extents) != 1 or len(extents[0]) != 2:
        found = ", ".join(map(str, extents)) or "no image"
        raise InputError(f"the references must be images (I, J) of one shape, got {found}")
    values = np.stack(images)
    is_grey = values.dtype.kind == "f" and not np.isin(values, np.arange(256)).all()
    highest = 1 if is_grey or n_channels == 1 else n_channels - 1
    if values.min() < 0 or values.max() > highest or (is_grey and n_channels > 1):
        kind = "phases" if n_channels > 1 else "values"
        found = f"{values.min()} to {values.max()}"
        raise InputError(f"the references must have {kind} between 0 and {highest}, got {found}")
    if n_channels == 1:
        return values[..., None].astype(np.float64)
    return (values[..., None] == np.arange(n_channels)).astype(np.float64)


def _images(references: Any, use_multiphase: bool) -> list[np.ndarray]:
    """Read files and folders of files; arrays are returned as they are."""
    paths: Sequence[Any] = [references] if isinstance(references, (str, os.PathLike)) else list(references)
    images = []
    for entry in paths:
        if isinstance(entry, np.ndarray):
            images.append(entry)
            continue
        found = read_source([entry], ImageSettings(use_multiphase=use_multiphase), several=True)
        images += [micrograph.phases for micrograph in found]
    return images


def _averaged(references: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Average references (M, I, J, C) over blocks of 1, 2, 4, ... pixels, so that (I, J) becomes `shape`."""
    n_images, n_rows, n_columns, n_channels = references.shape
    factor = n_rows // shape[0]
    if factor < 1 or factor & (factor - 1) or (n_rows // factor, n_columns // factor) != shape:
        raise InputError(
            f"the references must have {shape[0]} x {shape[1]} pixels, or 2, 4, ... times as many per axis, got "
            f"{n_rows} x {n_columns}"
        )
    cut = references[:, : shape[0] * factor, : shape[1] * factor]
    return cut.reshape(n_images, shape[0], factor, shape[1], factor, n_channels).mean(axis=(2, 4))


def register() -> None:
    """Make the descriptor known to MCRpy."""
    descriptor_factory.register("PixelMSE", PixelMSE)
