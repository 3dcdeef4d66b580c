"""Writing the files that MCRpy reads: characterizations, and convergence data for its viewer."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import write_atomically
from mcrpy_diffusion.mcrpy_bridge.environment import quiet, refusals_of_mcrpy
from mcrpy_diffusion.mcrpy_bridge.registration import register
from mcrpy_diffusion.settings import GenerationSettings

GRAM_DESCRIPTORS = ("GramMatrices", "MultiPhaseGramMatrices")
GRAM_LIMIT_TO = 16  # MCRpy asks for this for its Gram matrices, and ignores more
PICKLE_PROTOCOL = 4  # what MCRpy uses for convergence data


def characterize(phases: np.ndarray, settings: GenerationSettings) -> dict[str, Any]:
    """Characterize a micrograph by MCRpy.

    Parameters
    ----------
    phases : (I, J) integer phases, or grey values in [0, 1]
    settings : GenerationSettings
        Used are `descriptor_types`, `limit_to` (None: half of the smaller extent), `use_multiphase`, `periodic`,
        `isotropic`, `grey_values` and `use_multigrid_descriptor`.

    Returns
    -------
    dict
        What `mcrpy.characterize` returns: descriptor type -> array, and "settings".

    Raises
    ------
    InputError
        If MCRpy does not know a descriptor, or refuses the settings.
    """
    register(hide_gpus=True)
    import mcrpy
    from mcrpy.characterize import characterize as mcrpy_characterize
    from mcrpy.src.descriptor_factory import descriptor_choices
    from mcrpy.src.Microstructure import Microstructure

    for name in settings.descriptor_types:
        if name not in descriptor_choices:
            raise InputError(f"descriptor type must be one of {', '.join(sorted(descriptor_choices))}, got {name!r}")
    array = np.array(phases, dtype=np.float64)  # a copy: MCRpy writes into what it is given
    chosen = {
        "descriptor_types": list(settings.descriptor_types),
        "limit_to": limit_to(settings, phases.shape),
        "use_multiphase": settings.use_multiphase,
        "periodic": settings.periodic,
        "isotropic": settings.isotropic,
        "grey_values": settings.grey_values,
        "use_multigrid_descriptor": settings.use_multigrid_descriptor,
    }
    types = ", ".join(settings.descriptor_types)
    with refusals_of_mcrpy(f"MCRpy cannot characterize by {types} with limit_to {chosen['limit_to']}"), quiet():
        microstructure = Microstructure(array, use_multiphase=settings.use_multiphase, trainable=False)
        return mcrpy_characterize(microstructure, mcrpy.CharacterizationSettings(**chosen))


def limit_to(settings: GenerationSettings, shape: tuple[int, ...]) -> int:
    """Return the largest distance in the descriptors, in pixels; by default half of the smallest extent.

    Gram matrices need 16 pixels, whatever the extent.

    Raises
    ------
    InputError
        If the micrograph or the extent is too small for it.
    """
    largest = min(*shape[:2], *settings.extent) // 2
    if any(name in GRAM_DESCRIPTORS for name in settings.descriptor_types):
        return max(largest, GRAM_LIMIT_TO) if settings.limit_to is None else settings.limit_to
    if settings.limit_to is not None and not 1 <= settings.limit_to <= largest:
        raise InputError(
            f"limit_to must be between 1 and {largest}, half of the smallest extent of micrograph and new structures, "
            f"got {settings.limit_to}"
        )
    return settings.limit_to or largest


def save_characterization(phases: np.ndarray, settings: GenerationSettings, path: str | os.PathLike[str]) -> None:
    """Characterize a micrograph by MCRpy and write the file that `mcrpy_reconstruct` and `mcrpy_view` read.

    Parameters
    ----------
    phases : (I, J)
    settings : GenerationSettings
        As in `characterize`.
    path : path
        MCRpy's name is `<name>_characterization.pickle`.
    """
    characterization = characterize(phases, settings)
    write_atomically(path, lambda file: pickle.dump(characterization, file, protocol=PICKLE_PROTOCOL))


def save_convergence_data(
    path: str | os.PathLike[str],
    losses: Sequence[tuple[int, float]],
    frames: Sequence[tuple[int, float, np.ndarray]],
    settings: GenerationSettings,
) -> None:
    """Write convergence data, which `mcrpy_view` shows as a curve with points; each point opens a structure.

    Parameters
    ----------
    path : path
        MCRpy's name is `<name>_convergence_data.pickle`.
    losses : sequence of (step, loss)
        The curve; if empty, the curve joins the values of the frames.
    frames : sequence of (iteration, value, structure)
        The points, at least one, sorted by iteration. A structure has shape (I, J), phases or values in [0, 1], or
        (I, J, C) with one channel per phase (or a single one) in [0, 1].
    settings : GenerationSettings
        Saved in the file as MCRpy's settings.

    Notes
    -----
    The viewer's axis is logarithmic: values that are not positive are replaced by a tenth of the smallest positive
    value. The viewer takes its colour scale from the first frame: leading frames that lack a phase of the last frame
    are left out.
    """
    register(hide_gpus=True)
    import mcrpy
    from mcrpy.src.Microstructure import Microstructure

    if not frames:
        raise ValueError("frames must have at least one entry, got none")
    channels = _as_channels([np.asarray(structure) for _, _, structure in frames])
    first = _first_with_all_phases(channels)
    channels = channels[first:]
    points = _positive(np.array([(i, value) for i, value, _ in frames[first:]], dtype=np.float64))
    curve = _positive(np.array(losses, dtype=np.float64).reshape(-1, 2)) if len(losses) else points.copy()
    microstructures = np.empty(len(channels), dtype=object)
    with quiet():
        for n, array in enumerate(channels):
            many = array.shape[-1] > 1
            microstructures[n] = Microstructure(array, use_multiphase=many, skip_encoding=True, trainable=False)
    chosen = mcrpy.ReconstructionSettings(
        descriptor_types=list(settings.descriptor_types),
        loss_type=settings.loss_type,
        optimizer_type=settings.optimizer_type,
        limit_to=settings.limit_to or max(min(settings.extent) // 2, GRAM_LIMIT_TO),
        max_iter=settings.iterations,
        use_multiphase=settings.use_multiphase,
        periodic=settings.periodic,
    )
    data = {"raw_data": microstructures, "line_data": curve, "scatter_data": points, "settings": chosen}
    write_atomically(path, lambda file: pickle.dump(data, file, protocol=PICKLE_PROTOCOL))


def result_files(folder: str | os.PathLike[str], name: str, information: str | None = None) -> tuple[Path, Path]:
    """Find the result files of MCRpy's match or reconstruct, by the names that either version uses.

    Parameters
    ----------
    folder : path
        `--data_folder` of that command.
    name : str
        Name of the micrograph or characterization, without extension and "_characterization".
    information : str, optional
        `--information` of that command.

    Returns
    -------
    (Path, Path)
        The structure and the convergence data. The names are the same for every input in MCRpy from PyPI; in MCRpy
        from its repository they begin with the name of the input.

    Raises
    ------
    InputError
        If one of them is missing.
    """
    suffix = "" if information is None else f"_{information}"
    names = [
        (f"{name}_reconstructed{suffix}.npy", f"{name}_convergence_data{suffix}.pickle"),
        (f"last_frame{suffix}.npy", f"convergence_data{suffix}.pickle"),
    ]
    for structure, convergence in ((Path(folder, a), Path(folder, b)) for a, b in names):
        if structure.is_file() and convergence.is_file():
            return structure, convergence
    expected = " or ".join(" with ".join(pair) for pair in names)
    raise InputError(f"{os.fspath(folder)!r} must hold MCRpy's results for {name}: {expected}")


def _positive(values: np.ndarray) -> np.ndarray:
    """Return (step, value) pairs with positive values, for a logarithmic axis."""
    positive = values[np.isfinite(values[:, 1]) & (values[:, 1] > 0), 1]
    floor = positive.min() / 10 if positive.size else 1e-12
    values[:, 1] = np.where(values[:, 1] > 0, values[:, 1], floor)
    return values


def _as_channels(structures: list[np.ndarray]) -> list[np.ndarray]:
    """Return all structures as (I, J, C) float64 in [0, 1], C = 1 for two phases."""
    n_phases = 1 + max(int(array.max()) if array.ndim == 2 else 0 for array in structures)
    result = []
    for array in structures:
        if array.ndim == 2 and n_phases > 2:
            array = np.asarray(array)[..., None] == np.arange(n_phases)
        elif array.ndim == 2:
            array = array[..., None]
        result.append(np.clip(array.astype(np.float64), 0, 1))
    return result


def _first_with_all_phases(channels: list[np.ndarray]) -> int:
    def n_phases(array: np.ndarray) -> int:
        return len(np.unique(array.argmax(axis=-1) if array.shape[-1] > 1 else np.rint(array)))

    wanted = n_phases(channels[-1])
    return next(n for n, array in enumerate(channels) if n_phases(array) >= wanted)
