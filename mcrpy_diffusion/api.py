"""The stages as Python functions: the public names of `mcrpy_diffusion`.

Settings are keyword arguments with the names and defaults of the commands' options.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.data.micrograph import Micrograph, micrographs_from_array
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io import structure_files
from mcrpy_diffusion.io.files import make_folder
from mcrpy_diffusion.materials.generate import generate
from mcrpy_diffusion.materials.generate_material import generate_material
from mcrpy_diffusion.materials.reference import (
    Reference,
    image_settings,
    reference_from_characterization,
    reference_from_micrographs,
)
from mcrpy_diffusion.materials.resolve import resolve
from mcrpy_diffusion.settings import GenerationSettings, PixelSize, preset

if TYPE_CHECKING:
    from mcrpy_diffusion.models.model import Model

Source: TypeAlias = (
    "str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Micrograph | np.ndarray | Mapping[str, Any]"
)
"""Files of micrographs or of a characterization, or their contents."""


def make_dataset(
    source: Source,
    folder: str | os.PathLike[str],
    *,
    n_jobs: int = -1,
    scheduler: str | None = None,
    **settings: Any,
) -> Dataset:
    """Make training structures from micrographs or an MCRpy characterization, or resume an interrupted call.

    Parameters
    ----------
    source : path, sequence of paths, Micrograph, (I, J) array, or mapping
        Image files, the result of `read_micrograph`, or an array of phases or grey values; or an MCRpy characterization
        as a .pickle file or as `mcrpy.characterize` returns it. The source is not changed.
    folder : path
        Folder of the data set.
    n_jobs : int
        Worker processes; -1 is one per core.
    scheduler : str, optional
        Address of a Dask scheduler, whose workers are used instead.
    **settings
        Fields of `settings.GenerationSettings`, such as `extent_x`, `extent_y`, `n_training_samples`, `seed`.

    Returns
    -------
    Dataset
        Complete; `load()` returns all structures (N, I, J), `folder` is their folder.

    Raises
    ------
    InputError
        If the source, a setting or the folder cannot be used, or the acceptance rate is significantly below 5 %.
    """
    reference = _reference(source, settings)
    resolved = resolve(GenerationSettings().replace(**settings), reference)
    return Dataset.open(generate(resolved, reference, folder, n_jobs=n_jobs, scheduler=scheduler))


def make_material(
    material: str,
    folder: str | os.PathLike[str],
    *,
    n_jobs: int = -1,
    scheduler: str | None = None,
    **settings: Any,
) -> Dataset:
    """Make training structures of a named material, without a micrograph, or resume an interrupted call.

    Parameters
    ----------
    material : str
        alloy, fibre, carbonate, ceramics, pmma or copolymer.
    folder, n_jobs, scheduler
        As in `make_dataset`.
    **settings
        Fields of the material's settings (`settings.AlloySettings`, `settings.FibreSettings`, otherwise
        `settings.GenerationSettings`), and `n_training_samples`, `seed`.

    Raises
    ------
    InputError
        If the material is unknown, or a setting does not belong to it.
    """
    return Dataset.open(generate_material(material, settings, folder, n_jobs=n_jobs, scheduler=scheduler))


def held_out_structures(source: Source, n: int = 1000, **settings: Any) -> np.ndarray:
    """Return random crops of the part of micrographs that `make_dataset` excludes from training.

    Parameters
    ----------
    source : path, sequence of paths, Micrograph or (I, J) array
        As in `make_dataset`.
    n : int
        Number of crops.
    **settings
        The same as for `make_dataset`.

    Returns
    -------
    ndarray, shape (n, I, J)

    Raises
    ------
    InputError
        If nothing is held out, because the micrographs are too small or the source is a characterization.
    """
    reference = _reference(source, settings)
    resolved = resolve(GenerationSettings().replace(**settings), reference)
    found = reference.split(resolved).held_out_crops(n)
    if found is None:
        raise InputError(
            f"{reference.name} has no held-out part; give micrographs that are large enough for crops, and a "
            "held_out_fraction above 0"
        )
    return found


def train_model(
    dataset: Dataset | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    preset_name: str = "quick",
    device: str | None = None,
    on_step: Callable[[int, float], None] | None = None,
    **settings: Any,
) -> Model:
    """Train a model, or resume an interrupted call.

    Parameters
    ----------
    dataset : Dataset or path
        A data set or its folder.
    folder : path
        Receives checkpoints and training_log.csv during the training, model.safetensors at the end.
    preset_name : str
        "quick", "small" or "paper".
    device : str, optional
        "cuda" or "cpu"; by default "cuda" if a graphics card is present.
    on_step : callable, optional
        Called with (step, loss) after each step.
    **settings
        Fields of `settings.TrainingSettings` that differ from the preset's, such as `n_training_steps`.

    Returns
    -------
    Model
        Ready to `sample`; `load_model` loads it again from the folder.

    Raises
    ------
    InputError
        If a setting is invalid, or the folder contains a model of other settings or data.
    """
    from mcrpy_diffusion.models.model import load_model
    from mcrpy_diffusion.training.train import read_dataset, train

    data = read_dataset(dataset.folder if isinstance(dataset, Dataset) else dataset)
    chosen = preset(preset_name, (int(data.phases.shape[1]), int(data.phases.shape[2]))).training.replace(**settings)
    return load_model(train(data, chosen, make_folder(folder), device=device, on_step=on_step), device=device)


def write_structure(
    path: str | os.PathLike[str], structure: np.ndarray, *, pixel_size: str | float | None = None
) -> None:
    """Write a structure as a file that a viewer or solver opens.

    Parameters
    ----------
    path : path
        Its suffix decides the format: .vti (ParaView, DAMASK), .tif (ImageJ), .mhd (ITK), .inp (Abaqus, CalculiX) or
        .png.
    structure : (I, J) or (I, J, K)
        Phases as integers from 0, or grey values as floats. The axes are x, y and z in .vti, .mhd and .inp; images have
        the axes of the array.
    pixel_size : str or float, optional
        Edge length of a pixel with its unit, such as "12.5nm", or in metres.

    Raises
    ------
    InputError
        If the suffix is none of these, or structure or pixel size cannot be written.
    """
    if pixel_size is not None:
        pixel_size = (PixelSize.parse(pixel_size) if isinstance(pixel_size, str) else PixelSize(pixel_size)).metres
    structure_files.write_structure(path, structure, pixel_size=pixel_size)


def _reference(source: Source, settings: Mapping[str, Any]) -> Reference:
    """Read and check the source."""
    if isinstance(source, np.ndarray):
        return Reference.of(micrographs_from_array(source, image_settings(settings), name="micrograph"))
    if isinstance(source, Micrograph):
        return Reference.of([source])
    if isinstance(source, Mapping):
        return _reference_from_mapping(source)
    names = [source] if isinstance(source, (str, os.PathLike)) else list(source)
    if not names:
        raise InputError("source must be micrographs or one characterization (.pickle), got no file")
    if len(names) == 1 and Path(names[0]).suffix == ".pickle":
        return reference_from_characterization(os.fspath(names[0]))
    return reference_from_micrographs([os.fspath(name) for name in names], settings)


def _reference_from_mapping(characterization: Mapping[str, Any]) -> Reference:
    from mcrpy_diffusion.mcrpy_bridge.characterization import check_characterization, number_of_phases

    name = "characterization"
    checked = check_characterization(characterization, name)
    digest = hashlib.sha256(str(sorted(vars(checked["settings"]).items(), key=str)).encode())
    for key in sorted(checked):
        if key != "settings":
            digest.update(f"{key} {checked[key].shape}".encode() + np.ascontiguousarray(checked[key]).tobytes())
    return Reference(name, number_of_phases(checked), (digest.hexdigest(),), characterization=checked)
