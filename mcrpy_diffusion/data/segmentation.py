"""Thresholds of grey images, and the phases between them.

Otsu's method and its extension to several phases are scikit-image's. The histogram is made here: of all images
together, block by block, and without outliers.

References
----------
N. Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. Syst. Man Cybern. 9 (1979) 62.
P.-S. Liao et al., "A fast algorithm for multilevel thresholding", J. Inf. Sci. Eng. 17 (2001) 713.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcrpy_diffusion.data.levels import row_blocks
from mcrpy_diffusion.errors import InputError

MAX_EXACT_BINS = 2**16
"""Integers with a range of up to this have one bin for each value."""
N_BINS = 1024
"""Bins of other values."""
N_COARSE_BINS = 256
"""For several thresholds, whose search takes time that grows with a power of the number of bins."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of grey values in bins of equal width.

    Attributes
    ----------
    counts : (B,) int64
        The first and the last are not 0.
    low, width : float
        Lower edge of the first bin and width of a bin; if `exact`, the value of the first bin and the distance of two.
    exact : bool
        Whether a bin is an integer value.
    """

    counts: np.ndarray
    low: float
    width: float
    exact: bool

    @property
    def values(self) -> np.ndarray:
        """The grey value in the middle of each bin, (B,)."""
        return self.low + self.width * (np.arange(len(self.counts)) + (0.0 if self.exact else 0.5))

    def threshold_after(self, last_below: int) -> float:
        """Return the threshold above bin `last_below`, in the middle of the empty bins there."""
        filled = np.flatnonzero(self.counts)
        below, above = filled[filled <= last_below][-1], filled[filled > last_below][0]
        middle = (below + above - 1) / 2
        return self.low + self.width * (middle if self.exact else middle + 1)


@dataclass(frozen=True, eq=False)
class Thresholds:
    """The thresholds of grey images.

    Attributes
    ----------
    values : tuple of float
        Increasing; phase k is above k of them.
    histogram : Histogram
        What they were determined from.
    n_outliers : int
        Pixels that were left out of the histogram.
    """

    values: tuple[float, ...]
    histogram: Histogram
    n_outliers: int = 0


def histogram(images: Sequence[np.ndarray], low: float, high: float, *, fine: bool = True) -> Histogram:
    """Count the grey values from `low` to `high`, which both occur and differ, of images (I, J).

    Integers with a range below 65536 have one bin for each value, other values 1024 bins; where `fine` is False, the
    limit and the number of bins are 256.
    """
    most_exact, n_bins = (MAX_EXACT_BINS, N_BINS) if fine else (N_COARSE_BINS, N_COARSE_BINS)
    exact = all(values.dtype.kind in "biu" for values in images) and high - low < most_exact
    if exact:
        n_bins = int(high - low) + 1
    counts = np.zeros(n_bins, dtype=np.int64)
    for rows in (block for values in images for block in row_blocks(values)):
        chosen = rows.astype(np.float64).ravel()
        chosen = chosen[(chosen >= low) & (chosen <= high)]
        position = (chosen - low) / (high - low)
        bins = np.rint(position * (n_bins - 1)) if exact else np.minimum(position * n_bins, n_bins - 1)
        counts += np.bincount(bins.astype(np.intp), minlength=n_bins)
    return Histogram(counts, low, 1.0 if exact else high / n_bins - low / n_bins, exact)


def find_thresholds(images: Sequence[np.ndarray], *, n_classes: int | None = None) -> Thresholds:
    """Return the thresholds that best separate the classes of grey images by Otsu's method.

    Parameters
    ----------
    images : sequence of arrays of integers or floats
        Finite grey values, at least two levels in all.
    n_classes : int, optional
        Number of classes of the multi-level method; by default, Otsu's own method for two.

    Returns
    -------
    Thresholds
        `n_classes` - 1 values; each class has at least one pixel.

    Raises
    ------
    InputError
        If there are fewer levels than classes.

    Notes
    -----
    The thresholds maximise the variance between the classes. If the lowest or the highest class has at most
    `outlier_limit` pixels, they are taken for defects of the detector and left out, and the thresholds are determined
    again.
    """
    n_pixels = sum(values.size for values in images)
    above, up_to = -np.inf, np.inf  # grey values that are not outliers
    low, high = _range(images, above, up_to)
    while True:
        counted = histogram(images, low, high, fine=n_classes is None)
        last_below = _otsu(counted, n_classes)
        values = tuple(_inside(counted.threshold_after(k), low, high) for k in last_below)
        n_below, n_above = counted.counts[: last_below[0] + 1].sum(), counted.counts[last_below[-1] + 1 :].sum()
        if n_below <= outlier_limit(n_pixels):
            above = values[0]
        if n_above <= outlier_limit(n_pixels):
            up_to = values[-1]
        kept = _range(images, above, up_to)
        if kept == (low, high) or kept[0] == kept[1]:
            return Thresholds(values, counted, n_pixels - int(counted.counts.sum()))
        low, high = kept


def outlier_limit(n_pixels: int) -> int:
    """Return how many pixels of an extreme grey value count as outliers: 0.01 %, at least 4, at most 0.1 %."""
    return min(max(4, n_pixels // 10_000), n_pixels // 1_000)


def otsu_threshold(values: np.ndarray) -> float:
    """Return the grey value in [min, max) that best separates an image into two classes; the upper one is above it.

    Parameters
    ----------
    values : array of integers or floats
        Finite grey values with at least two levels; see `find_thresholds`.
    """
    return find_thresholds([values.reshape(len(values), -1)]).values[0]


def apply_thresholds(values: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Return the phases (I, J) uint8 of a grey image: the number of thresholds that each value is above."""
    phases = np.zeros(values.shape, dtype=np.uint8)
    for rows, out in zip(row_blocks(values), row_blocks(phases), strict=True):
        grey = rows.astype(np.float64)
        for threshold in thresholds:
            out += grey > threshold
    return phases


def median_filtered(values: np.ndarray, size: int) -> np.ndarray:
    """Return an image (I, J) after a median filter of `size` x `size` pixels; edge pixels are repeated outside."""
    from skimage.filters import median

    filtered = median(values.astype(np.float32) if values.dtype == np.float16 else values, np.ones((size, size)))
    return np.asarray(filtered, dtype=values.dtype)


def _range(images: Sequence[np.ndarray], above: float, up_to: float) -> tuple[float, float]:
    """Return the smallest and the largest grey value within (above, up_to]."""
    low, high = np.inf, -np.inf
    for rows in (block for values in images for block in row_blocks(values)):
        grey = rows.astype(np.float64)
        kept = grey[(grey > above) & (grey <= up_to)]
        if kept.size:
            low, high = min(low, float(kept.min())), max(high, float(kept.max()))
    return low, high


def _otsu(counted: Histogram, n_classes: int | None) -> list[int]:
    """Return the last bin below each threshold."""
    from skimage.filters import threshold_multiotsu, threshold_otsu

    bins = np.arange(len(counted.counts), dtype=np.float64)
    if n_classes is None:
        return [int(threshold_otsu(hist=(counted.counts, bins)))]
    n_levels = np.count_nonzero(counted.counts)
    if n_levels < n_classes:
        raise InputError(f"multiotsu must have at most as many phases as grey levels, {n_levels}, got {n_classes}")
    shares = counted.counts / counted.counts.sum()
    return [int(k) for k in threshold_multiotsu(classes=n_classes, hist=(shares, bins))]


def _inside(threshold: float, low: float, high: float) -> float:
    """Keep rounding from emptying the highest class."""
    return float(min(threshold, np.nextafter(high, low)))
