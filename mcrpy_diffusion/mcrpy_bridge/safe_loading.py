"""Safe reading of the files that MCRpy's own commands load: a pickle can run any code when it is loaded.

Within `safe_loading`, calls of `pickle.load` and `numpy.load` in MCRpy's modules, and only there, are replaced. Pickles
are read through the allow-list of `pickles`, and MCRpy's objects are made anew from their contents. Arrays are read by
`io.npy_files`, image files and .npz archives as micrographs. Files that MCRpy wrote load as before; any other file is
an `InputError`. Pickles of microstructures with orientations cannot be read.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.data.micrograph import Micrograph, read_source
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.npy_files import load_npy
from mcrpy_diffusion.mcrpy_bridge.pickles import SETTINGS, parse_pickle
from mcrpy_diffusion.settings import ImageSettings

MAX_BYTES = 2**34
"""Largest size of a pickle: the convergence data of a large 3D structure."""


@dataclass
class ImageReader:
    """Reads the images that MCRpy loads, and keeps them.

    Attributes
    ----------
    settings : ImageSettings
    folder : str or None
        Where MCRpy writes its results.
    micrographs : list of Micrograph
    """

    settings: ImageSettings = field(default_factory=ImageSettings)
    folder: str | None = None
    micrographs: list[Micrograph] = field(default_factory=list)

    def read(self, path: str | os.PathLike[str]) -> np.ndarray:
        """Return phases or grey values (I, J) of an image file."""
        found = read_source([path], self.settings, several=False, any_phases=True)
        self.micrographs += found
        return found[0].phases


@contextlib.contextmanager
def safe_loading(images: ImageReader | None = None) -> Iterator[None]:
    """Let MCRpy load only images, and files that MCRpy can have written, within this context.

    Parameters
    ----------
    images : ImageReader, optional
        Holds how images are read, and gets those that were.
    """
    reader = images or ImageReader()
    load_pickle, load_array = pickle.load, np.load

    def safe_pickle_load(file: Any, **options: Any) -> Any:
        return read_for_mcrpy(file) if _is_mcrpys(sys._getframe(1)) else load_pickle(file, **options)

    def safe_array_load(file: Any, *arguments: Any, **options: Any) -> Any:
        if _is_mcrpys(sys._getframe(1)) and isinstance(file, (str, os.PathLike)):
            return load_npy(file) if Path(file).suffix.lower() == ".npy" else reader.read(file)
        return load_array(file, *arguments, **options)

    setattr(pickle, "load", safe_pickle_load)  # noqa: B010  mypy knows no assignment to a function
    setattr(np, "load", safe_array_load)  # noqa: B010
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
        If the pickle is too large, or holds something that MCRpy does not write.
    """
    shown = repr(str(getattr(file, "name", "the pickle")))
    size = os.fstat(file.fileno()).st_size
    if size > MAX_BYTES:
        raise InputError(f"{shown} must have at most {MAX_BYTES} bytes, got {size}")
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
        raise InputError("a microstructure in a pickle must have phases, got orientations; give a .npy file")
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f" or x.ndim not in (4, 5) or x.shape[0] != 1 or 0 in x.shape:
        raise InputError("a microstructure in a pickle must have an array of phases; give a file that MCRpy wrote")
    made = Microstructure(x[0], use_multiphase=x.shape[-1] > 1, skip_encoding=True, trainable=False)
    made.x.assign(x)
    return made
