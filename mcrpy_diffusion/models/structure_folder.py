"""Structures as files of one folder, which the same command completes after a stop."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import make_folder, write_atomically
from mcrpy_diffusion.io.npy_files import load_npy
from mcrpy_diffusion.io.provenance import check_or_write_provenance
from mcrpy_diffusion.io.structure_files import Exports
from mcrpy_diffusion.models.request import Request
from mcrpy_diffusion.runtime.progress import Progress
from mcrpy_diffusion.settings import SamplingSettings

if TYPE_CHECKING:
    from mcrpy_diffusion.models.model import Model

PROVENANCE_NAME = "sampling.json"
OLD_PROVENANCE_NAME = "drawn_with.json"  # its former name
STATE_SUFFIX = ".unfinished.safetensors"

Batches = Callable[[Sequence[int]], Iterable[tuple[Sequence[int], np.ndarray]]]
"""Seeds -> batches of (seeds, structures), as `Model.batches` yields them."""


@dataclass(frozen=True)
class StructureFolder:
    """One .npy file for each seed.

    Parameters
    ----------
    files : mapping
        Seed -> file.
    shape : (I, J) or (I, J, K)
        Rows and columns of a structure, and its depth.
    n_phases : int
        0 for grey values in [0, 1].
    exports : Exports
        Files in further formats, written with each structure.
    """

    files: Mapping[int, Path]
    shape: tuple[int, ...]
    n_phases: int
    exports: Exports = Exports()

    @classmethod
    def by_seed(cls, folder: Path, seeds: Iterable[int], shape: tuple[int, ...], n_phases: int) -> StructureFolder:
        """The files <seed>.npy of a folder."""
        return cls({seed: folder / f"{seed}.npy" for seed in seeds}, shape, n_phases)

    def present(self) -> list[int]:
        """Seeds whose structure exists."""
        return [seed for seed, file in self.files.items() if file.exists()]

    def missing(self) -> list[int]:
        """Seeds whose structure does not exist."""
        return [seed for seed, file in self.files.items() if not file.exists()]

    def batches(
        self, model: Model, settings: SamplingSettings, request: Request, provenance: Mapping[str, Any]
    ) -> Batches:
        """The structures of seeds by a model; the state of volumes is kept beside their files until they are there."""
        from mcrpy_diffusion.models.sampling_state import StateFiles

        states = StateFiles(lambda seed: self.files[seed].with_suffix(STATE_SUFFIX), provenance)
        return lambda seeds: model.batches(seeds, settings, self.shape, request=request, state_files=states)

    def write(self, seed: int, structure: np.ndarray) -> None:
        """Write the files of a structure, each whole or not at all."""
        save_structure(self.files[seed], structure)
        self.exports.write(self.files[seed], structure)

    def read(self, seeds: Iterable[int] | None = None) -> np.ndarray:
        """Read structures, all by default: shape (n, I, J) or (n, I, J, K).

        Raises
        ------
        InputError
            If a file is damaged or holds another kind of structure.
        """
        return np.stack([self._read(self.files[seed]) for seed in (self.files if seeds is None else seeds)])

    def complete(
        self, batches: Batches, record: Path, provenance: Mapping[str, Any], *, advice: str = "give another folder"
    ) -> None:
        """Make the structures that are missing.

        Parameters
        ----------
        batches : callable
            Called with the missing seeds, if there are any.
        record : Path
            Where the provenance is written, before the first structure.
        provenance : mapping
            What determines a structure besides its seed.
        advice : str
            What to do where structures without a record are in the way.

        Raises
        ------
        InputError
            If structures were made otherwise, are damaged, have no record, or do not fit a format of the exports.
        """
        self.exports.check(len(self.shape), grey_values=self.n_phases == 0)
        present, missing = self.present(), self.missing()
        if record.exists():
            check_or_write_provenance(record, provenance)
        elif present:
            raise InputError(f"{self.files[present[0]]} exists without a record of its making, {record.name}; {advice}")
        for seed in present:
            self.exports.write(self.files[seed], self._read(self.files[seed]), missing_only=True)
        if not missing:
            return
        with Progress(len(self.files), "sampling", initial=len(present)) as bar:
            for seeds, structures in batches(missing):
                check_or_write_provenance(record, provenance)
                for seed, structure in zip(seeds, structures, strict=True):
                    self.write(seed, structure)
                bar.update(len(seeds))

    def _read(self, path: Path) -> np.ndarray:
        advice = "delete it, and the same command makes it again"

        def check(found: tuple[int, ...], _: np.dtype) -> None:
            if found != self.shape:
                raise InputError(f"{str(path)!r} must have the shape {self.shape}, got {found}; {advice}")

        structure = load_npy(path, check=check)
        low, high, allowed = structure.min(), structure.max(), self.n_phases - 1 if self.n_phases else 1
        if not (0 <= low and high <= allowed):
            raise InputError(f"{str(path)!r} must hold values from 0 to {allowed}, got {low} to {high}; {advice}")
        return structure


def save_structure(path: str | os.PathLike[str], structure: np.ndarray) -> None:
    """Write one structure whole or not at all."""
    write_atomically(path, lambda file: np.save(file, structure, allow_pickle=False))


def sampling_provenance(settings: SamplingSettings, shape: Sequence[int], request: Request) -> dict[str, Any]:
    """What determines structures besides the model, as JSON values."""
    left_out = {"n_samples", "batch_size"} | ({"plane_weight"} if len(shape) == 2 else set())
    values = {name: value for name, value in settings.to_dict().items() if name not in left_out}
    return {**values, "extent": list(shape), **request.to_dict()}


def sample_to_folder(
    model: Model,
    settings: SamplingSettings,
    folder: str | os.PathLike[str],
    shape: tuple[int, ...] | None = None,
    request: Request = Request(),  # noqa: B008  frozen
    exports: Exports = Exports(),  # noqa: B008  frozen
) -> Path:
    """Write the structures of seeds seed ... seed + n - 1 as <seed>.npy; those that exist are kept.

    What determines them is written to sampling.json before the first of them. `exports` are further files of each.

    Raises
    ------
    InputError
        If the folder cannot be written to, a setting is out of range, or as `StructureFolder.complete`.
    """
    request.check(model.info, settings)
    folder, shape = make_folder(folder), shape or model.info.extent
    provenance = {k: v for k, v in sampling_provenance(settings, shape, request).items() if k != "seed"}
    provenance["weights_sha256"] = model.fingerprint()
    if model.info.pixel_size is not None:
        provenance["pixel_size"] = model.info.pixel_size.to_dict()
    old = folder / OLD_PROVENANCE_NAME
    record = old if old.exists() else folder / PROVENANCE_NAME
    seeds = range(settings.seed, settings.seed + settings.n_samples)
    structures = replace(StructureFolder.by_seed(folder, seeds, shape, model.info.n_phases), exports=exports)
    structures.complete(structures.batches(model, settings, request, provenance), record, provenance)
    return folder
