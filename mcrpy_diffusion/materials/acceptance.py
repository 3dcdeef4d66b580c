"""Acceptance test of reconstructed structures against the statistics of a micrograph or a characterization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.copying import nearest_crop_distance, nearest_distance
from mcrpy_diffusion.metrics.spatial_statistics import (
    default_max_distance,
    discrepancy,
    lineal_path,
    radial_average,
    two_point_correlation,
)
from mcrpy_diffusion.settings import GenerationSettings

_SOFT_THRESHOLD = 0.75  # of pair means, in MCRpy's Correlations


@dataclass(frozen=True)
class Target:
    """Statistics that a structure must match; None if unknown.

    Attributes
    ----------
    n_phases : int
    volume_fraction : (n_phases - 1,) fractions of phases 1, 2, ...
    two_point : (n_phases - 1, r) radial averages of S2
    lineal_path : (n_phases - 1, r) L, mean over the directions of rows and columns
    periodic : bool
        Whether the curves are those of a periodic structure.
    references : list of (A, B) micrographs that a structure must not copy
    """

    n_phases: int
    volume_fraction: np.ndarray | None = None
    two_point: np.ndarray | None = None
    lineal_path: np.ndarray | None = None
    periodic: bool = True
    references: list[np.ndarray] = field(default_factory=list)


def target_of_micrograph(phases: np.ndarray, settings: GenerationSettings, references: Sequence[np.ndarray]) -> Target:
    """Return the statistics of a micrograph as the target; no reference may be copied."""
    n_phases = max(int(max(np.max(each) for each in references)) + 1, 2)
    last = default_max_distance((*settings.extent, *phases.shape))
    return Target(
        n_phases,
        volume_fraction=volume_fraction_of(phases, n_phases),
        two_point=two_point_of(phases, n_phases, settings.periodic, last),
        lineal_path=lineal_path_of(phases, n_phases, settings.periodic, last),
        periodic=settings.periodic,
        references=[np.asarray(each) for each in references],
    )


def target_of_characterization(characterization: Mapping[str, Any], settings: GenerationSettings) -> Target:
    """Return the volume fraction and S2 that the descriptors contain.

    Notes
    -----
    FFTCorrelations is the map of periodic S2 with shift zero in the centre. The diagonal of Correlations is the mean
    square of softly thresholded pair means. For phases it equals S2 + 2 c^2 (phi - S2), where c is the thresholded mean
    of one pixel of the phase and one of another; this is solved for S2. Only the finest multigrid level is used, as in
    MCRpy's loss.
    """
    own = characterization["settings"]
    n_phases = max(int(own.n_phases), 2)
    periodic, maps = bool(getattr(own, "periodic", True)), None
    if "FFTCorrelations" in characterization:
        maps = np.fft.ifftshift(_of_phases(characterization["FFTCorrelations"], n_phases), axes=(-2, -1))
        periodic = True  # for every setting of `periodic`
    elif "Correlations" in characterization:
        steepness = float(getattr(own, "threshold_steepness", 10.0))
        maps = _map_of_correlations(_of_phases(characterization["Correlations"], n_phases), steepness)
    if maps is None:
        known = characterization.get("VolumeFractions")
        fraction = None if known is None else _of_phases(known, n_phases).reshape(n_phases - 1)
        return Target(n_phases, fraction, periodic=periodic)
    last = min(min(maps.shape[-2:]) // 2, default_max_distance(settings.extent))
    return Target(n_phases, maps[:, 0, 0], radial_average(maps, max_distance=last), periodic=periodic)


def _of_phases(descriptor: np.ndarray, n_phases: int) -> np.ndarray:
    """Return the descriptor of phases 1, 2, ... on the finest level; MCRpy's single-phase descriptor is of phase 1."""
    if len(descriptor) not in (1 if n_phases == 2 else n_phases, n_phases):
        raise InputError(
            f"the descriptor must have the {n_phases} phases of its settings, got {len(descriptor)}; characterize again"
        )
    return np.asarray(descriptor[-(n_phases - 1) :, 0], dtype=np.float64)


