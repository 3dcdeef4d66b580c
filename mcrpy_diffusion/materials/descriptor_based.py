"""Training structures by MCRpy's own characterize and reconstruct, in worker processes, each checked after rounding.

An optimised structure is rounded to phases at the end, and not every optimisation converges, so each one is measured
against what it was made from and refused where it is off, or where it is a copy.
"""

from __future__ import annotations

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
from mcrpy_diffusion.materials.workers import open_workers
from mcrpy_diffusion.metrics.copying import nearest_distance
from mcrpy_diffusion.metrics.spatial_statistics import discrepancy
from mcrpy_diffusion.settings import GenerationSettings

MAX_LOSS_RATIO = 10.0  # to the median so far, where nothing else is known to check
N_COMPARED = 64  # accepted structures a new one must not be a copy of, where there is no micrograph
RECYCLE_AFTER = 1000  # samples of a worker; over so many its memory did not grow (64 x 64, FFTCorrelations)
# of a worker with TensorFlow and MCRpy, measured; with VGG-19 on PyTorch; with VGG-19 as MCRpy's graph
WORKER_BYTES, WORKER_BYTES_TWIN, WORKER_BYTES_GRAM = 0.8e9, 2.2e9, 6.6e9
_EARLY_FRACTION, _EARLY_TWO_POINT = 0.25, 0.2  # parts of the tolerances below which the optimisation ends early


@dataclass(frozen=True)
class Job:
    """All that a worker needs to reconstruct from one reference."""

    descriptors: dict[str, np.ndarray]
    n_phases: int  # as MCRpy counts: 1 for two phases in one indicator function
    shape: tuple[int, int]
    mcrpy_settings: dict[str, Any]
    target: Target
    settings: GenerationSettings


