"""Generated volumes against original structures in two dimensions, and against true volumes -> `VolumeEvaluation`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mcrpy_diffusion.data.segmentation import otsu_threshold
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.sets import FLOOR_SEED, N_FLOOR_DRAWS
from mcrpy_diffusion.evaluation.shapes import DIRECTIONS
from mcrpy_diffusion.evaluation.statistics import CURVES
from mcrpy_diffusion.evaluation.volume_results import (
    CurveFit,
    DirectionCurves,
    DirectionFit,
    PhaseVolumeCurves,
    PhaseVolumeFit,
    PlaneDirectionFit,
    PlaneFit,
    ScalarFit,
    SpaceFit,
    VolumeCounts,
    VolumeEvaluation,
)
from mcrpy_diffusion.evaluation.volume_sets import fit_curves, fit_scalars, resampled_noise
from mcrpy_diffusion.evaluation.volume_statistics import (
    DIRECTION_CLASSES,
    SliceStatistics,
    SpaceStatistics,
    slice_statistics,
    space_statistics,
    spacings,
)
from mcrpy_diffusion.metrics.sections import slices
from mcrpy_diffusion.metrics.spatial_statistics import default_max_distance

AXES = ("x", "y", "z")
_SMALLEST = 8  # voxels along each axis
_FEWEST_FOR_SPREAD = 8  # original structures whose volume fractions have a known scatter


def evaluate_volumes(
    original: np.ndarray | Mapping[str, np.ndarray],
    generated: np.ndarray,
    *,
    n_phases: int,
    periodic: bool,
    periodic_original: bool | None = None,
    true: np.ndarray | None = None,
    isotropic: bool = False,
    properties: bool = False,
) -> VolumeEvaluation:
    """Compare generated volumes with original structures in two dimensions, and with true volumes.

    Parameters
    ----------
    original : (N, A, B), or mapping of such
        Original structures, for all three planes or for the planes "x", "y" and "z" across the axes. Rows and columns
        of a plane are the other two axes in order.
    generated : (M, I, J, K)
        Volumes.
    n_phases : int
        Number of phases, 0 for grey values, which are cut at Otsu's threshold of the original ones.
    periodic : bool
        Whether the volumes, and the true ones, continue across their edges.
    periodic_original : bool, optional
        Whether the original structures do; by default, as the volumes.
    true : (V, I, J, K), optional
        True volumes of the same material and extent.
    isotropic : bool
        Whether rows and columns of the original structures are alike, and their diagonals: both are then averaged.
    properties : bool
        Whether the conductivity is computed, which needs taufactor.

    Returns
    -------
    VolumeEvaluation
        Two phases are both measured.

    Raises
    ------
    InputError
        If a set is missing, has another number of dimensions, true volumes another extent, or taufactor is missing.

    Notes
    -----
    Slices of one volume are correlated, and 64 of them say less than 64 structures. Each volume therefore counts once,
    with the means over its slices. The floor is what N original structures and M volumes would differ by if both had
    the same expected values: both are resampled as wholes. The scatter of volumes is that of the true ones, if there
    are two, else that of the generated ones; a generator whose volumes scatter too much has then too large a floor.
    """
    planes = dict(original) if isinstance(original, Mapping) else dict.fromkeys(AXES, original)
    planes = {axis: np.asarray(images) for axis, images in planes.items()}
    made, real = np.asarray(generated), None if true is None else np.asarray(true)
    _check(planes, made, real)
    threshold = None
    if not n_phases:
        threshold = otsu_threshold(np.concatenate([images.ravel() for images in planes.values()]))
        planes = {axis: _segment(images, threshold) for axis, images in planes.items()}
        made, real = _segment(made, threshold), None if real is None else _segment(real, threshold)
    periodic_slices = periodic and (periodic if periodic_original is None else periodic_original)
    phases = {
        str(phase): _fit_phase(planes, made, real, phase, periodic, periodic_slices, isotropic, properties)
        for phase in range(max(n_phases, 2))
    }
    scatter_of = "true volumes" if real is not None and len(real) > 1 else "generated volumes"
    if len(made) < 2 and scatter_of == "generated volumes":
        scatter_of = "none"
    n_true = 0 if real is None else len(real)
    return VolumeEvaluation(
        n_volumes=VolumeCounts(generated=len(made), true=n_true, original={axis: len(planes[axis]) for axis in AXES}),
        n_floor_draws=N_FLOOR_DRAWS,
        n_phases=n_phases,
        extent=(made.shape[1], made.shape[2], made.shape[3]),
        periodic=bool(periodic),
        grey_threshold=threshold,
        scatter_of=scatter_of,
        phases=phases,
        warnings=tuple(_warnings(planes, scatter_of)),
    )


def _segment(values: np.ndarray, threshold: float) -> np.ndarray:
    return (values > threshold).astype(np.uint8)


def _check(planes: dict[str, np.ndarray], made: np.ndarray, real: np.ndarray | None) -> None:
    if set(planes) != set(AXES):
        raise InputError(f"original structures must be given for the planes x, y and z, got {', '.join(planes)}")
    for name, volumes in (("generated", made), ("true", real)):
        if volumes is None:
            continue
        if volumes.ndim != 4 or len(volumes) == 0 or min(volumes.shape[1:]) < _SMALLEST:
            raise InputError(
                f"the {name} volumes must have the shape (n, I, J, K) with at least {_SMALLEST} voxels along each "
                f"axis, got {volumes.shape}"
            )
        if volumes.shape[1:] != made.shape[1:]:
            raise InputError(f"the {name} volumes must have the extent {made.shape[1:]}, got {volumes.shape[1:]}")
    for axis, images in planes.items():
        if images.ndim != 3 or len(images) == 0 or min(images.shape[1:]) < _SMALLEST:
            raise InputError(
                f"the original structures of plane {axis} must have the shape (n, I, J) with at least {_SMALLEST} "
                f"pixels along each axis, got {images.shape}"
            )


def _warnings(planes: dict[str, np.ndarray], scatter_of: str) -> list[str]:
    found = []
    if any(len(images) == 1 for images in planes.values()):
        found.append("there is one original structure alone: its scatter is unknown, and missing in the floors")
    if scatter_of == "none":
        found.append("there is one volume alone: the scatter of volumes is unknown, and missing in the floors")
    return found


def _fit_phase(
    planes: dict[str, np.ndarray],
    made: np.ndarray,
    real: np.ndarray | None,
    phase: int,
    periodic: bool,
    periodic_slices: bool,
    isotropic: bool,
    properties: bool,
) -> PhaseVolumeFit:
    space, true_space = (
        None if volumes is None else space_statistics(volumes, phase=phase, periodic=periodic, properties=properties)
        for volumes in (made, real)
    )
    assert space is not None
    has_scatter = true_space is not None and real is not None and len(real) > 1
    fits, originals = {}, {}
    for k, axis in enumerate(AXES):
        images = planes[axis][:, None]
        sets = {"original": images, "generated": slices(made, axis=k)}
        if real is not None and has_scatter:
            sets["scatter"] = slices(real, axis=k)
        smallest = np.min([each.shape[2:] for each in sets.values()], axis=0)
        extent = (int(smallest[0]), int(smallest[1]))
        measured = {
            name: slice_statistics(
                each,
                phase=phase,
                periodic=periodic_slices,
                max_distance=default_max_distance(extent),
                longest_chord=min(extent) - 2,
                extent=extent,
            )
            for name, each in sets.items()
        }
        original = measured["original"].isotropic() if isotropic else measured["original"]
        originals[axis] = original
        fits[axis] = _fit_plane(original, measured["generated"], measured.get("scatter", measured["generated"]))
    scatter = true_space if has_scatter and true_space is not None else space
    fractions = np.concatenate([original.fractions.ravel() for original in originals.values()])
    return PhaseVolumeFit(
        volume_fraction=fit_scalars(fractions, space.scalars["volume_fraction"], scatter.scalars["volume_fraction"]),
        planes=fits,
        space=_fit_space(true_space, space, scatter),
        curves=_curves(true_space, space, originals),
    )


def _fit_plane(original: SliceStatistics, made: SliceStatistics, scatter: SliceStatistics) -> PlaneFit:
    def curve(measure: str, k: int) -> CurveFit:
        return fit_curves(*(each.along[measure][:, k] for each in (original, made, scatter)))

    directions = {
        name: PlaneDirectionFit(
            two_point_correlation=curve(CURVES[0], k),
            lineal_path=curve(CURVES[1], k),
            interface_density=fit_scalars(*(each.interface[:, k] for each in (original, made, scatter))),
            chord_length=fit_curves(*(each.chords[:, k] for each in (original, made, scatter))) if k < 2 else None,
        )
        for k, name in enumerate(DIRECTIONS)
    }
    counts = {name: fit_scalars(*(each.counts[name] for each in (original, made, scatter))) for name in made.counts}
    averaged = {m: fit_curves(*(each.curves[m] for each in (original, made, scatter))) for m in CURVES}
    return PlaneFit(
        two_point_correlation=averaged[CURVES[0]],
        lineal_path=averaged[CURVES[1]],
        directions=directions,
        number_of_clusters=counts["number_of_clusters"],
        euler_number=counts["euler_number"],
        isolated_pixels=counts["isolated_pixels"],
        slice_fraction_std=_fit_spread(original.fractions.ravel(), made, scatter),
    )


def _fit_spread(fractions: np.ndarray, made: SliceStatistics, scatter: SliceStatistics) -> ScalarFit:
    """Compare the spread of the volume fractions (N,) of original structures with that within the volumes."""
    within, of_scatter = made.fractions.std(axis=1), scatter.fractions.std(axis=1)
    if len(fractions) < _FEWEST_FOR_SPREAD:
        return fit_scalars(None, within, of_scatter)
    spread = float(fractions.std(ddof=1))
    chosen = np.random.default_rng(FLOOR_SEED).integers(len(fractions), size=(N_FLOOR_DRAWS, len(fractions)))
    noise = resampled_noise(of_scatter, len(within), seed=FLOOR_SEED + 1)
    return ScalarFit(
        reference=spread,
        reference_std=None,
        generated=float(within.mean()),
        generated_std=float(within.std()),
        difference=float(within.mean() - spread),
        floor=float(np.abs(fractions[chosen].std(axis=1, ddof=1) - spread - noise).mean()),
    )


def _fit_space(true: SpaceStatistics | None, made: SpaceStatistics, scatter: SpaceStatistics) -> SpaceFit:
    def curve(measure: str, name: str) -> CurveFit:
        reference = None if true is None else true.curves[measure][name]
        return fit_curves(reference, made.curves[measure][name], scatter.curves[measure][name])

    scalars = {
        name: fit_scalars(None if true is None else true.scalars[name], values, scatter.scalars[name])
        for name, values in made.scalars.items()
    }
    by_axis = {
        name: {
            axis: fit_scalars(
                None if true is None else true.by_axis[name][:, k], values[:, k], scatter.by_axis[name][:, k]
            )
            for k, axis in enumerate(AXES)
        }
        for name, values in made.by_axis.items()
    }
    directions = {
        name: DirectionFit(two_point_correlation=curve(CURVES[0], name), lineal_path=curve(CURVES[1], name))
        for name in DIRECTION_CLASSES
    }
    return SpaceFit(
        two_point_correlation=fit_curves(None if true is None else true.radial, made.radial, scatter.radial),
        directions=directions,
        conductivity=by_axis.get("conductivity"),
        percolating_share=by_axis["percolating_share"],
        slice_fraction_std=by_axis["slice_fraction_std"],
        volume_fraction=scalars["volume_fraction"],
        specific_surface=scalars["specific_surface"],
        number_of_clusters=scalars["number_of_clusters"],
        euler_number=scalars["euler_number"],
        isolated_voxels=scalars["isolated_voxels"],
        diagonal_clusters=scalars["diagonal_clusters"],
        diagonal_isolated_pixels=scalars["diagonal_isolated_pixels"],
    )


def _curves(
    true: SpaceStatistics | None, made: SpaceStatistics, originals: Mapping[str, SliceStatistics]
) -> PhaseVolumeCurves:
    def mean(curves: np.ndarray) -> tuple[float, ...]:
        return tuple(curves.mean(axis=0).tolist())

    by_measure = {
        measure: {
            name: DirectionCurves(
                spacing=spacing,
                generated=mean(made.curves[measure][name]),
                true=None if true is None else mean(true.curves[measure][name]),
            )
            for name, spacing in spacings().items()
        }
        for measure in CURVES
    }
    of_originals = {
        measure: {axis: mean(each.along[measure][:, :2].mean(axis=1)) for axis, each in originals.items()}
        for measure in CURVES
    }
    return PhaseVolumeCurves(
        two_point_correlation=by_measure[CURVES[0]],
        lineal_path=by_measure[CURVES[1]],
        original_two_point_correlation=of_originals[CURVES[0]],
        original_lineal_path=of_originals[CURVES[1]],
    )