def _map_of_correlations(descriptor: np.ndarray, steepness: float) -> np.ndarray:
    """Return S2 (phases, 2 L - 1, 2 L - 1), shift zero first, from MCRpy's Correlations (phases, K, K)."""
    diagonal = np.diagonal(descriptor, axis1=-2, axis2=-1)
    limit_to = round(0.5 + np.sqrt(0.5 * diagonal.shape[-1] - 0.25))
    low, half, high = (1 / (1 + np.exp(-(x - _SOFT_THRESHOLD) * steepness)) for x in (0.0, 0.5, 1.0))
    share = 2 * ((half - low) / (high - low)) ** 2
    values = (diagonal - share * diagonal[:, :1]) / (1 - share)
    i, j = (a.ravel() for a in np.indices((limit_to, limit_to)))
    k, m = (a.ravel() + 1 for a in np.indices((limit_to - 1, limit_to - 1)))
    rows, columns = np.concatenate([i, k]), np.concatenate([j, -m])
    maps = np.empty((len(values), 2 * limit_to - 1, 2 * limit_to - 1))
    maps[:, rows, columns] = values
    maps[:, -rows, -columns] = values
    return maps


def volume_fraction_of(phases: np.ndarray, n_phases: int) -> np.ndarray:
    """Return the fractions of phases 1, 2, ..., shape (n_phases - 1,)."""
    return np.array([np.mean(phases == phase) for phase in range(1, n_phases)])


def two_point_of(phases: np.ndarray, n_phases: int, periodic: bool, last: int) -> np.ndarray:
    """Return the radial averages of S2 of phases 1, 2, ... for r = 0 .. last, shape (n_phases - 1, last + 1)."""
    maps = [two_point_correlation(phases, phase=phase, periodic=periodic) for phase in range(1, n_phases)]
    return np.stack([radial_average(each, max_distance=last) for each in maps])


def lineal_path_of(phases: np.ndarray, n_phases: int, periodic: bool, last: int) -> np.ndarray:
    """Return L of phases 1, 2, ... for r = 0 .. last, mean of rows and columns as in `evaluate`, (n_phases - 1, r)."""
    paths = [lineal_path(phases, phase=k, periodic=periodic, max_length=last) for k in range(1, n_phases)]
    return np.stack([each[:2].mean(axis=0) for each in paths])


def check(phases: np.ndarray, target: Target, settings: GenerationSettings) -> tuple[str, dict[str, Any]]:
    """Compare the statistics of a structure with their target.

    Returns
    -------
    reason : str
        The first reason for rejection: "phases", "volume fraction", "two-point correlation", "lineal path", "copy";
        empty if the structure passes.
    facts : dict
        Measured values: `volume_fraction` of phases 1, 2, ...; `discrepancies` in percent by measure, the maximum over
        phases; `distance`, see `distance_to_references`.
    """
    n = target.n_phases
    fraction = volume_fraction_of(phases, n)
    facts: dict[str, Any] = {"volume_fraction": fraction.tolist(), "discrepancies": {}}
    if not np.array_equal(np.unique(phases), np.arange(n)):
        return "phases", facts
    reason = ""
    if target.volume_fraction is not None:
        if np.abs(fraction - target.volume_fraction).max() > settings.volume_fraction_tolerance:
            reason = "volume fraction"
    for name, curves, measure, tolerance in (
        ("two-point correlation", target.two_point, two_point_of, settings.two_point_tolerance_percent),
        ("lineal path", target.lineal_path, lineal_path_of, settings.lineal_path_tolerance_percent),
    ):
        if curves is not None:
            own = measure(phases, n, target.periodic, curves.shape[-1] - 1)
            percent = max(discrepancy(a, b) for a, b in zip(curves, own))
            facts["discrepancies"][name.replace(" ", "_").replace("-", "_")] = percent
            reason = reason or (name if percent > tolerance else "")
    if target.references:
        distance = distance_to_references(phases, target.references)
        if np.isfinite(distance):
            facts["distance"] = distance
        reason = reason or ("copy" if distance < settings.copy_tolerance * independent(fraction) else "")
    return reason, facts


def independent(fraction: np.ndarray) -> float:
    """Return the expected fraction of pixels that differ between independent structures, 2 phi (1 - phi)."""
    all_phases = np.array([1 - fraction.sum(), *fraction])
    return float(1 - np.sum(all_phases**2))


def distance_to_references(phases: np.ndarray, references: Sequence[np.ndarray]) -> float:
    """Return the fraction of pixels that differ from the nearest micrograph, over mirror images and half turns.

    A micrograph of the same size is compared under all periodic shifts, a larger one crop by crop. The result is
    infinite if all micrographs are smaller along an axis.
    """
    turned = [each for m in references for each in (m, m[::-1])]  # the metrics below add the half turn of each
    same = [each for each in turned if each.shape == phases.shape]
    larger = [each for each in turned if each.shape != phases.shape and all(np.less_equal(phases.shape, each.shape))]
    distances = [np.inf]
    if same:
        distances.append(nearest_distance(phases[None], np.stack(same), periodic=True)[0][0])
    if larger:
        distances.append(nearest_crop_distance(phases[None], larger)[0])
    return float(min(distances))
