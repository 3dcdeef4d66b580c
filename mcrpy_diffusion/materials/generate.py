"""Stage 1: references -> a data set of training structures, by crops or by MCRpy's descriptor-based reconstruction.

Named materials have recipes of their own, some of which need no reference.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcrpy_diffusion.data import dataset_check
from mcrpy_diffusion.data.dataset import ACCEPTED, Dataset
from mcrpy_diffusion.data.image_stack import read_images
from mcrpy_diffusion.data.split import MicrographSplit
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.provenance import package_versions
from mcrpy_diffusion.materials import engine, recipes
from mcrpy_diffusion.materials.reference import Reference, phase_flags
from mcrpy_diffusion.materials.samples import SEED_RULE, Source, draw_seed
from mcrpy_diffusion.materials.workers import open_workers
from mcrpy_diffusion.runtime.console import logged_by
from mcrpy_diffusion.runtime.progress import Progress
from mcrpy_diffusion.settings import N_CROPS, N_RECONSTRUCTIONS, AlloySettings, FibreSettings, GenerationSettings

LOG_NAME = "generate.log"


def resolve(settings: GenerationSettings, reference: Reference) -> GenerationSettings:
    """Decide what `auto` means for a reference, and what follows from it.

    Crops where each micrograph leaves a held-out part beside the training part, else MCRpy's reconstruction. Crops of
    a micrograph are not periodic, so the network and the statistics are not either.

    Raises
    ------
    InputError
        If a micrograph is smaller than the extent, or crops are asked for without a micrograph.
    """
    kind = settings.training_data
    for m in reference.micrographs:
        if any(size < extent for size, extent in zip(m.phases.shape, settings.extent, strict=True)):
            raise InputError(
                f"{m.path} is {m.phases.shape[0]} x {m.phases.shape[1]} pixels, smaller than the extent "
                f"{settings.extent_x} x {settings.extent_y}; give a larger image or a smaller --extent_x and --extent_y"
            )
    if not reference.micrographs:
        if kind == "crops":
            raise InputError("training_data is 'crops', but there is no micrograph to crop; allowed is 'descriptors'")
        kind = "descriptors"
    if kind == "auto":
        kind = "crops" if MicrographSplit.of(reference.images, settings).is_complete else "descriptors"
    sizes = {m.phases.shape for m in reference.micrographs}
    if kind == "descriptors" and len(sizes) > 1:
        found = ", ".join(f"{i} x {j}" for i, j in sorted(sizes))
        raise InputError(f"the micrographs are {found} pixels; allowed with descriptor-based training data is one size")
    if kind == "descriptors" and reference.n_phases == 0:
        raise InputError(
            "grey values have no descriptor-based training data yet; give a micrograph of twice the extent"
        )
    if kind == "crops":
        n = settings.n_training_samples or N_CROPS
        return settings.replace(training_data=kind, periodic=False, n_training_samples=n)
    n, limit_to = settings.n_training_samples or N_RECONSTRUCTIONS, settings.limit_to or min(settings.extent) // 2
    return settings.replace(training_data=kind, limit_to=limit_to, n_training_samples=n, max_iter=settings.iterations)


def recipe(settings: GenerationSettings, reference: Reference) -> dict[str, Any]:
    """All that decides what the samples are; settings that the chosen way does not use are left out."""
    values = settings.to_dict()
    of_crops = {"held_out_fraction"}
    shared = {
        "extent_x",
        "extent_y",
        "training_data",
        "n_training_samples",
        "periodic",
        "use_multiphase",
        "grey_values",
    }
    shared |= {"isotropic", "seed"}
    keep = shared | of_crops if settings.training_data == "crops" else set(values) - of_crops
    kept = {k: v for k, v in values.items() if k in keep}
    return {**kept, "n_phases": reference.n_phases, "reference_sha256": list(reference.sha256)}


def generate(
    settings: GenerationSettings,
    reference: Reference,
    folder: str | os.PathLike[str],
    *,
    n_jobs: int = -1,
    scheduler: str | None = None,
    log_path: str | os.PathLike[str] | None = None,
) -> Path:
    """Make the training structures, or go on where an earlier call stopped.

    Parameters
    ----------
    settings : GenerationSettings
        As `resolve` returns them.
    reference : Reference
    folder : path
        The data set's folder.
    n_jobs : int
        Worker processes; -1: one per core.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers are used instead of processes of this machine.
    log_path : path, optional
        Gets what MCRpy prints. If it is not given, that and a line of progress a minute go to generate.log in the
        data set's folder.

    Returns
    -------
    Path
        The folder, with a complete data set.

    Raises
    ------
    InputError
        If the folder holds samples of another recipe or is in use, no scheduler answers, or too few samples pass
        their check.
    """
    if settings.n_training_samples is None:
        raise ValueError("the settings are not resolved; call resolve first")
    versions = package_versions("mcrpy", "microstructpy", "numpy", "scipy", "tensorflow")
    with Dataset.create_or_resume(
        folder,
        recipe(settings, reference),
        settings=settings.to_dict(),
        versions=versions,
        reference_sha256=reference.sha256,
        seeds=SEED_RULE,
    ) as dataset:
        if not dataset.is_complete:
            n = settings.n_training_samples
            with _own_log(Path(folder), log_path) as log_file:
                with Progress(n, "training data", initial=dataset.n_accepted, unit="sample") as bar:
                    _make(dataset, settings, reference, Run(n_jobs, scheduler, log_file, bar))
            dataset.finish()
    return Path(folder)


def verify(folder: str | os.PathLike[str]) -> str:
    """Check a data set (see `data.dataset.verify`) and say what it holds.

    Raises
    ------
    InputError
        If it is not whole.
    """
    dataset = dataset_check.verify(folder)
    refused = "".join(f", {reason} {n}" for reason, n in dataset.counts().items() if reason != ACCEPTED)
    return f"{folder}: {dataset.n_accepted} structures of {dataset.n_tried} seeds are as recorded{refused}"


@dataclass(frozen=True)
class Run:
    """Where samples are made, and where that is shown."""

    n_jobs: int
    scheduler: str | None
    log_path: Path
    bar: Progress

    def progress(self, accepted: int, rejected: int) -> None:
        """Move the bar to so many accepted samples."""
        self.bar.update(accepted - self.bar.done, accepted=accepted, rejected=rejected)


def _make(dataset: Dataset, settings: GenerationSettings, reference: Reference, run: Run) -> None:
    """Fill the dataset from its reference."""
    if settings.training_data == "crops":
        _crop(dataset, settings, reference, run)
    else:
        _reconstruct(dataset, settings, reference, run)


def _fill(dataset: Dataset, source: Source, settings: GenerationSettings, run: Run) -> None:
    """Fill the dataset from a source of samples."""
    n_samples = settings.n_training_samples or N_RECONSTRUCTIONS
    with open_workers(
        source,
        n_samples=n_samples - dataset.n_accepted,
        n_jobs=run.n_jobs,
        scheduler=run.scheduler,
        log_path=run.log_path,
    ) as workers:
        engine.fill(dataset, source, n_samples=n_samples, seed=settings.seed, workers=workers, progress=run.progress)


@contextlib.contextmanager
def _own_log(folder: Path, log_path: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Return the file for what MCRpy prints; where none was given, the package's log goes to the folder's own too."""
    if log_path is not None:
        yield Path(log_path)
        return
    package, path = logging.getLogger("mcrpy_diffusion"), folder / LOG_NAME
    with logged_by(logging.FileHandler(path), "%(asctime)s %(levelname)s: %(message)s", package):
        yield path


