"""Comparison of generated structures with the statistics of real ones, which are missing themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mcrpy_diffusion.evaluation.copies import not_searched
from mcrpy_diffusion.evaluation.evaluate import worst_phases
from mcrpy_diffusion.evaluation.features import not_measured
from mcrpy_diffusion.evaluation.results import (
    Counts,
    CurveComparison,
    Curves,
    Evaluation,
    PhaseComparison,
    PhaseCurves,
    SetSpreads,
    Spread,
)
from mcrpy_diffusion.evaluation.sets import N_FLOOR_DRAWS, compare_curves, compare_scalars
from mcrpy_diffusion.evaluation.statistics import CURVES, set_statistics, spread
from mcrpy_diffusion.evaluation.summary import Figures, Statistics
from mcrpy_diffusion.evaluation.verdict import judge
from mcrpy_diffusion.metrics.spatial_statistics import default_max_distance


def evaluate_against_statistics(
    generated: np.ndarray, figures: Figures, statistics: Statistics, *, n_phases: int
) -> Evaluation:
    """Compare generated structures with the statistics that a model carries.

    Parameters
    ----------
    generated : (M, I, J)
        Phases.
    figures, statistics
        Those of a `ModelCard`, which come from an earlier evaluation of the same model.
    n_phases : int
        Number of phases.

    Returns
    -------
    Evaluation
        As `evaluate` returns it, with volume fraction, S2 and L alone. Floors are those of the earlier evaluation,
        scaled by the ratio of sqrt(1 / M + 1 / N), the scatter between means of M generated and N real structures.
    """
    curves = statistics.curves
    last = min(curves.distance[-1], default_max_distance(generated.shape[1:]))
    counts = Counts(original=figures.n_images.original, generated=len(generated))
    scale = _floor_scale(figures, generated)
    compared = {
        phase: _compare_phase(generated, int(phase), real, figures, scale=scale, last=last, counts=counts)
        for phase, real in sorted(curves.phases.items())
    }
    by_phase = {phase: comparison for phase, (comparison, _) in compared.items()}
    fractions = [comparison.volume_fraction.original for comparison in by_phase.values()]
    if n_phases == 2:
        fractions.append(1 - fractions[0])
    nearest, copying = not_searched(len(generated), 1 - sum(fraction**2 for fraction in fractions))
    evaluation = Evaluation(
        n_images=counts,
        n_floor_draws=N_FLOOR_DRAWS,
        n_phases=n_phases,
        extent=(generated.shape[1], generated.shape[2]),
        periodic=figures.periodic,
        **vars(worst_phases(by_phase)),
        phases=by_phase if n_phases > 2 else None,
        **vars(not_measured("the original structures are missing")),
        warnings=(
            "the original structures are missing: compared with their statistics, which the model carries; floors "
            "are scaled from those of its evaluation",
        ),
        nearest_training_image=nearest,
        data_copying=copying,
        grains=None,
        curves=Curves(distance=tuple(range(last + 1)), phases={phase: drawn for phase, (_, drawn) in compared.items()}),
    )
    return replace(evaluation, verdict=judge(evaluation))


def _floor_scale(figures: Figures, generated: np.ndarray) -> float:
    """Return the ratio of the floors of these structures to those of the earlier evaluation."""
    area = float(np.prod(figures.extent) / np.prod(generated.shape[1:]))
    real_share, earlier_share = 1 / figures.n_images.original, 1 / figures.n_images.generated
    return float(((area / len(generated) + real_share) / (earlier_share + real_share)) ** 0.5)


def _compare_phase(
    generated: np.ndarray, phase: int, real: PhaseCurves, figures: Figures, *, scale: float, last: int, counts: Counts
) -> tuple[PhaseComparison, PhaseCurves]:
    """Return volume fraction, S2 and L of one phase, and its curves up to the distance `last`."""
    found = set_statistics(generated, phase=phase, periodic=figures.periodic, max_distance=last)

    def floor(earlier: float | None, of_phase: int) -> float | None:
        return None if earlier is None or of_phase != phase else earlier * scale

    curves, spreads = {}, {}
    for measure in CURVES:
        known, made = _up_to(last, getattr(real, measure).original), getattr(found, measure)
        compared = vars(compare_curves({"original": np.array([known.mean]), "generated": made}))
        figure = getattr(figures, measure)
        compared |= {"floor_percent": floor(figure.floor_percent, figure.phase)}
        curves[measure] = CurveComparison(**compared, phase=phase, n_images=counts)
        spreads[measure] = SetSpreads(original=known, generated=spread(made))
    fraction = compare_scalars(
        # S2(0) is the volume fraction
        {"original": np.array(real.two_point_correlation.original.mean[:1]), "generated": found.volume_fraction},
        phase=phase,
        n_images=counts,
    )
    earlier = figures.volume_fraction
    fraction = replace(fraction, original_std=None, floor=floor(earlier.floor, earlier.phase))
    s2, lineal = (curves[measure] for measure in CURVES)
    comparison = PhaseComparison(volume_fraction=fraction, two_point_correlation=s2, lineal_path=lineal)
    return comparison, PhaseCurves(**spreads)


def _up_to(last: int, known: Spread) -> Spread:
    return Spread(mean=known.mean[: last + 1], low=known.low[: last + 1], high=known.high[: last + 1])
