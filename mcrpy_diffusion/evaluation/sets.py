"""One measure of two sets of structures -> difference, interval, and sampling floor between real ones."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from scipy.special import ndtri, stdtrit

from mcrpy_diffusion.evaluation.results import Counts, CurveDiscrepancy, ScalarComparison
from mcrpy_diffusion.metrics.arrays import areas
from mcrpy_diffusion.metrics.frechet_distance import MIN_RESAMPLED, N_RESAMPLES, centred_interval, random_halves
from mcrpy_diffusion.metrics.spatial_statistics import discrepancy

N_FLOOR_DRAWS = 1000
FLOOR_SEED = 0
FLOOR_PERCENTILE = 95
MIN_WINDOWS = 4.0
"""Independent windows of a micrograph below which its scatter is unknown: there is no floor and no interval."""


def bootstrap_sizes(n: int, n_images: int, n_windows: float | None = None) -> tuple[int, int]:
    """Return the sizes of two sets of real images that scatter as the original and the generated structures.

    Parameters
    ----------
    n : int
        Number of real images.
    n_images : int
        Number of generated ones.
    n_windows : float, optional
        Number of independent windows w that the real images overlap in, above 1; by default, they are independent.

    Notes
    -----
    Overlapping images scatter around their own mean with the variance v (1 - 1 / w), where v is the variance of one
    image. The mean of all has the variance v / w. Images drawn from them therefore have to be fewer: w - 1 in place of
    w, and (1 - 1 / w) times the number of generated images. That n images were drawn from the windows adds 1 / n.
    """
    if n_windows is None:
        return n, n_images
    originals = 1 / (1 / (n_windows - 1) + 1 / n)
    return max(round(originals), 1), max(round(n_images * (1 - 1 / n_windows)), 1)


@lru_cache(maxsize=4)  # all measures of an evaluation use the same
def bootstrap_counts(
    n: int, n_images: int, *, n_windows: float | None = None, n_draws: int = N_FLOOR_DRAWS, seed: int = FLOOR_SEED
) -> tuple[np.ndarray, np.ndarray]:
    """Draw two bootstrap sets of real images; all measures of an evaluation use the same.

    Parameters
    ----------
    n, n_images, n_windows
        As in `bootstrap_sizes`.

    Returns
    -------
    originals, others : (n_draws, n) int64, read-only
        How often each image is in a set as the original ones, and in one as the generated ones.
    """
    rng = np.random.default_rng(seed)
    n_originals, n_others = bootstrap_sizes(n, n_images, n_windows)
    others, originals = (_times(rng.integers(n, size=(n_draws, size)), n) for size in (n_others, n_originals))
    return originals, others


def _times(indices: np.ndarray, n: int) -> np.ndarray:
    """Count how often each of n indices is in each row (n_draws, size)."""
    places = indices + n * np.arange(len(indices))[:, None]
    times = np.bincount(places.ravel(), minlength=n * len(indices)).reshape(len(indices), n)
    times.flags.writeable = False
    return times


def bootstrap_means(
    values: np.ndarray,
    n_images: int,
    *,
    n_windows: float | None = None,
    n_draws: int = N_FLOOR_DRAWS,
    seed: int = FLOOR_SEED,
) -> tuple[np.ndarray, np.ndarray]:
    """Return means (n_draws, ...) of values (N, ...) over two bootstrap sets, see `bootstrap_counts`."""
    drawn = bootstrap_counts(len(values), n_images, n_windows=n_windows, n_draws=n_draws, seed=seed)
    sizes = bootstrap_sizes(len(values), n_images, n_windows)
    first, second = (np.tensordot(times, values, axes=1) / size for times, size in zip(drawn, sizes))
    return first, second


def sampling_floor(
    curves: np.ndarray,
    n_images: int,
    *,
    n_windows: float | None = None,
    n_draws: int = N_FLOOR_DRAWS,
    seed: int = FLOOR_SEED,
) -> np.ndarray:
    """Measure the discrepancy between two bootstrap sets of real images, which follows from their sizes alone.

    Parameters
    ----------
    curves : (N, r)
        One curve per real image.
    n_images, n_windows
        As in `bootstrap_sizes`.
    n_draws : int
        Number of draws, each with replacement.
    seed : int
        Seed of the draws.

    Returns
    -------
    (n_draws,) float64
        Discrepancy of the mean curves of both, percent, eq. (23); draws whose first set lacks the phase are left out.

    Notes
    -----
    The difference between the means of M images and of N independent ones has the standard deviation of single images
    times sqrt(1 / M + 1 / N).
    """
    first, second = bootstrap_means(curves, n_images, n_windows=n_windows, n_draws=n_draws, seed=seed)
    area = areas(first)
    has_phase = area > 0
    return 100 * areas(np.abs(second - first))[has_phase] / area[has_phase]


def has_floor(n: int, n_windows: float | None) -> bool:
    """Whether n real images tell how far real images scatter."""
    return n > 1 and (n_windows is None or n_windows >= MIN_WINDOWS)


def widening(n: float) -> float:
    """Return by how much a 95 % range grows because the scatter itself comes from n images: Student's t to normal."""
    return float(stdtrit(n - 1, 0.975) / ndtri(0.975))


