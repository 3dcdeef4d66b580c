"""Properties that structures are made for: conductivity and tortuosity factor of each phase, between sets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mcrpy_diffusion.evaluation.results import (
    Counts,
    PhaseProperties,
    PropertyComparison,
    PropertyHistogram,
)
from mcrpy_diffusion.evaluation.sets import bootstrap_counts, compare_scalars, has_floor, widening
from mcrpy_diffusion.metrics.conductivity import effective_conductivity
from mcrpy_diffusion.metrics.grains import compare_distributions
from mcrpy_diffusion.runtime import frameworks
from mcrpy_diffusion.runtime.progress import Progress

MAX_STRUCTURES = 200  # of each set
N_DRAWS = 200
RELATIVE_ERROR = 0.01
"""Half width of the 95 % interval of a mean, relative to it, that `n_for_1_percent` is for."""
ORDER_SEED = 0


def compare_properties(
    given: Mapping[str, np.ndarray], *, n_phases: int, n_windows: float | None = None
) -> dict[str, PhaseProperties]:
    """Compare conductivity and tortuosity factor between sets, for each phase.

    Parameters
    ----------
    given : mapping
        `original` (N, I, J[, K]), `generated` (M, ...) of the same extent and, if available, `held_out`: phases. Of
        larger sets, `MAX_STRUCTURES` random ones are taken.
    n_phases : int
        Number of phases.
    n_windows : float, optional
        As in `sets.bootstrap_sizes`.

    Returns
    -------
    dict of PhaseProperties
        By phase. Both properties are of single structures: the conductivity is the mean over the axes.

    Raises
    ------
    InputError
        If taufactor is missing.
    """
    names = [name for name in ("original", "generated", "held_out") if name in given]
    sets = {name: _some(given[name]) for name in names}
    frameworks.before_torch()
    n_dims = given["generated"].ndim - 1
    total = n_phases * n_dims * sum(map(len, sets.values()))
    with Progress(total, "conductivity", unit="solution") as bar:
        return {
            str(phase): _compare_phase(sets, phase, n_windows, bar)
            for phase in range(n_phases)
            if any((images == phase).any() for images in sets.values())
        }


def _some(images: np.ndarray) -> np.ndarray:
    """Return all images, or `MAX_STRUCTURES` random ones."""
    if len(images) <= MAX_STRUCTURES:
        return images
    return images[np.sort(np.random.default_rng(ORDER_SEED).permutation(len(images))[:MAX_STRUCTURES])]


def _compare_phase(
    sets: Mapping[str, np.ndarray], phase: int, n_windows: float | None, bar: Progress
) -> PhaseProperties:
    along = {name: effective_conductivity(images, phase=phase, progress=bar.update) for name, images in sets.items()}
    conductivity = {name: values.mean(axis=1) for name, values in along.items()}
    tortuosity = {}
    for name, values in conductivity.items():
        fraction = (sets[name] == phase).mean(axis=tuple(range(1, sets[name].ndim)))
        conducts = values > 0
        tortuosity[name] = fraction[conducts] / values[conducts]
    percolating = {name: (values > 0).mean(axis=1) for name, values in along.items()}
    has_tortuosity = min(len(tortuosity["original"]), len(tortuosity["generated"])) > 1
    return PhaseProperties(
        conductivity=_compare(conductivity, phase, n_windows),
        tortuosity_factor=_compare(tortuosity, phase, n_windows) if has_tortuosity else None,
        percolating={name: float(share.mean()) for name, share in percolating.items()},
    )


def _compare(values: Mapping[str, np.ndarray], phase: int, n_windows: float | None) -> PropertyComparison:
    """Compare one number per structure: the means, and the distributions."""
    real, made = values["original"], values["generated"]
    given = {name: each for name, each in values.items() if len(each)}
    counts = Counts(**{name: len(each) for name, each in given.items()})
    compared = compare_distributions(real, made)
    floors = []
    if has_floor(len(real), n_windows):
        for first, second in zip(*bootstrap_counts(len(real), len(made), n_windows=n_windows, n_draws=N_DRAWS)):
            a, b = np.repeat(real, first), np.repeat(real, second)
            floors.append(compare_distributions(a, b).wasserstein)
    wide = widening(n_windows or len(real))
    return PropertyComparison(
        **vars(compare_scalars(given, phase=phase, n_images=counts, n_windows=n_windows)),
        wasserstein=compared.wasserstein,
        wasserstein_floor=float(np.mean(floors)) if floors else None,
        wasserstein_floor_95=wide * float(np.percentile(floors, 95)) if floors else None,
        n_for_1_percent={name: structures_for_mean(values[name]) for name in ("original", "generated")},
        histogram=PropertyHistogram(
            edges=tuple(compared.edges.tolist()),
            original=tuple(compared.first.tolist()),
            generated=tuple(compared.second.tolist()),
        ),
    )


def structures_for_mean(values: np.ndarray) -> int | None:
    """Return the number of structures whose mean has a 95 % interval of +-1 %; None for a mean of 0."""
    mean = float(values.mean())
    if len(values) < 2 or mean == 0:
        return None
    return max(int(np.ceil((1.96 * values.std(ddof=1) / (RELATIVE_ERROR * abs(mean))) ** 2)), 1)