def _crop(dataset: Dataset, settings: GenerationSettings, reference: Reference, run: Run) -> None:
    for i, image in enumerate(MicrographSplit.of(reference.images, settings).training_crops()):
        if i not in dataset.tried:
            dataset.append(i, image, volume_fraction=float(image.mean()) if reference.n_phases in (0, 2) else None)
            run.bar.update()


def _reconstruct(dataset: Dataset, settings: GenerationSettings, reference: Reference, run: Run) -> None:
    from mcrpy_diffusion.materials import descriptor_based

    descriptor_based.generate(
        dataset,
        settings,
        references=reference.images or None,
        characterizations=None if reference.characterization is None else [reference.characterization],
        n_samples=settings.n_training_samples or N_RECONSTRUCTIONS,
        n_jobs=run.n_jobs,
        scheduler=run.scheduler,
        log_path=run.log_path,
        progress=run.progress,
    )


# --- named materials and users' images -------------------------------------------------------------------------------


def generate_material(
    material: str,
    options: Mapping[str, Any],
    folder: str | os.PathLike[str],
    *,
    reference: Reference | None = None,
    paper_recipe: bool = False,
    grain_ids: bool = False,
    n_jobs: int = -1,
    scheduler: str | None = None,
) -> Path:
    """Make training structures of a named material, or go on where an earlier call stopped.

    Parameters
    ----------
    material : str
        alloy, fibre, carbonate, ceramics, pmma or copolymer.
    options : mapping
        Fields of the material's settings that differ from its defaults; `n_training_samples`, `seed` and `isotropic`
        as in `GenerationSettings`.
    folder : path
        The data set's folder.
    reference : Reference, optional
        Instead of the built-in image, for materials that MCRpy reconstructs.
    paper_recipe : bool
        The paper's descriptors and optimizer instead of the faster equivalent.
    grain_ids : bool
        For alloy: also write the map of grains of each sample, to the folder grain_ids.
    n_jobs : int
        Worker processes; -1: one per core.
    scheduler : str, optional
        As in `generate`.

    Returns
    -------
    Path
        The folder, with a complete data set.

    Raises
    ------
    InputError
        If there is no such material, an option does not belong to it, or its structures cannot be made.
    """
    recipes.check_material(material)
    if grain_ids and material != "alloy":
        raise InputError(f"--grain_ids was given with the material {material}; allowed is alloy, which has grains")
    if material in recipes.DIRECT:
        if reference is not None:
            raise InputError(f"the material {material} is made without a reference; leave the micrograph out")
        general = {k: options[k] for k in ("n_training_samples", "seed", "isotropic") if k in options}
        own = recipes.DIRECT[material]().replace(**{k: v for k, v in options.items() if k not in general})
        settings = GenerationSettings().replace(**general)
        return _generate_directly(material, own, settings, folder, n_jobs, scheduler, grain_ids)
    settings = recipes.descriptor_settings(material, options, paper_recipe=paper_recipe)
    if reference is None:
        image = recipes.built_in_reference(material, settings.extent)
        reference = Reference.of([image], name=material)
    return generate(resolve(settings, reference), reference, folder, n_jobs=n_jobs, scheduler=scheduler)


