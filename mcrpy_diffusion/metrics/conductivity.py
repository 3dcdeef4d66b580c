"""Effective conductivity of a phase, solved on the pixels or voxels by taufactor, which is optional.

Reference: S. Kench, I. Squires, S. Cooper, "TauFactor 2: A GPU accelerated python tool for microstructural analysis",
Journal of Open Source Software 8 (2023) 5358, doi:10.21105/joss.05358.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

from mcrpy_diffusion.errors import InputError

FLUX_TOLERANCE = 5e-3  # largest difference of the flux through two cross-sections at the end, relative
MAX_ITERATIONS = 50_000
_BATCH_PIXELS = 2**18  # pixels of the structures that are solved at once


def effective_conductivity(
    images: np.ndarray, *, phase: int, progress: Callable[[int], object] | None = None
) -> np.ndarray:
    """Return the conductivity of each structure along each axis if one phase conducts and the others insulate.

    Parameters
    ----------
    images : (N, I, J) or (N, I, J, K) integer
        Phases.
    phase : int
        The phase that conducts, with the conductivity 1.
    progress : callable, optional
        Called with the number of structures that are done along an axis.

    Returns
    -------
    (N, 2) or (N, 3) float64
        In [0, volume fraction]; 0 where the phase does not connect both faces, through edges of pixels or faces of
        voxels. Along an axis, the potential is fixed on both faces, and nothing flows through the sides.

    Raises
    ------
    InputError
        If taufactor is not installed, the shape is another one, or a solution does not converge.
    """
    solver = _solver()
    values = np.asarray(images)
    if values.ndim not in (3, 4) or 0 in values.shape[1:]:
        raise InputError(f"structures must have the shape (N, I, J) or (N, I, J, K), got {values.shape}")
    found = np.zeros((len(values), values.ndim - 1))
    n_at_once = max(_BATCH_PIXELS // int(np.prod(values.shape[1:])), 1)
    for axis in range(values.ndim - 1):
        along = np.moveaxis(values == phase, axis + 1, 1)
        for start in range(0, len(values), n_at_once):
            block = np.stack([percolating(image) for image in along[start : start + n_at_once]])
            connected = block.any(axis=tuple(range(1, block.ndim)))
            if connected.any():
                found[start : start + n_at_once, axis][connected] = _solve(solver, block[connected])
            if progress is not None:
                progress(len(block))
    return found


def percolating(indicator: np.ndarray) -> np.ndarray:
    """Return the connected components (I, J[, K]) bool of a phase that reach both ends of the first axis."""
    labels, _ = ndimage.label(indicator)
    both = np.intersect1d(labels[0], labels[-1])
    return np.isin(labels, both[both > 0])


def _solver() -> Any:
    """Return taufactor's solver of two phases."""
    try:
        from taufactor import Solver
    except ImportError as error:
        raise InputError("properties need taufactor: pip install 'mcrpy-diffusion[conductivity]'") from error
    return Solver


def _solve(solver: Any, block: np.ndarray) -> np.ndarray:
    """Return the conductivities (N,) along the first axis of phases (N, I, J[, K]) that all conduct."""
    volumes = block.reshape(*block.shape[:3], -1).astype(np.float32)
    with contextlib.redirect_stdout(io.StringIO()):
        solution = solver(volumes, device=_device())
        solution.solve(iter_limit=MAX_ITERATIONS, verbose=False, conv_crit=FLUX_TOLERANCE)
    if not solution.converged:
        raise InputError(f"the conductivity must converge in {MAX_ITERATIONS} iterations; give smaller structures")
    return np.asarray(solution.D_eff, dtype=np.float64)


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
