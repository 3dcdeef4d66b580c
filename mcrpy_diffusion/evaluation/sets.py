"""Part of stage 4: one measure of two sets of structures -> difference, interval, and floor between real ones."""

from __future__ import annotations

import numpy as np

from mcrpy_diffusion.metrics.frechet_distance import MIN_RESAMPLED, N_RESAMPLES, centred_interval, random_halves
from mcrpy_diffusion.metrics.spatial_statistics import discrepancy

N_FLOOR_DRAWS = 200
FLOOR_SEED = 0


def draws(
    n: int, n_images: int, *, n_draws: int = N_FLOOR_DRAWS, seed: int = FLOOR_SEED
) -> tuple[np.ndarray, np.ndarray]:
    """Draw two sets of real images, with replacement: the same ones for every measure of an evaluation.

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
    """Count how often each of n is among the indices (n_draws, size) of a draw."""
    places = indices + n * np.arange(len(indices))[:, None]
    return np.bincount(places.ravel(), minlength=n * len(indices)).reshape(len(indices), n)


def means_of_draws(
    values: np.ndarray, n_images: int, *, n_draws: int = N_FLOOR_DRAWS, seed: int = FLOOR_SEED
) -> tuple[np.ndarray, np.ndarray]:
    """Return the means (n_draws, ...) of the values (N, ...) of as many images as there are, and of `n_images`."""
    drawn = draws(len(values), n_images, n_draws=n_draws, seed=seed)
    first, second = (np.tensordot(times, values, axes=1) for times in drawn)
    return first / len(values), second / n_images


def floor(curves: np.ndarray, n_images: int, *, n_draws: int = N_FLOOR_DRAWS, seed: int = FLOOR_SEED) -> np.ndarray:
    """Measure the discrepancy that comes from the numbers of images alone: that between two sets of real ones.

    Parameters
    ----------
    curves : (N, r)
        One curve per real image.
    n_images : int
        Number of images of the second set: as many as were generated. The first has as many as there are.
    n_draws : int
        Number of draws, each with replacement.
    seed : int
        Seed of the draws.

    Returns
    -------
    (n_draws,) float64
        Discrepancy of the mean curves of both, percent, eq. (23); without the draws whose first set lacks the phase.

    Notes
    -----
    Real images scatter on both sides. A mean of M images that is compared with the mean of N independent ones is off
    by sqrt(1 / M + 1 / N) of what single images scatter.
    """
    first, second = means_of_draws(curves, n_images, n_draws=n_draws, seed=seed)
    return np.array([discrepancy(a, b) for a, b in zip(first, second) if a.any()])


def compare_scalars(values: dict[str, np.ndarray]) -> dict[str, float | list[float] | None]:
    """Compare a number per structure between sets.

    Parameters
    ----------
    values : dict
        `original` (N,), `generated` (M,) and, where there are any, `held_out` and `training`.

    Returns
    -------
    dict
        Mean and, with `_std`, standard deviation of each set; `difference` and `held_out_difference`, generated minus
        real; the 95 % `interval` of the first, from halves of both sets (`random_halves`); `floor`, the mean absolute
        difference between two sets of real structures in the numbers of both.
    """
    found: dict[str, float | list[float] | None] = {}
    for name, each in values.items():
        found[name] = float(each.mean())
        found[f"{name}_std"] = float(each.std())
    real, made = values["original"], values["generated"]
    difference = float(made.mean() - real.mean())
    found["difference"] = difference
    found["interval"] = None
    if min(len(real), len(made)) >= MIN_RESAMPLED:
        resampled = _means_of_halves(made, 1) - _means_of_halves(real, 0)
        found["interval"] = list(centred_interval(resampled, difference))
    held_out = values.get("held_out")
    found["held_out_difference"] = None if held_out is None else float(made.mean() - held_out.mean())
    found["floor"] = None
    if len(real) > 1:
        first, second = means_of_draws(real, len(made))
        found["floor"] = float(np.abs(second - first).mean())
    return found


def compare_curves(curves: dict[str, np.ndarray]) -> dict[str, float | list[float] | None]:
    """Compare a curve per structure between sets, by the discrepancies of the mean curves.

    Parameters
    ----------
    curves : dict
        `original` (N, r), `generated` (M, r) and, where there are any, `held_out` and `training`.

    Returns
    -------
    dict
        Discrepancies, eq. (23), and the `floor_percent`; the 95 % `interval_percent` is that of
        `discrepancy_percent`, from halves of both sets (`random_halves`). None where a set is not there, or the first
        lacks the phase.
    """
    mean = {name: values.mean(axis=0) for name, values in curves.items()}
    real, made = curves["original"], curves["generated"]
    value = _discrepancy(mean, "original", "generated")
    floors = interval = None
    if len(real) > 1 and value is not None:
        floors = floor(real, len(made))
    if min(len(real), len(made)) >= MIN_RESAMPLED and value is not None:
        pairs = zip(_means_of_halves(real, 0), _means_of_halves(made, 1))
        resampled = np.array([discrepancy(a, b) for a, b in pairs if a.any()])
        if len(resampled) == N_RESAMPLES:
            interval = list(centred_interval(resampled, value, low=0.0))
    return {
        "discrepancy_percent": value,
        "interval_percent": interval,
        "held_out_discrepancy_percent": _discrepancy(mean, "held_out", "generated"),
        "floor_percent": None if floors is None else float(floors.mean()),
        "floor_std_percent": None if floors is None else float(floors.std()),
        "original_to_held_out_percent": _discrepancy(mean, "original", "held_out"),
        "original_to_training_percent": _discrepancy(mean, "original", "training"),
    }


def _means_of_halves(values: np.ndarray, seed: int) -> np.ndarray:
    """Return the means (N_RESAMPLES, ...) of random halves of the images (N, ...)."""
    return np.stack([values[half].mean(axis=0) for half in random_halves(len(values), N_RESAMPLES, seed)])


def _discrepancy(mean: dict[str, np.ndarray], first: str, second: str) -> float | None:
    """Return the discrepancy of two sets; None where one is not there, or the first lacks the phase."""
    if first not in mean or second not in mean or not mean[first].any():
        return None
    return discrepancy(mean[first], mean[second])
