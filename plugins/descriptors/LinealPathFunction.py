"""MCRpy descriptor: the lineal path function L(r), exact on phases and differentiable on soft structures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from mcrpy.descriptors.PhaseDescriptor import PhaseDescriptor
from mcrpy.src import descriptor_factory

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.spatial_statistics import DIRECTIONS_2D

LABELS = ("vertical", "horizontal", "falling diagonal", "rising diagonal")
LINE_STYLES = ("-", "--", "-.", ":")


class LinealPathFunction(PhaseDescriptor):
    """Probability L(r) that a segment of r + 1 pixels lies entirely in the phase, eq. (22) of Lee & Yun (2023).

    The value is a (4, limit_to) float64 array: the directions of `DIRECTIONS_2D` (along axis 0, along axis 1, and the
    two diagonals, whose segments have length sqrt(2) r) and r = 0 ... limit_to - 1. For a soft structure, whose pixels
    s(x) in [0, 1] are probabilities, L is the mean of the product of s along the segment.
    """

    is_differentiable = True

    @staticmethod
    def make_singlephase_descriptor(
        desired_shape_2d: tuple[int, int] = (64, 64), limit_to: int = 16, periodic: bool = True, **kwargs: Any
    ) -> Callable[[tf.Tensor], tf.Tensor]:
        """Return the function (1, I, J, 1) -> (4, limit_to), TensorFlow in and out.

        Parameters
        ----------
        desired_shape_2d : (int, int)
            I, J.
        limit_to : int, in 1 ... min(I, J)
            Number of distances.
        periodic : bool
            Whether segments wrap around the edges. If not, only segments inside the structure are counted.

        Raises
        ------
        InputError
            If `limit_to` is out of range.
        """
        if kwargs.get("full_3d"):  # of MCRpy's repository
            raise InputError("full_3d must be False with LinealPathFunction, which describes slices, got True")
        shape = int(desired_shape_2d[0]), int(desired_shape_2d[1])
        if not 1 <= limit_to <= min(shape):
            raise InputError(
                f"limit_to must be between 1 and {min(shape)} for {shape[0]} x {shape[1]} pixels, got {limit_to}"
            )
        # If not periodic, a row and a column of zeros end the segments that would cross an edge.
        around = shape if periodic else (shape[0] + 1, shape[1] + 1)
        groups = [[0, 1, 2, 3]] if shape[0] == shape[1] else [[0, 2, 3], [1]]  # of directions with equally many lines
        indices = [np.stack([_along(around, DIRECTIONS_2D[k], limit_to) for k in group], axis=1) for group in groups]
        order = np.argsort(np.concatenate(groups))
        n_segments = _n_segments(shape, limit_to, periodic)
        sums_along = _make_sums(limit_to)

        @tf.function
        def compute_descriptor(microstructure: tf.Tensor) -> tf.Tensor:
            soft = tf.reshape(tf.cast(microstructure, tf.float64), shape)
            if not periodic:
                soft = tf.pad(soft, [[0, 1], [0, 1]])
            sums = [sums_along(tf.gather(tf.reshape(soft, [-1]), index)) for index in indices]
            return tf.gather(tf.concat(sums, axis=0), order) / n_segments

        return compute_descriptor

    @staticmethod
    def define_comparison_mask(
        desired_descriptor_shape: tuple[int, ...] | None = None, limit_to: int | None = None, **kwargs: Any
    ) -> tuple[np.ndarray | None, bool]:
        """Return the mask of the entries that both curves have, and whether the current curve is longer."""
        if desired_descriptor_shape is None or limit_to is None:
            raise ValueError("desired_descriptor_shape and limit_to must be given")
        if len(desired_descriptor_shape) != 2 or desired_descriptor_shape[0] != len(DIRECTIONS_2D):
            raise InputError(
                f"the desired LinealPathFunction must have shape (4, limit_to), got {tuple(desired_descriptor_shape)}"
            )
        desired = desired_descriptor_shape[1]
        if limit_to == desired:
            return None, False
        mask = np.zeros((len(DIRECTIONS_2D), max(limit_to, desired)), dtype=np.bool_)
        mask[:, : min(limit_to, desired)] = True
        return mask, limit_to > desired

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
        """Plot L over the length of the segment, one line per direction."""
        for curve, step, label, style in zip(descriptor_value, DIRECTIONS_2D, LABELS, LINE_STYLES, strict=True):
            ax.plot(np.arange(len(curve)) * np.hypot(*step), curve, linestyle=style, label=label)
        ax.set_title(f"L: l={mg_level}, p={n_phase}")
        ax.set_xlabel(r"$r$ in Px")
        ax.set_ylabel(r"$L(r)$")
        ax.set_ylim(bottom=0)
        ax.legend(fontsize="x-small")
        if not axis:  # of MCRpy's repository
            ax.set_axis_off()


def _along(shape: tuple[int, int], step: tuple[int, ...], n_lengths: int) -> np.ndarray:
    """Index the pixels of a periodic image along a direction.

    Returns
    -------
    (n + n_lengths - 1, m) int
        Flat indices: each column is a line with increment `step`; the first n rows hold every pixel once.
    """
    n, m = shape if step[0] else shape[::-1]
    t, c = np.arange(n + n_lengths - 1)[:, None], np.arange(m)[None]
    i, j = (t, c + step[1] * t) if step[0] else (c, t)
    return i % shape[0] * shape[1] + j % shape[1]


def _n_segments(shape: tuple[int, int], n_lengths: int, periodic: bool) -> np.ndarray:
    """Count the segments of r + 1 pixels in an image, (4, n_lengths)."""
    r = np.arange(n_lengths)
    steps = np.abs(DIRECTIONS_2D)
    inside = [(shape[0] - di * r) * (shape[1] - dj * r) for di, dj in steps]
    return np.full((len(steps), n_lengths), shape[0] * shape[1], float) if periodic else np.array(inside, float)


def _make_sums(n_lengths: int) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return the function that sums the products of 1 ... n_lengths successive pixels, starting at every pixel.

    It takes (n + n_lengths - 1, D, m) pixels along D directions and returns (D, n_lengths). For phases, all 0 or 1, the
    sums are counts of runs, which are much faster to compute; the gradient is that of the products.
    """

    @tf.custom_gradient
    def sums(lines: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                tape.watch(lines)
                products = _sums_of_products(lines, n_lengths)
            return tape.gradient(products, lines, upstream)

        are_phases = tf.reduce_all((lines == 0) | (lines == 1))
        value = tf.cond(
            are_phases, lambda: _counts_of_runs(lines, n_lengths), lambda: _sums_of_products(lines, n_lengths)
        )
        return value, gradient

    return sums


def _sums_of_products(lines: tf.Tensor, n_lengths: int) -> tf.Tensor:
    n, n_directions, m = lines.shape[0] - n_lengths + 1, lines.shape[1], lines.shape[2]

    def one_longer(r: tf.Tensor, product: tf.Tensor, sums: tf.TensorArray) -> tuple[tf.Tensor, tf.Tensor, Any]:
        product = product * tf.slice(lines, [r, 0, 0], [n, n_directions, m])
        return r + 1, product, sums.write(r, tf.reduce_sum(product, axis=(0, 2)))

    _, _, sums = tf.while_loop(
        lambda r, *_: r < n_lengths,
        one_longer,
        (0, tf.ones_like(lines[:n]), tf.TensorArray(tf.float64, n_lengths, element_shape=(n_directions,))),
        maximum_iterations=n_lengths,
    )
    return tf.transpose(sums.stack())


def _counts_of_runs(lines: tf.Tensor, n_lengths: int) -> tf.Tensor:
    """Count the pixels at which a run of more than r ones starts.

    Run lengths are computed by doubling: the length, truncated at 2^k, is the length truncated at 2^(k-1), plus that of
    the following run if the truncated length is reached.
    """
    run = tf.cast(lines, tf.int32)
    longest = 1
    while longest < n_lengths:
        following = tf.pad(run[longest:], [[0, longest], [0, 0], [0, 0]])
        run += tf.where(run == longest, following, 0)
        longest *= 2
    n_directions, n_bins = lines.shape[1], n_lengths + 1
    run = tf.minimum(run[: lines.shape[0] - n_lengths + 1], n_lengths)
    bins = run + n_bins * np.arange(n_directions, dtype=np.int32)[:, None]
    histogram = tf.math.bincount(tf.reshape(bins, [-1]), minlength=n_bins * n_directions, dtype=tf.int64)
    at_least = tf.cumsum(tf.reshape(histogram, (n_directions, n_bins)), axis=1, reverse=True)
    return tf.cast(at_least[:, 1:], tf.float64)


def register() -> None:
    """Make the descriptor known to MCRpy."""
    descriptor_factory.register("LinealPathFunction", LinealPathFunction)
