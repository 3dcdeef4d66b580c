"""Creation, filling and completion of a data set, with log file and progress bar."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.io.provenance import package_versions
from mcrpy_diffusion.materials.samples import SEED_RULE
from mcrpy_diffusion.runtime.console import logged_by
from mcrpy_diffusion.runtime.progress import Progress

LOG_NAME = "generate.log"


def complete(
    folder: str | os.PathLike[str],
    recipe: Mapping[str, Any],
    make: Callable[[Dataset, Path, Progress], None],
    *,
    settings: Mapping[str, Any],
    packages: tuple[str, ...],
    reference_sha256: tuple[str, ...] = (),
    source: Mapping[str, Any] | None = None,
    log_path: str | os.PathLike[str] | None = None,
) -> Path:
    """Create a data set or resume it, let `make` add the missing samples, and mark it as complete.

    Parameters
    ----------
    folder, recipe, settings, reference_sha256, source
        As in `Dataset.create_or_resume`; the recipe has `n_training_samples`.
    make : callable
        Called with the data set, the log file and the progress bar, unless the data set is complete.
    packages : tuple of str
        Packages whose versions are recorded.
    log_path : path, optional
        By default generate.log in the folder, which then also receives the package's log.
    """
    with Dataset.create_or_resume(
        folder,
        recipe,
        settings=settings,
        versions=package_versions(*packages),
        reference_sha256=reference_sha256,
        source=source,
        seeds=SEED_RULE,
    ) as dataset:
        if not dataset.is_complete:
            n = recipe["n_training_samples"]
            with _log_file(Path(folder), log_path) as log_file:
                with Progress(n, "training data", initial=dataset.n_accepted, unit="sample") as bar:
                    make(dataset, log_file, bar)
            dataset.finish()
    return Path(folder)


def show_counts(bar: Progress) -> Callable[[int, int], None]:
    """Return a callback that shows the numbers of accepted and rejected samples."""
    return lambda accepted, rejected: bar.update(accepted - bar.done, accepted=accepted, rejected=rejected)


@contextlib.contextmanager
def _log_file(folder: Path, log_path: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Yield the file for the output of workers; by default a file in the folder that also receives the log."""
    if log_path is not None:
        yield Path(log_path)
        return
    package, path = logging.getLogger("mcrpy_diffusion"), folder / LOG_NAME
    with logged_by(logging.FileHandler(path), "%(asctime)s %(levelname)s: %(message)s", package):
        yield path
