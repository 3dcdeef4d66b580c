"""Training structures by MCRpy's own characterize and reconstruct, in worker processes.

MCRpy rounds the optimised indicator functions to phases, and not every optimisation converges. Each structure is
therefore compared with its reference, and rejected if it deviates too much or is a copy.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials import engine
from mcrpy_diffusion.materials.acceptance import (
    Target,
    check,
    independent,
    target_of_characterization,
    target_of_micrograph,
    two_point_of,
    volume_fraction_of,
)
from mcrpy_diffusion.materials.samples import Maker, Sample
from mcrpy_diffusion.metrics.copying import nearest_distance
from mcrpy_diffusion.metrics.spatial_statistics import discrepancy
from mcrpy_diffusion.settings import GenerationSettings

MAX_LOSS_RATIO = 10.0  # to the median loss so far: the convergence criterion if no S2 is known
N_COMPARED = 64  # accepted structures that a new one must not duplicate, without a micrograph
# measured memory of a worker with TensorFlow and MCRpy; with VGG-19 in PyTorch; with VGG-19 in MCRpy's graph
WORKER_BYTES, WORKER_BYTES_GRAM_TORCH, WORKER_BYTES_GRAM = 0.8e9, 2.2e9, 6.6e9
_EARLY_FRACTION, _EARLY_TWO_POINT = 0.25, 0.2  # of the tolerances; the optimisation stops early below both


@dataclass(frozen=True)
class Job:
    """The input of MCRpy's reconstruction from one reference."""

    descriptors: dict[str, np.ndarray]
    n_phases: int  # MCRpy's count: 1 for two phases with one indicator function
    shape: tuple[int, int]
    mcrpy_settings: dict[str, Any]
    target: Target


@dataclass(frozen=True)
class Reconstructions:
    """Samples by MCRpy's reconstruction (a `samples.Source`); sample i has reference i modulo their number.

    Attributes
    ----------
    settings : GenerationSettings
    jobs : tuple of Job
        One for each characterization.
    micrographs : tuple of (A, B) integer phases
        Instead of jobs; workers characterize them, so that no other process needs TensorFlow.
    stop_early : bool
        Whether an optimisation stops once its structure is well within the tolerances.
    """

    settings: GenerationSettings
    jobs: tuple[Job, ...] = ()
    micrographs: tuple[np.ndarray, ...] = ()
    stop_early: bool = True
    name: str = "MCRpy reconstructions"

    @property
    def environment(self) -> Mapping[str, str]:
        """One TensorFlow thread, no GPU."""
        from mcrpy_diffusion.mcrpy_bridge.environment import variables

        return variables(threads=1, hide_gpus=True)

    @property
    def worker_bytes(self) -> float:
        """Memory with TensorFlow and MCRpy, and VGG-19 for Gram matrices."""
        from mcrpy_diffusion.mcrpy_bridge import gram_loss, vgg19

        if not any("Gram" in name for name in self.settings.descriptor_types):
            return WORKER_BYTES
        on_torch = gram_loss.is_mcrpys(self.settings.to_dict(), self.settings.extent) and vgg19.is_installed()
        return WORKER_BYTES_GRAM_TORCH if on_torch else WORKER_BYTES_GRAM

    def start(self) -> Maker:
        """Return the function that makes samples; it builds the graphs of a reference once."""
        from mcrpy_diffusion.mcrpy_bridge.reconstruction import Reconstructor

        @functools.cache
        def prepared(number: int) -> tuple[Job, Reconstructor]:
            job = self.jobs[number] if self.jobs else _job_of_micrograph(number, self.micrographs, self.settings)
            return job, Reconstructor(
                job.descriptors,
                n_phases=job.n_phases,
                shape=job.shape,
                settings=job.mcrpy_settings,
                stopping_criterion=_stopping_criterion(job.target, self.settings) if self.stop_early else None,
            )

        def make(index: int, seed: int) -> Sample:
            job, reconstruct = prepared(index % (len(self.jobs) or len(self.micrographs)))
            made = reconstruct(seed)
            reason, facts = check(made.phases, job.target, self.settings)
            return Sample(made.phases, reason, {**facts, "loss": made.loss, "n_iterations": made.n_iterations})

        return make

    def advice(self, reason: str) -> str:
        """Return a remedy for a reason of rejection."""
        settings = self.settings
        half = min(settings.extent) // 2
        limit_to = "" if settings.limit_to in (None, half) else f"--limit_to {half} (now {settings.limit_to}), "
        advice = {
            "volume fraction": "a larger --max_iter, or FFTCorrelations with --optimizer_type LBFGSB",
            "two-point correlation": f"{limit_to}a larger --max_iter, or --descriptor_types FFTCorrelations",
            "lineal path": "further --descriptor_types that describe connectivity, or a larger micrograph to crop",
            "copy": "a larger micrograph to crop, or a smaller --limit_to: these descriptors fix the structure",
            "duplicate": "a characterization of a larger micrograph, or a smaller limit_to: it fixes the structure",
            "phases": "a larger --max_iter, or --descriptor_types FFTCorrelations",
            "loss": "a larger --max_iter, or another --optimizer_type",
        }
        return advice.get(reason, "other descriptors")


