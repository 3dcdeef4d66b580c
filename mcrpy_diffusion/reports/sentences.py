"""Evaluation -> sentences: summary, notes, copies."""

from __future__ import annotations

from mcrpy_diffusion.evaluation.results import DataCopying, Evaluation
from mcrpy_diffusion.reports.rows import CURVES, SCALARS, feature_measures, figure, percent

FAR_FROM_FLOOR = 3
"""The summary names measures that deviate by more than this multiple of their floor."""
COPYING_Z = -3
"""The summary warns of copying below this z; about 1 in 1,000 sets of independent real structures is below."""


def summary(evaluation: Evaluation) -> str:
    """Return the main result in a few sentences."""
    fraction, s2, lineal = evaluation.volume_fraction, evaluation.two_point_correlation, evaluation.lineal_path
    n = evaluation.n_images.generated
    sentences = [
        f"{n} generated structure{'s' if n != 1 else ''}.",
        f"The volume fraction is {fraction.generated:.4f} (original {fraction.original:.4f}).",
        f"The two-point correlation differs from the original by {percent(s2.discrepancy_percent)}, the lineal path by "
        f"{percent(lineal.discrepancy_percent)}.",
    ]
    if s2.floor_percent is not None and lineal.floor_percent is not None:
        floors = f"{percent(s2.floor_percent)} and {percent(lineal.floor_percent)}"
        sentences.append(f"Sets of as many real structures differ by {floors}.")
    distance = evaluation.frechet_distance
    if distance.value_at_floor_counts is not None:
        sentences.append(
            f"The {distance.name} is {figure(distance.value_at_floor_counts)}; between real structures in the same "
            f"numbers it is {figure(distance.floor)}."
        )
    return " ".join([*sentences, *_deviations(evaluation), *_copies(evaluation)])


def _deviations(evaluation: Evaluation) -> list[str]:
    """Name the measures that deviate by more than `FAR_FROM_FLOOR` floors."""
    names = {
        "volume_fraction": "volume fraction",
        **{measure: name for measure, (_, name, _) in CURVES.items()},
        **{measure: name for measure, (name, _, _) in SCALARS.items()},
        "chord_length": "chord lengths",
    }
    compared, found = 0, []
    for measure, name in names.items():
        values = getattr(evaluation, measure)
        off, floor = (None, None) if values is None else values.deviation
        if off is None or floor is None:
            continue
        compared += 1
        off = abs(off)
        if off > FAR_FROM_FLOOR * floor:
            found.append(f"{name} ({off / floor:.1f})" if floor > 0 else name)
    if found:
        return [f"Deviations of more than {FAR_FROM_FLOOR} times the floor, in floors: {', '.join(found)}."]
    return [f"Every measure is within {FAR_FROM_FLOOR} times its floor."] if compared else []


def _copies(evaluation: Evaluation) -> list[str]:
    """Warn of copies among the structures."""
    sentences = []
    if n := evaluation.nearest_training_image.n_exact_copies:
        verb = "is an exact copy" if n == 1 else "are exact copies"
        sentences.append(f"{n} of the generated structures {verb} of training data.")
    z, fraction = evaluation.data_copying.z, evaluation.volume_fraction
    if z is not None and z < COPYING_Z:
        sentences.append(
            f"They are nearer to the training structures than unseen real ones, as copies are (z = {z:.1f})."
        )
        if fraction.floor is not None and abs(fraction.difference) > FAR_FROM_FLOOR * fraction.floor:
            sentences.append("Structures with less of a phase are so too, and their volume fraction deviates.")
    return sentences


def notes(evaluation: Evaluation) -> list[str]:
    """Return the floors of the measures by features, and the warnings."""
    found = [f"warning: {text}." for text in evaluation.warnings]
    measured = [m for m in feature_measures(evaluation).values() if m.floor is not None]
    if not measured or measured[0].floor_n_images is None or measured[0].n_images is None:
        return found
    first, second = measured[0].floor_n_images
    text = f"floors by features: between disjoint sets of {first} and {second} real structures"
    if (first, second) != (measured[0].n_images.original, measured[0].n_images.generated):
        values = ", ".join(f"{m.name} {figure(m.value_at_floor_counts)}" for m in measured)
        text += f"; of {first} real and {second} generated ones: {values}"
    return [f"{text}.", *found]


def counts(evaluation: Evaluation) -> str:
    """Return the numbers of structures behind the measures."""
    n = evaluation.n_images
    sets = {"generated": n.generated, "original": n.original, "held-out": n.held_out, "training": n.training}
    parts = ", ".join(f"{number} {name}" for name, number in sets.items() if number is not None)
    extent = " x ".join(map(str, evaluation.extent))
    floor = f"; floor: mean of {evaluation.n_floor_draws} bootstrap sets" if n.original > 1 else ""
    return f"{parts} structures of {extent} pixels{floor}."


def missing_parts(evaluation: Evaluation) -> str:
    """Return why cells of the table are empty; an empty text without such cells."""
    reasons = []
    if evaluation.n_images.held_out is None:
        reasons.append("no part of the original was held out")
    if evaluation.n_images.original < 2:
        reasons.append("one original alone has no floor")
    if evaluation.nearest_training_image.minimum_mse is None:
        reasons.append("no training images were given")
    return ", ".join(reasons) + "." if reasons else ""


def copying(evaluation: Evaluation) -> str:
    """Describe the search for copies and the test of the distances."""
    nearest, test = evaluation.nearest_training_image, evaluation.data_copying
    if nearest.minimum_mse is None:
        return "No copies were searched for: no training structures were given."
    text = (
        f"Each generated structure was compared with {nearest.compared_with}. Independent structures differ by "
        f"{nearest.independent_mse:.3f} on average."
    )
    return f"{text} {_copying_test(test)}"


def _copying_test(test: DataCopying) -> str:
    if test.z is None or test.n_images is None:
        return f"The distances were not tested: {test.reason}."
    overlap = " Crops overlap, which increases the scatter of both numbers." if test.overlapping else ""
    return (
        f"The median distance to the nearest training structure is {test.median_mse:.4f} for generated structures and "
        f"{test.real_median_mse:.4f} for unseen real ones ({test.compared_with}). {test.n_nearer_than_any_real} "
        f"generated structures are nearer than any of {test.n_images.real} real ones; {test.expected_nearer:.1f} are "
        f"expected. The Mann-Whitney test of both sets of distances (Meehan et al.) gives z = {test.z:+.1f}.{overlap}"
    )


def colours(n_phases: int) -> str:
    """Describe the grey levels of the pictures."""
    if n_phases == 0:
        return "Grey values from black (0) to white (1)."
    if n_phases == 2:
        return "Phase 0 is black, phase 1 white."
    return f"Phase 0 is black, phase {n_phases - 1} white, those between are grey."
