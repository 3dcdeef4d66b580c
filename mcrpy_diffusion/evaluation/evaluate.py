"""Stage 4: generated against original structures -> an `Evaluation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mcrpy_diffusion.data.segmentation import otsu_threshold
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.copies import find_copies
from mcrpy_diffusion.evaluation.features import feature_warnings, generative_measures
from mcrpy_diffusion.evaluation.grains import compare_grains
from mcrpy_diffusion.evaluation.properties import compare_properties
from mcrpy_diffusion.evaluation.results import (
    Counts,
    CurveComparison,
    CurveDiscrepancy,
    Curves,
    Evaluation,
    PhaseComparison,
    PhaseCurves,
    ScalarComparison,
    SetSpreads,
    WindowCounts,
)
from mcrpy_diffusion.evaluation.sets import N_FLOOR_DRAWS, compare_curves, compare_scalars
from mcrpy_diffusion.evaluation.shapes import compare_chords, compare_directions, compare_interfaces
from mcrpy_diffusion.evaluation.statistics import CURVES, set_statistics, spread
from mcrpy_diffusion.evaluation.verdict import judge
from mcrpy_diffusion.metrics.image_features import FeatureNetwork
from mcrpy_diffusion.metrics.spatial_statistics import default_max_distance
from mcrpy_diffusion.metrics.windows import independent_windows
from mcrpy_diffusion.settings.images import MAX_PHASES


def evaluate(
    original: np.ndarray,
    generated: np.ndarray,
    *,
    n_phases: int,
    periodic: bool,
    training: np.ndarray | None = None,
    held_out: np.ndarray | None = None,
    micrographs: Sequence[np.ndarray] | None = None,
    held_out_micrographs: Sequence[np.ndarray] | None = None,
    features: FeatureNetwork | None = None,
    floor_sets: tuple[np.ndarray, np.ndarray] | None = None,
    overlapping: bool = False,
    boundary_phase: int | None = None,
    isotropic: bool = False,
    properties: bool = False,
) -> Evaluation:
    """Compare generated structures with original ones.

    Parameters
    ----------
    original : (N, A, B)
        Real structures of any extent: crops of the training part of the micrographs, or the reference itself.
    generated : (M, I, J)
        Structures of the model.
    n_phases : int
        Number of phases, at most `MAX_PHASES`; 0 for grey values, which are cut at Otsu's threshold of the original
        ones.
    periodic : bool
        Whether the structures continue across their edges.
    training : (K, I, J), optional
        The training images, for their discrepancy from the original and, without `micrographs`, for the search for
        copies.
    held_out : (H, I, J), optional
        Real structures that were not used for training.
    micrographs : sequence of (C, D), optional
        Micrographs that training crops were cut from; every position is searched for copies, and their size limits what
        the original structures tell (`windows.independent_windows`).
    held_out_micrographs : sequence of (C, D), optional
        Micrographs that the held-out structures were cut from.
    features : FeatureNetwork, optional
        Network for the Frechet distance, precision, recall, density and coverage; by default, none is measured.
    floor_sets : (F, I, J) and (G, I, J), optional
        Two sets of real structures without a common pixel, for the floor of these measures. By default, the
        original ones are divided, unless they overlap.
    overlapping : bool
        Whether original and held-out structures are crops that overlap; always so with `micrographs`. Without the
        micrographs it is unknown how far they scatter: there are then no floors and intervals, and no copying score.
    boundary_phase : int, optional
        The phase of the boundaries between grains; by default, grains are not measured.
    isotropic : bool
        Whether mirror images and, of square structures, quarter turns are searched for copies too.
    properties : bool
        Whether conductivity and tortuosity factor are computed, which needs taufactor.

    Returns
    -------
    Evaluation
        Its `to_dict` is the content of metrics.json, see docs/evaluation.md. A missing measure is None. With more than
        two phases, each measure is that of the phase that fits worst, and `phases` has all.

    Raises
    ------
    InputError
        If there are no original or generated structures, other sets differ in extent from the generated one, or there
        are too many phases.

    Notes
    -----
    S2(r) and L(r) are means over the images of a set, r = 0 .. half of the smallest extent, minus 1; the discrepancy
    is eq. (23) of the paper. S2 is averaged over all directions, L over rows and columns; diagonals have longer steps
    and would need interpolation. The sampling floor is the same measure between two bootstrap sets of the original
    structures, of the sizes of the original and the generated set; mean over `N_FLOOR_DRAWS` draws with a fixed seed.
    A perfect generator would reach it. Crops that overlap count as the independent windows of their micrographs.

    The Frechet distance depends on the numbers of images, and resampled images would be each other's neighbours. The
    floor of the measures by features is therefore that of two disjoint sets of real images. If their sizes differ
    from those of the value, the generated images are also measured in these sizes.
    """
    training_set = None if training is original else training  # measured once
    sets = {"original": original, "generated": generated, "training": training_set, "held_out": held_out}
    given = {name: np.asarray(images) for name, images in sets.items() if images is not None and len(images) > 0}
    _check_sets(given)
    if n_phases > MAX_PHASES:
        raise InputError(f"structures must have at most {MAX_PHASES} phases 0, 1, 2, ..., got {n_phases}")
    overlapping = overlapping or bool(micrographs)
    segmented = given if n_phases else _threshold(given)
    phases = range(n_phases) if n_phases > 2 else [1]
    last = min(default_max_distance(images.shape[1:]) for images in given.values())
    windows = _count_windows(given, micrographs, held_out_micrographs, overlapping=overlapping)
    compared = {
        str(phase): _compare_phase(segmented, phase=phase, periodic=periodic, last=last, n_windows=windows.original)
        for phase in phases
    }
    by_phase = {phase: comparison for phase, (comparison, _) in compared.items()}
    measures = generative_measures(given, n_phases, features, floor_sets, divide=not overlapping)
    nearest, copying = find_copies(
        given,
        n_phases=n_phases,
        periodic=periodic,
        training=training,
        micrographs=micrographs,
        overlapping=overlapping,
        held_out_windows=windows.held_out,
        isotropic=isotropic,
    )
    grains = None
    if boundary_phase is not None:
        grains = compare_grains(segmented, boundary_phase=boundary_phase, periodic=periodic, n_windows=windows.original)
    found_properties = None
    if properties:
        if given["original"].shape[1:] != given["generated"].shape[1:]:
            raise InputError("properties need original structures of the same extent as the generated ones")
        found_properties = compare_properties(segmented, n_phases=max(n_phases, 2), n_windows=windows.original)
    evaluation = Evaluation(
        n_images=Counts(**{name: len(images) for name, images in given.items()}),
        n_floor_draws=N_FLOOR_DRAWS,
        n_phases=n_phases,
        extent=(given["generated"].shape[1], given["generated"].shape[2]),
        periodic=bool(periodic),
        **vars(worst_phases(by_phase)),
        phases=by_phase if n_phases > 2 else None,
        grey_threshold=None if n_phases else otsu_threshold(given["original"]),
        **vars(measures),
        warnings=(*_phase_warnings(by_phase), *feature_warnings(measures.frechet_distance, overlapping=overlapping)),
        nearest_training_image=nearest,
        data_copying=copying,
        grains=grains,
        properties=found_properties,
        curves=Curves(
            distance=tuple(range(last + 1)), phases={phase: curves for phase, (_, curves) in compared.items()}
        ),
        n_windows=None if windows == WindowCounts() else windows,
    )
    return replace(evaluation, verdict=judge(evaluation))


def _count_windows(
    given: dict[str, np.ndarray],
    micrographs: Sequence[np.ndarray] | None,
    held_out_micrographs: Sequence[np.ndarray] | None,
    *,
    overlapping: bool,
) -> WindowCounts:
    """Count the independent windows of overlapping crops."""
    extent = given["generated"].shape[1:]

    def count(sources: Sequence[np.ndarray] | None) -> float | None:
        if sources:
            return independent_windows([np.shape(m) for m in sources], extent)
        return 0.0 if overlapping else None

    held_out = count(held_out_micrographs) if "held_out" in given else None
    return WindowCounts(original=count(micrographs), held_out=held_out)


def _check_sets(given: dict[str, np.ndarray]) -> None:
    for name in ("original", "generated"):
        if name not in given:
            raise InputError(f"there must be at least one {name} structure")
    extent = given["generated"].shape[1:]
    for name, images in given.items():
        if images.ndim != 3 or (images.shape[1:] != extent and name != "original"):
            wanted = f"(n, {', '.join(map(str, extent))}), as the generated ones"
            raise InputError(f"the {name} structures must have shape {wanted}, got {images.shape}")
        if min(images.shape[1:]) < 4:
            raise InputError(f"the {name} structures must have at least 4 x 4 pixels, got shape {images.shape}")


def _threshold(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Segment grey values into phases 0 and 1, all sets by the threshold of the original one."""
    threshold = otsu_threshold(given["original"])
    return {name: (images > threshold).astype(np.uint8) for name, images in given.items()}


