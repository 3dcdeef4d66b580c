"""Evaluation -> one sentence: equivalent, different or not comparable, and what to do."""

from __future__ import annotations

from collections.abc import Iterator

from mcrpy_diffusion.evaluation.results import (
    CurveDiscrepancy,
    Evaluation,
    NearestTraining,
    PhaseComparison,
    ScalarComparison,
    Verdict,
)
from mcrpy_diffusion.evaluation.sets import MIN_WINDOWS

EQUIVALENT, DIFFERENT, NOT_COMPARABLE = "equivalent", "different", "not comparable"
MEASURES = {
    "volume_fraction": "volume fraction",
    "two_point_correlation": "two-point correlation",
    "lineal_path": "lineal path",
    "specific_surface": "specific surface",
    "number_of_clusters": "clusters",
    "euler_number": "Euler number",
    "chord_length": "chord lengths",
}
ERROR_RATE = 0.05
"""Share of the sets of real structures of which at least one measure is said to differ."""
FAR_FROM_FLOOR = 3
"""Multiple of the floor beyond which a measure differs, where only the mean of the floor is known."""
MAX_LISTED = 5  # measures that the sentence names
COPYING_Z = -3
"""Copying scores below are taken for copies; 1 in 740 sets of real structures is below."""
MIN_NEAR_COPIES = 2
COPYING_P = 0.001
"""Probability of as many near structures below which they are taken for copies."""


def judge(evaluation: Evaluation) -> Verdict:
    """Return the verdict of an evaluation.

    Notes
    -----
    The p-values of all measures and phases are tested together by Holm's method: of sets of real structures, at most
    5 % are said to differ in any (S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J.
    Statist. 6 (1979) 65). Differences in the volume fraction of less than a pixel per structure do not count.
    """
    found = [*_measures(evaluation)]
    differing = _differing(evaluation, found)
    copies = are_copies(evaluation)
    known = [values for _, values in found if _has_floor(values)]
    if differing:
        outcome, text = DIFFERENT, _difference_text(differing)
    elif not known:
        outcome, text = NOT_COMPARABLE, _reason(evaluation)
    else:
        outcome, text = EQUIVALENT, _equivalence_text(evaluation)
    if copies:
        text += f" But structures are copies of the training data ({_copies_text(evaluation)}): train with more data."
    return Verdict(outcome=outcome, measures=tuple(name for name, _ in differing), copies=copies, text=text)


def are_copies(evaluation: Evaluation) -> bool:
    """Whether structures are copies of the training data, or nearer to them than unseen real ones can be."""
    exact = _n_exact_copies(evaluation.nearest_training_image)
    return exact > 0 or has_near_copies(evaluation) or _z_is_low(evaluation)


def has_near_copies(evaluation: Evaluation) -> bool:
    """Whether more structures than chance allows are nearer to the training data than any unseen real one.

    Few windows of overlapping crops leave no probability that small: there, several structures at less than half the
    distance of the nearest real one are enough.
    """
    test = evaluation.data_copying
    chance, near = test.nearer_p_value, test.n_near_copies or 0
    return (chance is not None and chance < COPYING_P) or (bool(test.overlapping) and near >= MIN_NEAR_COPIES)


def _z_is_low(evaluation: Evaluation) -> bool:
    """Whether the copying score is low, though not because there is less of a phase."""
    z, fraction = evaluation.data_copying.z, evaluation.volume_fraction
    return z is not None and z < COPYING_Z and not (fraction.p_value is not None and fraction.p_value < ERROR_RATE)


def _n_exact_copies(nearest: NearestTraining) -> int:
    """Return the number of exact copies; 0 where unseen real structures are copies too, such as empty ones."""
    return 0 if nearest.held_out_minimum_mse == 0 else nearest.n_exact_copies or 0


def _measures(evaluation: Evaluation) -> Iterator[tuple[str, ScalarComparison | CurveDiscrepancy]]:
    """Yield the measures of all phases."""
    phases: dict[str, PhaseComparison] = evaluation.phases or {"": evaluation}
    for phase, comparison in phases.items():
        for measure, name in MEASURES.items():
            values = getattr(comparison, measure)
            if values is not None:
                yield f"{name} of phase {phase}" if phase else name, values


def _has_floor(values: ScalarComparison | CurveDiscrepancy) -> bool:
    return values.deviation[1] is not None


