"""One measure of a set of volumes and of a set of references -> their difference and its sampling floor.

Slices of one volume are correlated: whole volumes and whole reference structures are what is resampled.
"""

from __future__ import annotations

import numpy as np

from mcrpy_diffusion.evaluation.sets import FLOOR_SEED, N_FLOOR_DRAWS, bootstrap_means
from mcrpy_diffusion.evaluation.volume_results import CurveFit, ScalarFit
from mcrpy_diffusion.metrics.arrays import areas
from mcrpy_diffusion.metrics.spatial_statistics import discrepancy


def resampled_noise(values: np.ndarray, size: int, *, seed: int, n_draws: int = N_FLOOR_DRAWS) -> np.ndarray:
    """Draw the deviation of the mean of `size` structures from the expected value, by bootstrap.

    Parameters
    ----------
    values : (N, ...)
        One value or curve per structure.
    size : int
        Number of structures in a mean.
    seed : int
    n_draws : int

    Returns
    -------
    (n_draws, ...) float64
        Means of `size` structures minus the mean of all, times sqrt(N / (N - 1)), which makes up for the scatter that
        N structures lack around their own mean; 0 for a single structure, whose scatter is not known.
    """
    n = len(values)
    if n < 2:
        return np.zeros((n_draws, *values.shape[1:]))
    _, means = bootstrap_means(values, size, n_draws=n_draws, seed=seed)
    return (means - values.mean(axis=0)) * (n / (n - 1)) ** 0.5


def fit_curves(reference: np.ndarray | None, generated: np.ndarray, scatter: np.ndarray) -> CurveFit:
    """Compare the mean curves of generated volumes with those of references.

    Parameters
    ----------
    reference : (N, r) or None
        One curve per original structure or true volume.
    generated : (M, r)
        One curve per generated volume.
    scatter : (V, r)
        Curves of the volumes whose scatter is in the floor: true ones, or the generated ones themselves.

    Returns
    -------
    CurveFit
        Its floor is the mean discrepancy between the means of N references and M volumes with equal expected curves,
        the mean of the references.
    """
    if reference is None or not reference.any():
        return CurveFit(discrepancy_percent=None, floor_percent=None)
    expected = reference.mean(axis=0)
    floor = None
    if max(len(reference), len(scatter)) > 1:
        first, second = _noise(reference, generated, scatter)
        under = areas(expected + first)
        has_phase = under > 0
        floor = float(np.mean(100 * areas(np.abs(second - first))[has_phase] / under[has_phase]))
    return CurveFit(discrepancy_percent=discrepancy(expected, generated.mean(axis=0)), floor_percent=floor)


def fit_scalars(reference: np.ndarray | None, generated: np.ndarray, scatter: np.ndarray) -> ScalarFit:
    """Compare the means of one number per structure, (N,) and (M,); parameters as for `fit_curves`."""
    own = {"generated": float(generated.mean()), "generated_std": float(generated.std())}
    if reference is None:
        return ScalarFit(reference=None, reference_std=None, **own, difference=None, floor=None)
    floor = None
    if max(len(reference), len(scatter)) > 1:
        first, second = _noise(reference, generated, scatter)
        floor = float(np.abs(second - first).mean())
    return ScalarFit(
        reference=float(reference.mean()),
        reference_std=float(reference.std()),
        **own,
        difference=float(generated.mean() - reference.mean()),
        floor=floor,
    )


def _noise(reference: np.ndarray, generated: np.ndarray, scatter: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    first = resampled_noise(reference, len(reference), seed=FLOOR_SEED)
    return first, resampled_noise(scatter, len(generated), seed=FLOOR_SEED + 1)