def _compare_phase(
    given: dict[str, np.ndarray], *, phase: int, periodic: bool, last: int, n_windows: float | None
) -> tuple[PhaseComparison, PhaseCurves]:
    """Return all measures of one phase, and its curves up to the distance `last`."""
    found = {
        name: set_statistics(images, phase=phase, periodic=periodic, max_distance=last)
        for name, images in given.items()
    }
    counts = Counts(**{name: statistics.n_images for name, statistics in found.items()})
    curves: dict[str, CurveComparison] = {}
    for measure in CURVES:
        of_sets = {name: getattr(statistics, measure) for name, statistics in found.items()}
        along = {name: each.along[measure] for name, each in found.items()}
        directions, anisotropy = compare_directions(along, n_windows=n_windows)
        curves[measure] = CurveComparison(
            **vars(compare_curves(of_sets, n_windows=n_windows)),
            directions=directions,
            anisotropy_percent=anisotropy,
            phase=phase,
            n_images=counts,
        )
    comparison = PhaseComparison(
        volume_fraction=compare_scalars(
            {name: each.volume_fraction for name, each in found.items()}, phase=phase, n_windows=n_windows
        ),
        two_point_correlation=curves["two_point_correlation"],
        lineal_path=curves["lineal_path"],
        **compare_interfaces(given, phase=phase, periodic=periodic, n_windows=n_windows),
        chord_length=compare_chords(given, phase=phase, periodic=periodic, n_windows=n_windows),
    )
    names = [name for name in ("original", "generated", "held_out") if name in found]
    spreads = {m: SetSpreads(**{name: spread(getattr(found[name], m)) for name in names}) for m in CURVES}
    return comparison, PhaseCurves(**spreads)


