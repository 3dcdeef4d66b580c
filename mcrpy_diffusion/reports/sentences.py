"""Evaluation -> sentences: summary, notes, copies."""

from __future__ import annotations

from collections.abc import Sequence

from mcrpy_diffusion.evaluation.results import DataCopying, Evaluation
from mcrpy_diffusion.evaluation.verdict import COPYING_Z, has_near_copies
from mcrpy_diffusion.reports.rows import Row, feature_measures, figure, percent


def verdict(evaluation: Evaluation) -> str:
    """Return the verdict; evaluations of earlier versions have none."""
    return evaluation.verdict.text if evaluation.verdict is not None else ""


def warnings(evaluation: Evaluation) -> list[str]:
    """Return what to know before believing the figures."""
    return [f"warning: {text}." for text in evaluation.warnings]


def star(rows: Sequence[Row]) -> str:
    """Explain the star of values beyond the floor; an empty text if there is none."""
    return "* farther apart than 95 % of equal sets." if any(row.is_beyond for row in rows) else ""


def summary(evaluation: Evaluation) -> str:
    """Return the main figures in a few sentences."""
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
    return " ".join([*sentences, *_copies(evaluation)])


def _copies(evaluation: Evaluation) -> list[str]:
    """Warn of copies among the structures."""
    nearest, test, sentences = evaluation.nearest_training_image, evaluation.data_copying, []
    if n := nearest.n_exact_copies:
        verb = "is an exact copy" if n == 1 else "are exact copies"
        sentences.append(f"{n} of the generated structures {verb} of training data.")
    if has_near_copies(evaluation) and test.n_images is not None:
        sentences.append(
            f"{test.n_nearer_than_any_real} of the generated structures are nearer to training data than any of "
            f"{test.n_images.real} unseen real structures ({figure(test.expected_nearer)} expected): the nearest has a "
            f"pixel MSE of {figure(nearest.minimum_mse)}, of the real ones {figure(nearest.held_out_minimum_mse)}."
        )
    if test.z is not None and test.z < COPYING_Z:
        sentences.append(
            f"They are nearer to the training structures than unseen real ones, as copies are (z = {test.z:.1f})."
        )
        p_value = evaluation.volume_fraction.p_value
        if p_value is not None and p_value < 0.05:
            sentences.append("Structures with less of a phase are so too, and their volume fraction deviates.")
    return sentences


def notes(evaluation: Evaluation) -> list[str]:
    """Return the floors of the measures by features."""
    measured = [m for m in feature_measures(evaluation).values() if m.floor is not None]
    if not measured or measured[0].floor_n_images is None or measured[0].n_images is None:
        return []
    first, second = measured[0].floor_n_images
    text = f"floors by features: between disjoint sets of {first} and {second} real structures"
    if (first, second) != (measured[0].n_images.original, measured[0].n_images.generated):
        values = ", ".join(f"{m.name} {figure(m.value_at_floor_counts)}" for m in measured)
        text += f"; of {first} real and {second} generated ones: {values}"
    return [f"{text}."]


def counts(evaluation: Evaluation) -> str:
    """Return the numbers of structures behind the measures."""
    n = evaluation.n_images
    sets = {"generated": n.generated, "original": n.original, "held-out": n.held_out, "training": n.training}
    parts = ", ".join(f"{number} {name}" for name, number in sets.items() if number is not None)
    extent = " x ".join(map(str, evaluation.extent))
    floor = f"; floor: mean of {evaluation.n_floor_draws} bootstrap sets" if n.original > 1 else ""
    windows = evaluation.n_windows
    overlap = ""
    if windows is not None and windows.original:
        held_out = f", the held-out ones {windows.held_out:.1f}" if windows.held_out else ""
        overlap = f" The originals overlap: they are worth {windows.original:.1f} independent windows{held_out}."
    return f"{parts} structures of {extent} pixels{floor}.{overlap}"


def missing_parts(evaluation: Evaluation) -> str:
    """Return why cells of the table are empty; an empty text without such cells."""
    reasons = []
    if evaluation.n_images.held_out is None:
        reasons.append("no part of the original was held out")
    if evaluation.volume_fraction.floor is None:
        reasons.append("the originals do not tell how far real structures scatter, so that there is no floor")
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
    if test.n_images is None:
        return f"The distances were not tested: {test.reason}."
    text = (
        f"The median distance to the nearest training structure is {test.median_mse:.4f} for generated structures and "
        f"{test.real_median_mse:.4f} for unseen real ones ({test.compared_with}). {test.n_nearer_than_any_real} "
        f"generated structures are nearer than any of {test.n_images.real} real ones"
    )
    text += f"; {test.expected_nearer:.1f} are expected." if test.expected_nearer is not None else "."
    if test.z is None:
        return f"{text} The distances were not tested: {test.reason}."
    overlap = f" The real ones overlap and count as {test.n_windows:.1f} windows." if test.n_windows else ""
    return f"{text} The Mann-Whitney test of both sets of distances (Meehan et al.) gives z = {test.z:+.1f}.{overlap}"


def colours(n_phases: int) -> str:
    """Describe the grey levels of the pictures."""
    if n_phases == 0:
        return "Grey values from black (0) to white (1)."
    if n_phases == 2:
        return "Phase 0 is black, phase 1 white."
    return f"Phase 0 is black, phase {n_phases - 1} white, those between are grey."
