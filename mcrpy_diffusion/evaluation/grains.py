"""Comparison of the grains between boundaries of one phase, section 3.1.2 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation import results
from mcrpy_diffusion.evaluation.sets import bootstrap_counts, has_floor
from mcrpy_diffusion.metrics.grains import Grains, compare_distributions, mean_and_std, measure_grains

N_DRAWS = 200
DISTANCES = ("kolmogorov_smirnov", "wasserstein")


def compare_grains(
    given: Mapping[str, np.ndarray], *, boundary_phase: int, periodic: bool, n_windows: float | None = None
) -> results.Grains:
    """Compare grains between sets.

    Parameters
    ----------
    given : mapping
        `original` (N, A, B), `generated` (M, I, J) and, if available, `held_out`: phases.
    boundary_phase : int
        The phase of the boundaries between grains.
    periodic : bool
        Whether grains continue across the edges. If not, grains that an edge cuts are left out, and the others are
        weighted accordingly (`measure_grains`).
    n_windows : float, optional
        As in `sets.bootstrap_sizes`.

    Returns
    -------
    Grains
        The floors are mean distances between two bootstrap sets of real structures.

    Raises
    ------
    InputError
        If no structure has the boundary phase; each would be one grain.
    """
    names = [name for name in ("original", "generated", "held_out") if name in given]
    if not any((given[name] == boundary_phase).any() for name in names):
        present = ", ".join(map(str, np.unique(given["original"])))
        raise InputError(f"boundary_phase must be a phase of the structures ({present}), got {boundary_phase}")
    grains = {name: measure_grains(given[name], boundary_phase=boundary_phase, periodic=periodic) for name in names}
    counts = {name: each.n_grains for name, each in grains.items()}
    empty = [name for name in ("original", "generated") if counts[name] == 0]
    reason = f"no whole grain lies in the {' and the '.join(empty)} structures" if empty else None
    diameter = aspect_ratio = None
    if not empty:
        n, m = len(given["original"]), len(given["generated"])
        drawn = []
        if has_floor(n, n_windows):
            drawn = [*zip(*bootstrap_counts(n, m, n_windows=n_windows, n_draws=N_DRAWS))]
        diameter = _compare_property(grains, "diameter", drawn)
        aspect_ratio = _compare_property(grains, "aspect_ratio", drawn)
    return results.Grains(
        boundary_phase=boundary_phase,
        n_grains=results.GrainCounts(**counts),
        reason=reason,
        diameter=diameter,
        aspect_ratio=aspect_ratio,
    )


def _compare_property(
    grains: Mapping[str, Grains], name: str, drawn: Sequence[tuple[np.ndarray, np.ndarray]]
) -> results.GrainProperty | None:
    """Compare one property of the grains; `drawn` has the bootstrap counts (N,) of both sets."""
    values = {key: _values(each, name) for key, each in grains.items()}
    values = {key: each for key, each in values.items() if len(each[0])}
    if "original" not in values or "generated" not in values:
        return None
    moments: dict[str, float] = {}
    for key, (x, weights, _) in values.items():
        moments[key], moments[f"{key}_std"] = mean_and_std(x, weights)
    x, weights, structure = values["original"]
    y, y_weights, _ = values["generated"]
    compared = compare_distributions(x, y, first_weights=weights, second_weights=y_weights)
    between_real = []
    for pair in drawn:
        first, second = (weights * times[structure] for times in pair)
        if first.any() and second.any():
            a, b = first > 0, second > 0
            between_real.append(compare_distributions(x[a], x[b], first_weights=first[a], second_weights=second[b]))
    floors = {
        d: float(np.mean([getattr(each, d) for each in between_real])) if between_real else None for d in DISTANCES
    }
    unseen: dict[str, float] = {}
    if "held_out" in values:
        h, h_weights, _ = values["held_out"]
        found = compare_distributions(h, y, first_weights=h_weights, second_weights=y_weights)
        unseen = {f"held_out_{d}": getattr(found, d) for d in DISTANCES}
    return results.GrainProperty(
        **moments,
        **unseen,
        difference=moments["generated"] - moments["original"],
        kolmogorov_smirnov=compared.kolmogorov_smirnov,
        kolmogorov_smirnov_floor=floors["kolmogorov_smirnov"],
        wasserstein=compared.wasserstein,
        wasserstein_floor=floors["wasserstein"],
        histogram=results.GrainHistogram(
            edges=tuple(compared.edges.tolist()),
            original=tuple(compared.first.tolist()),
            generated=tuple(compared.second.tolist()),
        ),
    )


def _values(grains: Grains, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return value, weight and structure of grains with this property; percolating ones have no aspect ratio."""
    value = getattr(grains, name)
    has = np.isfinite(value)
    return value[has], grains.weight[has], grains.structure[has]