def generate_from_images(paths: Sequence[str], options: Mapping[str, Any], folder: str | os.PathLike[str]) -> Path:
    """Make training structures that are crops of many images, large or small, each crop once if they allow no more.

    Parameters
    ----------
    paths : sequence of str
        Files and folders, as `data.image_stack.read_images` takes them.
    options : mapping
        Fields of `GenerationSettings` that differ from the defaults.
    folder : path
        The data set's folder.

    Raises
    ------
    InputError
        If the images cannot be used, or are smaller than the extent.
    """
    reference = Reference.of(read_images(paths, **phase_flags(options)), name=Path(paths[0]).stem)
    settings = resolve(GenerationSettings().replace(**{**options, "training_data": "crops"}), reference)
    n = MicrographSplit.of(reference.images, settings).n_positions
    if n < 2:
        raise InputError("the images allow a single crop; give more of them, larger ones, or a smaller extent")
    settings = settings.replace(n_training_samples=min(n, settings.n_training_samples or N_CROPS))
    return generate(settings, reference, folder)


def _generate_directly(
    material: str,
    own: AlloySettings | FibreSettings,
    general: GenerationSettings,
    folder: str | os.PathLike[str],
    n_jobs: int,
    scheduler: str | None,
    grain_ids: bool,
) -> Path:
    """Fill a data set with structures that a generator makes without a reference."""
    source = recipes.DirectSource(own, grain_ids)
    source.check_settings(draw_seed(general.seed, 0, 0))  # settings that cannot work leave no folder
    n = general.n_training_samples or N_CROPS
    general = general.replace(n_training_samples=n)
    made = {"material": material, "training_data": "recipe", **own.to_dict(), "n_phases": 2, "seed": general.seed}
    made |= {"n_training_samples": n, "isotropic": general.isotropic}
    versions = package_versions("numpy", "microstructpy")
    with Dataset.create_or_resume(folder, made, settings=own.to_dict(), versions=versions, seeds=SEED_RULE) as dataset:
        if not dataset.is_complete:
            with _own_log(Path(folder), None) as log_file:
                with Progress(n, "training data", initial=dataset.n_accepted, unit="sample") as bar:
                    _fill(dataset, source, general, Run(n_jobs, scheduler, log_file, bar))
            dataset.finish()
    return Path(folder)