@dataclass(frozen=True)
class Reconstructions:
    """Samples by MCRpy's reconstruction (a `samples.Source`); sample i is made from job i modulo their number.

    Attributes
    ----------
    jobs : tuple of Job
    settings : GenerationSettings
    stop_early : bool
        Whether an optimisation ends once its structure would pass the check with room to spare.
    """

    jobs: tuple[Job, ...]
    settings: GenerationSettings
    stop_early: bool = True
    name: str = "MCRpy reconstructions"

    @property
    def environment(self) -> Mapping[str, str]:
        """One TensorFlow thread, no GPU."""
        return _environment()

    def start(self) -> Maker:
        """Return the function that makes samples; each job's graphs are built when it is first used, and kept."""
        from mcrpy_diffusion.mcrpy_bridge.reconstruction import Reconstructor

        reconstructors: dict[int, Reconstructor] = {}

        def make(index: int, seed: int) -> Sample:
            number = index % len(self.jobs)
            job = self.jobs[number]
            if number not in reconstructors:
                reconstructors[number] = Reconstructor(
                    job.descriptors,
                    n_phases=job.n_phases,
                    shape=job.shape,
                    settings=job.mcrpy_settings,
                    stopping_criterion=_stopping_criterion(job.target, job.settings) if self.stop_early else None,
                )
            made = reconstructors[number](seed)
            reason, facts = check(made.phases, job.target, job.settings)
            return Sample(made.phases, reason, {**facts, "loss": made.loss, "n_iterations": made.n_iterations})

        return make

    def advice(self, reason: str) -> str:
        """Return which settings help against a reason for refusal."""
        settings = self.settings
        half = min(settings.extent) // 2
        limit_to = "" if settings.limit_to in (None, half) else f"--limit_to {half} (now {settings.limit_to}), "
        advice = {
            "volume fraction": "a larger --max_iter, or FFTCorrelations with --optimizer_type LBFGSB",
            "two-point correlation": f"{limit_to}a larger --max_iter, or --descriptor_types FFTCorrelations",
            "lineal path": "further --descriptor_types that hold connected phases, or a larger micrograph to crop",
            "copy": "a larger micrograph to crop, or a smaller --limit_to: these descriptors allow one structure only",
            "duplicate": "a characterization of a larger micrograph, or a smaller limit_to: it allows one structure",
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
    """Fill a dataset with reconstructions that pass their check, or go on where an earlier call stopped.

    Parameters
    ----------
    dataset : Dataset
        Opened for writing. It gets `n_samples` structures, and a line for each one refused.
    settings : GenerationSettings
    references : sequence of (A, B) integer phases, optional
        Micrographs; sample k is made from micrograph k modulo their number.
    characterizations : sequence of dict, optional
        Instead of micrographs, what `mcrpy_bridge.pickles.read_characterization` returns. What MCRpy must know of them
        (`limit_to`, multigrid, periodic ...) is taken from their own settings.
    n_samples : int
        How many the dataset shall hold in the end.
    n_jobs : int
        Worker processes, counted as joblib does: -1 one per core, -2 all but one.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers are used instead.
    log_path : path, optional
        Gets what MCRpy and TensorFlow print; None drops it.
    progress : callable, optional
        Called with the numbers of accepted and refused samples after each of them.

    Raises
    ------
    InputError
        If MCRpy refuses the settings, or surely less than 5 % of the samples pass the check.
    """
    if (references is None) == (characterizations is None):
        raise ValueError("give either references or characterizations")
    if dataset.n_accepted >= n_samples:
        return
    engine.check_acceptance(dataset, Reconstructions((), settings))  # before TensorFlow is started
    judge = None if references is not None else AmongSamples(dataset, settings)
    with open_workers(
        _environment(),
        n_samples=n_samples - dataset.n_accepted,
        n_jobs=n_jobs,
        scheduler=scheduler,
        log_path=log_path,
        worker_bytes=_worker_bytes(settings),
        recycle_after=RECYCLE_AFTER,
    ) as workers:
        if references is not None:
            jobs = [workers.call(_job_of_micrograph, np.asarray(phases), settings, references) for phases in references]
        else:
            jobs = [job_of_characterization(each, settings) for each in characterizations or ()]
        source = Reconstructions(tuple(jobs), settings)
        engine.fill(
            dataset,
            source,
            n_samples=n_samples,
            seed=settings.seed,
            workers=workers,
            judge=judge,
            progress=progress,
        )


class AmongSamples:
    """Refuses what only shows across samples, where no micrograph is known (a `samples.Judge`).

    A sample that is nearly the same as one of the first accepted ones is a duplicate; where nothing but MCRpy's loss
    tells good from bad, one far above the median so far has not converged.
    """

    def __init__(self, dataset: Dataset, settings: GenerationSettings) -> None:
        self._settings = settings
        self._losses = [float(line["loss"]) for line in dataset.samples]
        self._first = [dataset.sample(index) for index in dataset.accepted[:N_COMPARED]]

    def reason(self, sample: Sample) -> str:
        """Return "loss", "duplicate" or nothing; note the distance to the nearest of the first accepted samples."""
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
        """Take note of a sample."""
        self._losses.append(sample.facts["loss"])
        if accepted and len(self._first) < N_COMPARED:
            self._first.append(sample.phases)


def _worker_bytes(settings: GenerationSettings) -> float:
    from mcrpy_diffusion.mcrpy_bridge import gram_loss, vgg19

    if not any("Gram" in name for name in settings.descriptor_types):
        return WORKER_BYTES
    twin = gram_loss.is_mcrpys(settings.to_dict(), settings.extent) and vgg19.is_there()
    return WORKER_BYTES_TWIN if twin else WORKER_BYTES_GRAM


def _environment() -> dict[str, str]:
    from mcrpy_diffusion.mcrpy_bridge.environment import variables

    return variables(threads=1, hide_gpus=True)


# --- jobs ------------------------------------------------------------------------------------------------------------


def job_of_characterization(characterization: Mapping[str, Any], settings: GenerationSettings) -> Job:
    """Prepare the reconstruction from a characterization; raise InputError where it lacks a descriptor.

    Notes
    -----
    Of its settings only numbers and switches are used. `gram_weights_filename` never is: MCRpy unpickles that file.
    """
    own = characterization["settings"]
    there = [name for name in characterization if name != "settings"]
    for name in settings.descriptor_types:
        if name not in there:
            raise InputError(
                f"the characterization holds {', '.join(there)}, not {name}; allowed is "
                f"--descriptor_types {' '.join(there)}"
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
    descriptors = {name: np.asarray(characterization[name], dtype=np.float64) for name in there}
    target = target_of_characterization(characterization, settings)
    return Job(descriptors, int(own.n_phases), settings.extent, _mcrpy_settings(settings, chosen), target, settings)


def _job_of_micrograph(phases: np.ndarray, settings: GenerationSettings, references: Sequence[np.ndarray]) -> Job:
    """Characterize a micrograph (in a worker, so that no other process needs TensorFlow)."""
    from mcrpy_diffusion.mcrpy_bridge.results import characterize, limit_to

    characterization = characterize(phases, settings)
    n_phases = int(characterization.pop("settings").n_phases)
    chosen = {
        "limit_to": limit_to(settings, phases.shape),
        "periodic": settings.periodic,
        "use_multigrid_descriptor": settings.use_multigrid_descriptor,
        "use_multiphase": settings.use_multiphase,
    }
    target = target_of_micrograph(phases, settings, references)
    return Job(characterization, n_phases, settings.extent, _mcrpy_settings(settings, chosen), target, settings)


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
    """Return the test that lets an optimisation end early: volume fraction and S2 well within their tolerances."""
    fraction, curves = target.volume_fraction, target.two_point
    if fraction is None or curves is None:
        return None

    def test(phases: np.ndarray) -> bool:
        off = np.abs(volume_fraction_of(phases, target.n_phases) - fraction).max()
        if off > _EARLY_FRACTION * settings.volume_fraction_tolerance:
            return False
        own = two_point_of(phases, target.n_phases, target.periodic, curves.shape[-1] - 1)
        percent = max(discrepancy(a, b) for a, b in zip(curves, own))
        return percent <= _EARLY_TWO_POINT * settings.two_point_tolerance_percent

    return test
