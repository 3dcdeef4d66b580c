"""MCRpy's own commands read files too: pickles, which run what their author wants, and arrays.

For the length of a command `pickle.load` and `numpy.load` are replaced where MCRpy's modules call them, and there
alone: pickles are read through the allow-list of `pickles`, from which MCRpy's objects are made anew, and arrays by
`data.npy_files`. What MCRpy writes comes back as it was; anything else is an `InputError`. The one exception:
microstructures of orientations do not come back from a pickle.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.npy_files import load_npy
from mcrpy_diffusion.mcrpy_bridge.pickles import SETTINGS, parse_pickle

MAX_BYTES = 2**34
"""Of a pickle: the convergence of a large 3D structure."""


@contextlib.contextmanager
def guarded_files() -> Iterator[None]:
    """Let MCRpy read nothing but what MCRpy writes, within this context."""
    load_pickle, load_array = pickle.load, np.load

    def guarded_pickle(file: Any, **options: Any) -> Any:
        return read_for_mcrpy(file) if _is_mcrpys(sys._getframe(1)) else load_pickle(file, **options)

    def guarded_array(file: Any, *arguments: Any, **options: Any) -> Any:
        if _is_mcrpys(sys._getframe(1)) and isinstance(file, (str, os.PathLike)):
            return load_npy(file)
        return load_array(file, *arguments, **options)

    setattr(pickle, "load", guarded_pickle)  # noqa: B010  mypy knows no assignment to a function
    setattr(np, "load", guarded_array)  # noqa: B010
    try:
        yield
    finally:
        setattr(pickle, "load", load_pickle)  # noqa: B010
        setattr(np, "load", load_array)  # noqa: B010


def read_for_mcrpy(file: Any) -> Any:
    """Read a pickle from an open file, with MCRpy's own classes in it.

    Raises
    ------
    InputError
        As `pickles.read_plain_pickle`, and for what MCRpy's objects cannot be made of.
    """
    shown = repr(str(getattr(file, "name", "the pickle")))
    size = os.fstat(file.fileno()).st_size
    if size > MAX_BYTES:
        raise InputError(f"{shown} has {size} bytes; allowed are {MAX_BYTES}")
    return parse_pickle(file.read(size), shown, _make)


def _is_mcrpys(frame: Any) -> bool:
    """Whether a module of MCRpy runs in this frame, also as the main program."""
    spec = frame.f_globals.get("__spec__")
    return spec is not None and str(spec.name).startswith("mcrpy.")


def _make(kind: str, attributes: dict[str, Any]) -> Any:
    """Make an object of MCRpy's from plain attributes."""
    from mcrpy.src import Settings
    from mcrpy.src.Symmetry import Cubic

    if kind in SETTINGS:
        settings = object.__new__(getattr(Settings, kind))
        vars(settings).update(attributes)
        return settings
    return Cubic if kind == "Symmetry" else _microstructure(attributes)


def _microstructure(attributes: dict[str, Any]) -> Any:
    """Make a microstructure from the array (1, I, J, C) or (1, I, J, K, C) of its indicator functions alone."""
    from mcrpy.src.Microstructure import Microstructure

    x = attributes.get("x")
    if attributes.get("has_orientations", False) is not False:
        raise InputError("microstructures of orientations are not read from pickles; give a .npy file")
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f" or x.ndim not in (4, 5) or x.shape[0] != 1 or 0 in x.shape:
        raise InputError("a microstructure in the pickle has no array of phases; give a file that MCRpy wrote")
    made = Microstructure(x[0], use_multiphase=x.shape[-1] > 1, skip_encoding=True, trainable=False)
    made.x.assign(x)
    return made
