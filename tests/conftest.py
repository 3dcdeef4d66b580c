"""Settings that hold for all tests: few threads, no display, no graphics card, nothing printed by TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Set before torch or TensorFlow is imported. One thread each: sums then come out the same on every machine.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # whichever test imports TensorFlow first


@pytest.fixture(scope="session")
def microstructures() -> Path:
    """Folder with real micrographs, which are no part of the project; tests that need them skip where it is absent."""
    given = os.environ.get("MCRPY_DIFFUSION_MICROSTRUCTURES")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "microstructures"
    if not folder.is_dir():
        pytest.skip(f"no real micrographs in {folder}; set MCRPY_DIFFUSION_MICROSTRUCTURES to their folder")
    return folder
