"""MCRpy's characterizations: descriptors of a structure, from a file or from MCRpy itself, checked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge.pickles import read_pickle


def read_characterization(
    path: str | os.PathLike[str], *, names: Sequence[str] = (), limit_to: int | None = None
) -> dict[str, Any]:
    """Read an MCRpy characterization of a 2D structure.

    Parameters
    ----------
    path : path
        MCRpy's `<name>_characterization.pickle`.
    names, limit_to : sequence of str, int
        `descriptor_types` and `limit_to` of a characterization without settings, as MCRpy's match writes it.

    Returns
    -------
    dict
        Descriptor type -> finite float64 array (n_phases, n_multigrid_levels, ...), and "settings", a namespace with
        at least `n_phases` and `limit_to`.

    Raises
    ------
    InputError
        As `read_pickle` and `check_characterization`.
    """
    return check_characterization(read_pickle(path), os.fspath(path), names=names, limit_to=limit_to)


def check_characterization(
    characterization: Mapping[str, Any], name: str, *, names: Sequence[str] = (), limit_to: int | None = None
) -> dict[str, Any]:
    """Check what `mcrpy.characterize` returned, or a file of it holds, and return a copy; see `read_characterization`.

    Parameters
    ----------
    characterization : mapping
        Descriptor type -> array, and "settings".
    name : str
        Its name in messages.
    names, limit_to
        As in `read_characterization`.

    Raises
    ------
    InputError
        If it has no settings or no descriptor, a descriptor is not an array of finite numbers, or it is of 3D.
    """
    if not isinstance(characterization, Mapping) or not ("settings" in characterization or (names and limit_to)):
        raise InputError(
            f"{name!r} holds no 'settings' (those that MCRpy 0.2.0's match writes lack them); give descriptor_types "
            "and limit_to, or a file of mcrpy_characterize"
        )
    if "settings" not in characterization:
        n_rows = {np.shape(characterization.get(each, 0))[:1] for each in names}
        if len(n_rows) != 1 or n_rows == {()}:
            raise InputError(f"{name!r} must hold {', '.join(names)}, got {', '.join(map(str, characterization))}")
        ((n_phases,),) = n_rows
        settings = SimpleNamespace(n_phases=n_phases, limit_to=limit_to, descriptor_types=list(names))
        characterization = {**{each: characterization[each] for each in names}, "settings": settings}
    settings = characterization["settings"]
    descriptors = {key: value for key, value in characterization.items() if key != "settings"}
    if isinstance(settings, tuple) or any(isinstance(value, tuple) for value in descriptors.values()):
        raise InputError(f"{name!r} has descriptors of three planes, but 3D is not supported; give a 2D one")
    if not descriptors or not all(isinstance(key, str) and key.isidentifier() for key in descriptors):
        raise InputError(f"{name!r} holds no descriptors; give a characterization that MCRpy wrote")
    for key, value in descriptors.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or value.ndim < 2 or value.size == 0:
            raise InputError(f"{name!r}: {key} is not an array of numbers (phases, levels, ...); characterize again")
        if not np.isfinite(value).all():
            raise InputError(f"{name!r}: {key} holds NaN or infinite values; characterize again")
        descriptors[key] = value.astype(np.float64)
    for key in ("n_phases", "limit_to"):
        value = getattr(settings, key, None)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{name!r}: the setting {key} must be an integer of at least 1, got {value!r:.100}")
    return {**descriptors, "settings": settings}


def number_of_phases(characterization: Mapping[str, Any]) -> int:
    """Return how many phases a characterized structure has; MCRpy's single-phase representation (1) has two."""
    return max(int(characterization["settings"].n_phases), 2)
