"""The example's reference: the script makes the shipped file, and its statistics are those it was made for."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from mcrpy_diffusion.metrics.spatial_statistics import radial_average, two_point_correlation

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", EXAMPLES / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_script_makes_the_shipped_file(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "make_reference.py"), "--out", str(tmp_path / "made.npy")]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    made, shipped = np.load(tmp_path / "made.npy"), np.load(EXAMPLES / "bicontinuous.npy")
    assert made.dtype == shipped.dtype == np.uint8
    np.testing.assert_array_equal(made, shipped)
    assert "256 x 256 pixels, volume fraction 0.4000" in said


def test_another_seed_gives_another_structure_of_the_same_fraction(example: ModuleType) -> None:
    one, other = (example.make_reference((64, 96), seed=seed) for seed in (0, 1))
    assert one.sum() == other.sum() == round(example.VOLUME_FRACTION * 64 * 96)
    assert (one != other).mean() == pytest.approx(2 * 0.4 * 0.6, abs=0.1)


def test_field_has_waves_of_one_length(example: ModuleType) -> None:
    """The covariance of an isotropic field of one wave number k is J_0(k r): -0.40 at k r = 3.83, its first minimum."""
    field = example.gaussian_random_field(
        (256, 256), wavelength=2 * np.pi * 10 / 3.83, relative_bandwidth=0.05, generator=np.random.default_rng(0)
    )
    spectrum = np.abs(np.fft.fft2(field)) ** 2
    covariance = radial_average(np.fft.ifft2(spectrum).real / spectrum.sum() * field.size, max_distance=20)
    assert np.argmin(covariance) == 10
    assert covariance.min() / covariance[0] == pytest.approx(-0.40, abs=0.03)


def test_two_point_correlation_of_the_cut_at_half(example: ModuleType) -> None:
    """A Gaussian field cut at its median: S2 = 1/4 + arcsin(covariance) / (2 pi), so S2 of J_0's minimum is 0.185."""
    phases = example.make_reference((256, 256), relative_bandwidth=0.05, volume_fraction=0.5, seed=0)
    s2 = radial_average(two_point_correlation(phases, phase=1, periodic=False), max_distance=20)
    assert s2[0] == 0.5
    assert s2.min() == pytest.approx(0.25 + np.arcsin(-0.40) / (2 * np.pi), abs=0.01)