def compare_scalars(
    values: Mapping[str, np.ndarray], *, phase: int, n_images: Counts | None = None, n_windows: float | None = None
) -> ScalarComparison:
    """Compare a number per structure between sets.

    Parameters
    ----------
    values : mapping
        `original` (N,), `generated` (M,) and, if available, `held_out` and `training`.
    phase : int
        The phase that was measured.
    n_images : Counts, optional
        Structures behind the values; by default, one for each value.
    n_windows : float, optional
        As in `bootstrap_sizes`. Below `MIN_WINDOWS` there is no interval and no floor.

    Returns
    -------
    ScalarComparison
        With the 95 % interval and the sampling floor.
    """
    real, made, held_out = values["original"], values["generated"], values.get("held_out")
    means = {name: float(each.mean()) for name, each in values.items()}
    stds = {f"{name}_std": float(each.std()) for name, each in values.items()}
    difference = float(made.mean() - real.mean())
    floors = None
    if has_floor(len(real), n_windows):
        first, second = bootstrap_means(real, len(made), n_windows=n_windows)
        floors = np.abs(second - first)
    mean, high, p_value = _floor_figures(floors, abs(difference), widening(n_windows or len(real)))
    return ScalarComparison(
        **means,
        **stds,
        difference=difference,
        interval=_interval(real, made, n_windows),
        held_out_difference=None if held_out is None else float(made.mean() - held_out.mean()),
        floor=mean,
        floor_95=high,
        p_value=p_value,
        phase=phase,
        n_images=n_images or Counts(**{name: len(each) for name, each in values.items()}),
    )


def compare_curves(curves: Mapping[str, np.ndarray], *, n_windows: float | None = None) -> CurveDiscrepancy:
    """Compare a curve per structure between sets, by the discrepancies of the mean curves.

    Parameters
    ----------
    curves : mapping
        `original` (N, r), `generated` (M, r) and, if available, `held_out` and `training`.
    n_windows : float, optional
        As in `bootstrap_sizes`. Below `MIN_WINDOWS` there is no interval and no floor.

    Returns
    -------
    CurveDiscrepancy

    Notes
    -----
    Sampling moves the discrepancy by at most the discrepancy that it makes between equal sets (triangle inequality).
    Its 95 % interval is therefore the value plus or minus the 95th percentile of the floor, cut at 0.
    """
    mean = {name: values.mean(axis=0) for name, values in curves.items()}
    real, made = curves["original"], curves["generated"]
    value = _discrepancy(mean, "original", "generated")
    floors = signed = signed_interval = None
    if value is not None:
        scale = 100 / areas(mean["original"])
        sizes = {name: scale * areas(each) for name, each in (("original", real), ("generated", made))}
        signed = float(sizes["generated"].mean() - sizes["original"].mean())
        signed_interval = _interval(sizes["original"], sizes["generated"], n_windows)
        if has_floor(len(real), n_windows):
            floors = sampling_floor(real, len(made), n_windows=n_windows)
    floor, high, p_value = _floor_figures(floors, value or 0.0, widening(n_windows or len(real)))
    return CurveDiscrepancy(
        discrepancy_percent=value,
        interval_percent=None if value is None or high is None else (max(value - high, 0.0), value + high),
        held_out_discrepancy_percent=_discrepancy(mean, "held_out", "generated"),
        floor_percent=floor,
        floor_std_percent=None if floors is None else float(floors.std()),
        floor_95_percent=high,
        p_value=p_value,
        difference_percent=signed,
        difference_interval_percent=signed_interval,
        original_to_held_out_percent=_discrepancy(mean, "original", "held_out"),
        original_to_training_percent=_discrepancy(mean, "original", "training"),
    )


def _floor_figures(
    floors: np.ndarray | None, value: float, factor: float
) -> tuple[float | None, float | None, float | None]:
    """Return the mean of a floor's draws, their 95th percentile, and the p-value of a value that real sets may have."""
    if floors is None or not len(floors):
        return None, None, None
    high = float(np.percentile(floors, FLOOR_PERCENTILE)) * factor
    n_as_far = int(np.count_nonzero(floors * factor >= value * (1 - 1e-9)))
    return float(floors.mean()), high, (1 + n_as_far) / (1 + len(floors))


def _interval(real: np.ndarray, made: np.ndarray, n_windows: float | None) -> tuple[float, float] | None:
    """Return the 95 % interval of the difference of the means of two sets (N,), (M,); None if they are too small."""
    if min(len(real), len(made)) < MIN_RESAMPLED or not has_floor(len(real), n_windows):
        return None
    difference = float(made.mean() - real.mean())
    if n_windows is None:
        return centred_interval(_means_of_halves(made, 1) - _means_of_halves(real, 0), difference)
    own, _ = bootstrap_means(real, len(made), n_windows=n_windows)
    drawn = bootstrap_means(made, len(made), seed=FLOOR_SEED + 1)[0] - own
    return centred_interval(widening(n_windows) * drawn, difference)


def _means_of_halves(values: np.ndarray, seed: int) -> np.ndarray:
    """Return the means (N_RESAMPLES, ...) of random halves of the images (N, ...)."""
    return np.stack([values[half].mean(axis=0) for half in random_halves(len(values), N_RESAMPLES, seed)])


def _discrepancy(mean: dict[str, np.ndarray], first: str, second: str) -> float | None:
    """Return the discrepancy of two sets; None if one is missing, or the first lacks the phase."""
    if first not in mean or second not in mean or not mean[first].any():
        return None
    return discrepancy(mean[first], mean[second])