def _differing(
    evaluation: Evaluation, found: list[tuple[str, ScalarComparison | CurveDiscrepancy]]
) -> list[tuple[str, ScalarComparison | CurveDiscrepancy]]:
    """Return the measures that differ by more than those of real structures, the most certain first."""
    one_pixel = 1 / (evaluation.extent[0] * evaluation.extent[1])
    counted = {name: v for name, v in found if not (_is_fraction(name) and abs(v.deviation[0] or 0.0) < one_pixel)}
    tested = sorted((v.p_value, -_floors(v), name) for name, v in counted.items() if v.p_value is not None)
    different = []
    for k, (p_value, _, name) in enumerate(tested):
        if p_value > ERROR_RATE / (len(tested) - k):
            break
        different.append(name)
    different += [n for n, v in counted.items() if v.p_value is None and _floors(v) > FAR_FROM_FLOOR]
    return [(name, counted[name]) for name in different]


def _is_fraction(name: str) -> bool:
    return name.startswith(MEASURES["volume_fraction"])


def _floors(values: ScalarComparison | CurveDiscrepancy) -> float:
    """Return the deviation of a measure in floors; 0 without a floor."""
    value, floor = values.deviation
    if value is None or floor is None:
        return 0.0
    return abs(value) / floor if floor > 0 else float("inf") if value else 0.0


def size_of(values: ScalarComparison | CurveDiscrepancy) -> str:
    """Return the deviation of a measure in words."""
    value = values.deviation[0]
    if isinstance(values, CurveDiscrepancy):
        return "in one set alone" if value is None else f"{value:.2g} %"
    share = f", {100 * values.difference / values.original:+.2g} %" if values.original else ""
    return f"{values.difference:+.2g}{share}"


def _difference_text(differing: list[tuple[str, ScalarComparison | CurveDiscrepancy]]) -> str:
    listed = ", ".join(f"{name} ({size_of(values)})" for name, values in differing[:MAX_LISTED])
    more = f" and {len(differing) - MAX_LISTED} more" if len(differing) > MAX_LISTED else ""
    return (
        f"Different from the original, by more than sets of real structures are, in {listed}{more}. If that matters, "
        "train longer or with more data, or check that the model is that of this material."
    )


def _equivalence_text(evaluation: Evaluation) -> str:
    limits = [
        f"{symbol} {values.upper_floor:.2g} %"
        for symbol, values in (("S2", evaluation.two_point_correlation), ("L", evaluation.lineal_path))
        if values.upper_floor is not None
    ]
    told = f" (differences of {' and '.join(limits)} would go unnoticed)" if limits else ""
    n, windows = evaluation.n_images.generated, evaluation.n_windows
    real = f"{evaluation.n_images.original} real structures"
    more = "more structures"
    if windows is not None and windows.original:
        real, more = f"{windows.original:.1f} independent windows of the micrographs", "larger micrographs"
    return f"Equivalent to the original within what {n} structures and {real} can tell{told}; {more} would tell more."


def _reason(evaluation: Evaluation) -> str:
    """Say why nothing can be compared, what was found nevertheless, and what to do."""
    windows = None if evaluation.n_windows is None else evaluation.n_windows.original
    if windows:
        reason = f"the micrographs hold {windows:.1f} independent windows of this extent, fewer than {MIN_WINDOWS:.0f}"
        advice = "give larger or more micrographs, or a smaller extent"
    elif windows == 0:
        reason = "the original structures are crops that overlap, without their micrographs"
        advice = "give the micrographs in place of the crops, or make the data set again"
    else:
        reason = "one original alone does not tell how far real structures scatter"
        advice = "give several, or a larger micrograph to cut them from"
    found = [
        f"{symbol} differs by {size_of(values)}"
        for symbol, values in (("S2", evaluation.two_point_correlation), ("L", evaluation.lineal_path))
        if values.discrepancy_percent is not None
    ]
    return f"Not comparable: {reason}; {advice}." + (f" {', '.join(found)}." if found else "")


def _copies_text(evaluation: Evaluation) -> str:
    nearest, test = evaluation.nearest_training_image, evaluation.data_copying
    if n := _n_exact_copies(nearest):
        return f"{n} of {evaluation.n_images.generated} exactly"
    if has_near_copies(evaluation):
        return f"{test.n_nearer_than_any_real} of {evaluation.n_images.generated} nearly"
    return f"copying score {test.z:.1f}"
