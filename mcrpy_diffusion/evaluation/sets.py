"""One measure of two sets of structures -> difference, interval, and sampling floor between real ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mcrpy_diffusion.evaluation.results import Counts, CurveDiscrepancy, ScalarComparison
from mcrpy_diffusion.metrics.frechet_distance import MIN_RESAMPLED, N_RESAMPLES, centred_interval, random_halves
from mcrpy_diffusion.metrics.spatial_statistics import discrepancy

N_FLOOR_DRAWS = 200
FLOOR_SEED = 0


def bootstrap_counts(
    n: int, n_images: int, *, n_draws: int = N_FLOOR_DRAWS, seed: int = FLOOR_SEED
) -> tuple[np.ndarray, np.ndarray]:
    """Draw two bootstrap sets of real images; all measures of an evaluation use the same.

    Parameters
    ----------
    n : int
        Number of real images.
    n_images : int
        Number of generated ones.

    Returns
    -------
    originals, others : (n_draws, n) int64
        How often each image is in a set of n, and in one of `n_images`.
    """
    rng = np.random.default_rng(seed)
    others, originals = (_times(rng.integers(n, size=(n_draws, size)), n) for size in (n_images, n))
    return originals, others


def _times(indices: np.ndarray, n: int) -> np.ndarray:
    """Count how often each of n indices is in each row (n_draws, size)."""
    places = indices + n * np.arange(len(indices))[:, None]
    return np.bincount(places.ravel(), minlength=n * len(indices)).reshape(len(indices), n)


def bootstrap_means(
    values: np.ndarray, n_images: int, *, n_draws: int = N_FLOOR_DRAWS, seed: int = FLOOR_SEED
) -> tuple[np.ndarray, np.ndarray]:
    """Return means (n_draws, ...) of values (N, ...) over bootstrap sets of N and of `n_images` images."""
    drawn = bootstrap_counts(len(values), n_images, n_draws=n_draws, seed=seed)
    first, second = (np.tensordot(times, values, axes=1) for times in drawn)
    return first / len(values), second / n_images


def sampling_floor(
    curves: np.ndarray, n_images: int, *, n_draws: int = N_FLOOR_DRAWS, seed: int = FLOOR_SEED
) -> np.ndarray:
    """Measure the discrepancy between two bootstrap sets of real images, which follows from their sizes alone.

    Parameters
    ----------
    curves : (N, r)
        One curve per real image.
    n_images : int
        Size of the second set, that of the generated structures; the first has N images.
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
    first, second = bootstrap_means(curves, n_images, n_draws=n_draws, seed=seed)
    return np.array([discrepancy(a, b) for a, b in zip(first, second) if a.any()])


def compare_scalars(
    values: Mapping[str, np.ndarray], *, phase: int, n_images: Counts | None = None
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

    Returns
    -------
    ScalarComparison
        With the 95 % interval from halves of both sets (`random_halves`), and the sampling floor.
    """
    real, made, held_out = values["original"], values["generated"], values.get("held_out")
    means = {name: float(each.mean()) for name, each in values.items()}
    stds = {f"{name}_std": float(each.std()) for name, each in values.items()}
    difference = float(made.mean() - real.mean())
    interval = floor = None
    if min(len(real), len(made)) >= MIN_RESAMPLED:
        interval = centred_interval(_means_of_halves(made, 1) - _means_of_halves(real, 0), difference)
    if len(real) > 1:
        first, second = bootstrap_means(real, len(made))
        floor = float(np.abs(second - first).mean())
    return ScalarComparison(
        **means,
        **stds,
        difference=difference,
        interval=interval,
        held_out_difference=None if held_out is None else float(made.mean() - held_out.mean()),
        floor=floor,
        phase=phase,
        n_images=n_images or Counts(**{name: len(each) for name, each in values.items()}),
    )


def compare_curves(curves: Mapping[str, np.ndarray]) -> CurveDiscrepancy:
    """Compare a curve per structure between sets, by the discrepancies of the mean curves.

    Parameters
    ----------
    curves : mapping
        `original` (N, r), `generated` (M, r) and, if available, `held_out` and `training`.

    Returns
    -------
    CurveDiscrepancy
        With the 95 % interval from halves of both sets (`random_halves`).
    """
    mean = {name: values.mean(axis=0) for name, values in curves.items()}
    real, made = curves["original"], curves["generated"]
    value = _discrepancy(mean, "original", "generated")
    floors = interval = None
    if len(real) > 1 and value is not None:
        floors = sampling_floor(real, len(made))
    if min(len(real), len(made)) >= MIN_RESAMPLED and value is not None:
        pairs = zip(_means_of_halves(real, 0), _means_of_halves(made, 1))
        resampled = np.array([discrepancy(a, b) for a, b in pairs if a.any()])
        if len(resampled) == N_RESAMPLES:
            interval = centred_interval(resampled, value, low=0.0)
    return CurveDiscrepancy(
        discrepancy_percent=value,
        interval_percent=interval,
        held_out_discrepancy_percent=_discrepancy(mean, "held_out", "generated"),
        floor_percent=None if floors is None else float(floors.mean()),
        floor_std_percent=None if floors is None else float(floors.std()),
        original_to_held_out_percent=_discrepancy(mean, "original", "held_out"),
        original_to_training_percent=_discrepancy(mean, "original", "training"),
    )


def _means_of_halves(values: np.ndarray, seed: int) -> np.ndarray:
    """Return the means (N_RESAMPLES, ...) of random halves of the images (N, ...)."""
    return np.stack([values[half].mean(axis=0) for half in random_halves(len(values), N_RESAMPLES, seed)])


def _discrepancy(mean: dict[str, np.ndarray], first: str, second: str) -> float | None:
    """Return the discrepancy of two sets; None if one is missing, or the first lacks the phase."""
    if first not in mean or second not in mean or not mean[first].any():
        return None
    return discrepancy(mean[first], mean[second])