def generate(
    dataset: Dataset,
    settings: GenerationSettings,
    *,
    references: Sequence[np.ndarray] | None = None,
    characterizations: Sequence[Mapping[str, Any]] | None = None,
    n_samples: int,
    n_jobs: int = -1,
    scheduler: str | None = None,
    log_path: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Fill a data set with reconstructions that pass their check, or resume an interrupted call.

    Parameters
    ----------
    dataset, settings, n_samples, progress
        As in `engine.fill`.
    references : sequence of (A, B) integer phases, optional
        Micrographs.
    characterizations : sequence of dict, optional
        Instead of micrographs, what `mcrpy_bridge.characterization.read_characterization` returns. Their own settings
        determine `limit_to`, multigrid and periodicity.
    n_jobs, scheduler, log_path
        As in `generate.generate`.
    """
    if (references is None) == (characterizations is None):
        raise ValueError("give either references or characterizations")
    if dataset.n_accepted >= n_samples:
        return
    source = Reconstructions(
        settings,
        jobs=tuple(job_of_characterization(each, settings) for each in characterizations or ()),
        micrographs=tuple(np.asarray(phases) for phases in references or ()),
    )
    engine.fill_in_processes(
        dataset,
        source,
        n_samples=n_samples,
        seed=settings.seed,
        n_jobs=n_jobs,
        scheduler=scheduler,
        log_path=log_path,
        sample_filter=None if references is not None else DuplicateFilter(dataset, settings),
        progress=progress,
    )


class DuplicateFilter:
    """Rejects duplicates and outliers of the loss if no micrograph is known (a `samples.SampleFilter`).

    A duplicate is nearly equal to one of the first accepted samples. Without a known S2, a loss far above the median so
    far indicates that the optimisation has not converged.
    """

    def __init__(self, dataset: Dataset, settings: GenerationSettings) -> None:
        self._settings = settings
        self._losses = [float(line["loss"]) for line in dataset.samples]
        self._first = [dataset.sample(index) for index in dataset.accepted[:N_COMPARED]]

    def reason(self, sample: Sample) -> str:
        """Return "loss", "duplicate" or ""; record the distance to the nearest of the first accepted samples."""
        facts = sample.facts
        if "two_point_correlation" not in facts["discrepancies"]:
            if facts["loss"] > MAX_LOSS_RATIO * float(np.median([*self._losses, facts["loss"]])):
                return "loss"
        if self._first:
            nearest = float(nearest_distance(sample.phases[None], np.stack(self._first), periodic=True)[0][0])
            facts["distance"] = nearest
            if nearest < self._settings.copy_tolerance * independent(np.array(facts["volume_fraction"])):
                return "duplicate"
        return ""

    def record(self, sample: Sample, accepted: bool) -> None:
        """Record the loss of a sample, and its structure if it is among the first accepted ones."""
        self._losses.append(sample.facts["loss"])
        if accepted and len(self._first) < N_COMPARED:
            self._first.append(sample.phases)


# --- jobs ------------------------------------------------------------------------------------------------------------


def job_of_characterization(characterization: Mapping[str, Any], settings: GenerationSettings) -> Job:
    """Return the input of a reconstruction from a characterization; raise InputError if a descriptor is missing.

    Only numbers and flags of its settings are used, never `gram_weights_filename`: MCRpy unpickles that file.
    """
    own = characterization["settings"]
    available = [name for name in characterization if name != "settings"]
    for name in settings.descriptor_types:
        if name not in available:
            raise InputError(
                f"descriptor_types must be among those of the characterization, {', '.join(available)}, got {name!r}"
            )
    half = min(settings.extent) // 2
    limit_to = min(int(own.limit_to), half if settings.limit_to is None else min(settings.limit_to, half))
    if any("Gram" in name for name in settings.descriptor_types):
        limit_to = int(own.limit_to)
    chosen: dict[str, Any] = {
        "limit_to": limit_to,
        "periodic": bool(getattr(own, "periodic", True)),
        "use_multigrid_descriptor": bool(getattr(own, "use_multigrid_descriptor", False)),
        "threshold_steepness": float(getattr(own, "threshold_steepness", 10.0)),
        "nl_method": str(getattr(own, "nl_method", "relu")),
        "use_multiphase": settings.use_multiphase or int(own.n_phases) > 2,
    }
    descriptors = {name: np.asarray(characterization[name], dtype=np.float64) for name in available}
    target = target_of_characterization(characterization, settings)
    return Job(descriptors, int(own.n_phases), settings.extent, _mcrpy_settings(settings, chosen), target)


def _job_of_micrograph(number: int, micrographs: Sequence[np.ndarray], settings: GenerationSettings) -> Job:
    """Return the input of a reconstruction from a micrograph; no micrograph may be copied."""
    from mcrpy_diffusion.mcrpy_bridge.results import characterize, limit_to

    phases = micrographs[number]
    characterization = characterize(phases, settings)
    n_phases = int(characterization.pop("settings").n_phases)
    chosen = {
        "limit_to": limit_to(settings, phases.shape),
        "periodic": settings.periodic,
        "use_multigrid_descriptor": settings.use_multigrid_descriptor,
        "use_multiphase": settings.use_multiphase,
    }
    target = target_of_micrograph(phases, settings, micrographs)
    return Job(characterization, n_phases, settings.extent, _mcrpy_settings(settings, chosen), target)


def _mcrpy_settings(settings: GenerationSettings, chosen: dict[str, Any]) -> dict[str, Any]:
    return {
        **chosen,
        "descriptor_types": list(settings.descriptor_types),
        "descriptor_weights": None if settings.descriptor_weights is None else list(settings.descriptor_weights),
        "optimizer_type": settings.optimizer_type,
        "loss_type": settings.loss_type,
        "max_iter": settings.iterations,
        "logging_level": logging.WARNING,
    }


def _stopping_criterion(target: Target, settings: GenerationSettings) -> Callable[[np.ndarray], bool] | None:
    """Return the early-stopping criterion: volume fraction and S2 well within their tolerances."""
    fraction, curves = target.volume_fraction, target.two_point
    if fraction is None or curves is None:
        return None

    def test(phases: np.ndarray) -> bool:
        error = np.abs(volume_fraction_of(phases, target.n_phases) - fraction).max()
        if error > _EARLY_FRACTION * settings.volume_fraction_tolerance:
            return False
        own = two_point_of(phases, target.n_phases, target.periodic, curves.shape[-1] - 1)
        percent = max(discrepancy(a, b) for a, b in zip(curves, own))
        return percent <= _EARLY_TWO_POINT * settings.two_point_tolerance_percent

    return test