def worst_phases(by_phase: Mapping[str, PhaseComparison]) -> PhaseComparison:
    """Return each measure of the phase that fits worst, the first one of equals.

    A phase that the generated structures alone have is the worst: its curves have no finite discrepancy.
    """
    worst = {}
    for name in PhaseComparison.__dataclass_fields__:
        found = {phase: getattr(comparison, name) for phase, comparison in by_phase.items()}
        worst[name] = found[max(found, key=lambda phase: _deviation(found[phase], by_phase[phase].volume_fraction))]
    return PhaseComparison(**worst)


def _deviation(values: ScalarComparison | CurveDiscrepancy | None, fraction: ScalarComparison) -> float:
    """Return the size of the deviation of a measure, for the choice of the worst phase."""
    if values is None:
        return 0.0
    value = values.deviation[0]
    if value is None:
        return float("inf") if fraction.generated > 0 else 0.0
    return abs(value)


def _phase_warnings(by_phase: Mapping[str, PhaseComparison]) -> list[str]:
    """Name the phases that only one of both sets has."""
    only: dict[str, list[str]] = {"generated": [], "original": []}
    for phase, comparison in by_phase.items():
        fraction = comparison.volume_fraction
        if (fraction.generated > 0) != (fraction.original > 0):
            only["generated" if fraction.generated > 0 else "original"].append(phase)
    return [f"phase {', '.join(p)}: in the {name} structures alone" for name, p in only.items() if p]
