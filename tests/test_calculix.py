"""Voxel meshes in a linear elastic case of CalculiX: the moduli that are known in closed form."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mcrpy_diffusion.io.structure_files import write_structure

PIXEL, STRAIN = 1e-6, 1e-3
MODULI = (70e9, 210e9)

pytestmark = pytest.mark.skipif(shutil.which("ccx") is None, reason="CalculiX (ccx) is not installed")


def modulus_along_x(folder: Path, structure: np.ndarray, moduli: tuple[float, float], poisson: float) -> float:
    """Stretch along x, with free sides; return the mean stress divided by the strain."""
    write_structure(folder / "mesh.inp", structure, pixel_size=PIXEL)
    materials = "".join(f"*MATERIAL, NAME=PHASE_{p}\n*ELASTIC\n{e}, {poisson}\n" for p, e in enumerate(moduli))
    fixed = "".join(f"{letter}_MIN, {axis}, {axis}\n" for axis, letter in enumerate("XYZ"[: structure.ndim], 1))
    stretch = STRAIN * structure.shape[0] * PIXEL
    (folder / "job.inp").write_text(
        f"{materials}*INCLUDE, INPUT=mesh.inp\n*BOUNDARY\n{fixed}*STEP\n*STATIC\n*BOUNDARY\nX_MAX, 1, 1, {stretch}\n"
        "*NODE PRINT, NSET=X_MAX, TOTALS=ONLY\nRF\n*EL PRINT, ELSET=VOXELS, TOTALS=ONLY\nEVOL\n*END STEP\n"
    )
    subprocess.run(["ccx", "job"], cwd=folder, check=True, capture_output=True, timeout=100)
    force, volume = re.findall(r"^ +([-+.\dE]+)(?: +[-+.\dE]+ +[-+.\dE]+)?$", (folder / "job.dat").read_text(), re.M)
    assert float(volume) == pytest.approx(structure.size * PIXEL**3, rel=1e-5)
    area = np.prod(structure.shape[1:]) * PIXEL ** (structure.ndim - 1) * (1 if structure.ndim == 3 else PIXEL)
    return float(force) / area / STRAIN


def bounds(structure: np.ndarray) -> tuple[float, float]:
    """Moduli of layers across the load (Reuss) and along it (Voigt), without transverse contraction."""
    share = structure.mean()
    return 1 / ((1 - share) / MODULI[0] + share / MODULI[1]), (1 - share) * MODULI[0] + share * MODULI[1]


@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4)])
def test_layers_and_mixtures_have_the_moduli_of_the_theory(shape: tuple[int, ...], tmp_path: Path) -> None:
    mixture = np.random.default_rng(0).integers(0, 2, shape)
    assert modulus_along_x(tmp_path, mixture, (70e9, 70e9), 0.3) == pytest.approx(70e9, rel=1e-5)
    across, along = np.zeros(shape, int), np.zeros(shape, int)
    across[:2], along[:, :1] = 1, 1
    assert modulus_along_x(tmp_path, across, MODULI, 0.0) == pytest.approx(bounds(across)[0], rel=1e-5)
    assert modulus_along_x(tmp_path, along, MODULI, 0.0) == pytest.approx(bounds(along)[1], rel=1e-5)
    reuss, voigt = bounds(mixture)
    assert reuss < modulus_along_x(tmp_path, mixture, MODULI, 0.3) < voigt
