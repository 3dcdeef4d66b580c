"""Quality of the structures of each method of a benchmark, compared with real ones of the held-out part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mcrpy_diffusion.benchmark.plan import Plan
from mcrpy_diffusion.data.crops import all_crops, grid_crops, n_positions, random_crops
from mcrpy_diffusion.data.micrograph import hash_phases
from mcrpy_diffusion.data.split import HELD_OUT_SEED
from mcrpy_diffusion.evaluation.evaluate import evaluate
from mcrpy_diffusion.evaluation.results import Evaluation
from mcrpy_diffusion.metrics.copying import distance_matrix
from mcrpy_diffusion.metrics.diversity import mean_nearest_distance
from mcrpy_diffusion.metrics.frechet_distance import frechet_distance
from mcrpy_diffusion.metrics.image_features import FeatureNetwork, image_features
from mcrpy_diffusion.metrics.precision_recall import N_NEIGHBOURS, precision_recall
from mcrpy_diffusion.workflow.compare import feature_network

N_CROPS = 1000
N_FLOOR_SETS = 10
FLOOR_SEED = 104_729  # differs from the seeds of the crops that are compared with


@dataclass
class RealSets:
    """Real structures that all methods are compared with, and their features.

    Attributes
    ----------
    n_phases : int
    periodic : bool
        Whether structures continue across the edges: only if the reference itself is the original.
    part : (A, B)
        The training part, which all methods use.
    original : (N, I, J)
        Crops of it, or the reference itself.
    held_out : (H, I, J) or None
        Crops of the held-out part.
    grid : (G, I, J)
        Crops of the held-out part, else of the reference, that overlap by half an extent at most: nearest neighbours
        among crops one pixel apart would be the same structure, shifted.
    independent : (K, I, J)
        Crops of both parts that have no pixel in common.
    network : FeatureNetwork or None
    seed : int
        Of the crops.
    extent : (int, int)
    held_out_part : (C, D) or None
        The held-out part.
    known : dict
        Features by the hash of their images.
    """

    n_phases: int
    periodic: bool
    part: np.ndarray
    original: np.ndarray
    held_out: np.ndarray | None
    grid: np.ndarray
    independent: np.ndarray
    network: FeatureNetwork | None
    seed: int
    extent: tuple[int, int]
    held_out_part: np.ndarray | None = None
    known: dict[str, np.ndarray] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, plan: Plan) -> RealSets:
        """Cut the crops of a plan's micrograph."""
        extent, seed, part, held = plan.settings.extent, plan.settings.seed, plan.training_part, plan.held_out_part
        half = (extent[0] // 2, extent[1] // 2)
        unseen = part if held is None else held
        network = feature_network(plan.settings.features, periodic=held is None)
        return cls(
            n_phases=plan.reference.n_phases,
            periodic=held is None,
            part=part,
            original=_crops(part, extent, seed) if held is not None else part[None],
            held_out=None if held is None else _crops(held, extent, seed + HELD_OUT_SEED),
            grid=grid_crops(unseen, extent=extent, step=half),
            independent=cls.independent_crops(plan),
            network=network,
            seed=seed,
            extent=extent,
            held_out_part=held,
        )

    @staticmethod
    def independent_crops(plan: Plan) -> np.ndarray:
        """Crops (K, I, J) of both parts that have no pixel in common."""
        extent, held = plan.settings.extent, plan.held_out_part
        parts = [plan.training_part] if held is None else [plan.training_part, held]
        return np.concatenate([grid_crops(part, extent=extent, step=extent) for part in parts])

    def counts(self) -> dict[str, int]:
        """Return how many real structures are behind the figures."""
        held_out = 0 if self.held_out is None else len(self.held_out)
        found = {"training_part": len(self.original), "held_out": held_out, "grid": len(self.grid)}
        return found | {"independent": len(self.independent)}

    @property
    def unseen(self) -> np.ndarray:
        """Real structures that features are compared with."""
        if self.held_out is not None:
            return self.held_out
        return _crops(self.part, self.extent, self.seed)

    def features(self, images: np.ndarray) -> np.ndarray | None:
        """Return the features (N, D) of images, measured once for each set of images."""
        if self.network is None:
            return None
        key = hash_phases(images)
        if key not in self.known:
            self.known[key] = image_features(self.network, images, n_phases=self.n_phases)
        return self.known[key]


def _crops(part: np.ndarray, extent: tuple[int, int], seed: int) -> np.ndarray:
    """Return every crop, or `N_CROPS` random ones if there are more."""
    if n_positions([part], extent=extent) <= N_CROPS:
        return all_crops([part], extent=extent)
    return random_crops([part], N_CROPS, extent=extent, seed=seed)


def quality(structures: np.ndarray, real: RealSets) -> dict[str, Any]:
    """Measure the structures of one method.

    Parameters
    ----------
    structures : (n, I, J)
    real : RealSets

    Returns
    -------
    dict
        `volume_fraction`, `eps_s2_percent` and `eps_l_percent` against the training part (`seen`) and the
        held-out part (`held_out`); `frechet_distance`, `precision` and `recall` against the latter; `diversity`;
        `copies`.
    """
    same_extent = real.part.shape == structures.shape[1:]
    search: dict[str, Any] = {"training": real.part[None]} if same_extent else {"micrographs": [real.part]}
    evaluation, measures = _measure(structures, real, **search)
    nearest = evaluation.nearest_training_image
    copies = {
        "minimum_mse": nearest.minimum_mse,
        "real_minimum_mse": nearest.held_out_minimum_mse,
        "independent_mse": nearest.independent_mse,
        "n_exact": nearest.n_exact_copies,
        "z": evaluation.data_copying.z,
    }
    return measures | {"diversity": diversity(structures, real.independent, periodic=True), "copies": copies}


def real_quality(n: int, real: RealSets) -> dict[str, Any]:
    """Measure n crops of the training part like structures of a method: the sampling floor.

    Parameters
    ----------
    n : int
        Structures that a method made.
    real : RealSets

    Returns
    -------
    dict
        As `quality` returns it, without `diversity` and `copies`: means over `N_FLOOR_SETS` sets of crops. Differences
        of the volume fraction are absolute values. One set alone is not enough: S2 of 20 crops of a micrograph of
        256 x 256 pixels varies by 1 to 15 %.
    """
    sets = [
        random_crops([real.part], n, extent=real.extent, seed=real.seed + FLOOR_SEED + k) for k in range(N_FLOOR_SETS)
    ]
    found = [_measure(crops, real)[1] for crops in sets]
    for each in found:
        fraction = each["volume_fraction"]
        fraction |= {side: None if (d := fraction[side]) is None else abs(d) for side in ("seen", "held_out")}
    return _mean(found) | {"n_sets": len(sets), "diversity": None, "copies": None}


def _measure(structures: np.ndarray, real: RealSets, **search: Any) -> tuple[Evaluation, dict[str, Any]]:
    """Compare structures with the training part and the held-out part."""
    options: dict[str, Any] = {"n_phases": real.n_phases, "periodic": real.periodic, "held_out": real.held_out}
    if real.held_out_part is not None:
        options["held_out_micrographs"] = [real.held_out_part]
    evaluation = evaluate(real.original, structures, **options, **search)
    fraction = evaluation.volume_fraction
    curves = {"eps_s2_percent": evaluation.two_point_correlation, "eps_l_percent": evaluation.lineal_path}
    return evaluation, {
        "volume_fraction": {
            "mean": fraction.generated,
            "std": fraction.generated_std,
            "seen": fraction.difference,
            "held_out": fraction.held_out_difference,
        },
        **{
            name: {"seen": curve.discrepancy_percent, "held_out": curve.held_out_discrepancy_percent}
            for name, curve in curves.items()
        },
        **by_features(real.features(structures), real.features(real.unseen), real.features(real.grid)),
    }


def _mean(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of each number of equal dictionaries, nested ones too; None if a value is None."""
    means: dict[str, Any] = {}
    for name, first in found[0].items():
        values = [each[name] for each in found]
        if isinstance(first, Mapping):
            means[name] = _mean(values)
        else:
            means[name] = None if None in values else float(np.mean(values))
    return means


def by_features(made: np.ndarray | None, unseen: np.ndarray | None, grid: np.ndarray | None) -> dict[str, float | None]:
    """Return Frechet distance to `unseen`, precision and recall in `grid`; None for too few structures.

    Parameters
    ----------
    made, unseen, grid : (N, D), (M, D), (G, D) or None
        Features.
    """
    found: dict[str, float | None] = dict.fromkeys(("frechet_distance", "precision", "recall"))
    if made is None or unseen is None or grid is None:
        return found
    if min(len(made), len(unseen)) >= 2:
        found["frechet_distance"] = frechet_distance(unseen, made)
    if min(len(made), len(grid)) > N_NEIGHBOURS:
        both = precision_recall(grid, made)
        found |= {"precision": both.precision, "recall": both.recall}
    return found


def diversity(structures: np.ndarray, independent: np.ndarray, *, periodic: bool) -> dict[str, Any] | None:
    """Compare how different structures are from one another with how different independent real ones are.

    Returns
    -------
    dict or None
        `relative`: mean distance to the nearest other structure of a set of `n_images`, over that of as many real
        ones (None for less than two); `distance`: the former alone. None for a single structure.

    Notes
    -----
    The distance is the pixel MSE under all shifts and a half turn, which S2 does not tell apart.
    """
    if len(structures) < 2:
        return None
    made = distance_matrix(structures, structures, periodic=periodic)
    n = min(len(structures), len(independent))
    if n < 2:
        return {"relative": None, "distance": mean_nearest_distance(made), "n_images": len(structures)}
    real = mean_nearest_distance(distance_matrix(independent, independent, periodic=periodic), n)
    own = mean_nearest_distance(made, n)
    return {"relative": own / real if real else None, "distance": own, "n_images": n}
