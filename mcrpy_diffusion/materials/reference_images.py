"""Built-in reference images of the six materials, so that no external file is needed.

They approximate published micrographs in volume fraction and two-point correlation: level sets of Gaussian random
fields (carbonate, ceramics), dispersed particles (PMMA), the labyrinth of the Swift-Hohenberg equation (copolymer), and
the generators `polycrystal` and `fibres`. All are periodic, and none is a copy.

References
----------
J. W. Cahn, "Phase separation by spinodal decomposition in isotropic systems", J. Chem. Phys. 42 (1965) 93: level sets
of random fields. J. Swift, P. C. Hohenberg, "Hydrodynamic fluctuations at the convective instability", Phys. Rev. A 15
(1977) 319. The micrographs: X. Li et al., Scientific Reports 8 (2018) 13461.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mcrpy_diffusion.materials import fibres, polycrystal
from mcrpy_diffusion.settings import MATERIALS, AlloySettings, ExtentSettings, FibreSettings, option

# name: (volume fraction of phase 1, correlation length in pixels, exponent of the spectrum, smoothing in pixels)
RANDOM_FIELDS = {
    "carbonate": (0.139, 4.0, 1.0, 0.0),
    "ceramics": (0.391, 1.5, 1.5, 1.0),
}
COPOLYMER_FRACTION = 0.521
COPOLYMER_WAVELENGTH = 3.6  # pixels: one dark and one bright lamella
_GROWTH_RATE, _TIME_STEP, _N_STEPS = 0.1, 0.5, 300  # of the Swift-Hohenberg equation, in its own units


@dataclass(frozen=True)
class ReferenceSettings(ExtentSettings):
    """Which reference image, and how large."""

    material: str = option("carbonate", "material", choices=MATERIALS)
    extent_x: int = option(256, "rows", unit="pixels", low=64)
    extent_y: int = option(256, "columns", unit="pixels", low=64)


def make(seed: int, settings: ReferenceSettings) -> np.ndarray:
    """Return the reference image (I, J) uint8 of a seed.

    Phase 1 are grain boundaries, fibres, particles, or the phase that is bright in micrographs.
    """
    material, extent = settings.material, settings.extent
    size: dict[str, Any] = {"extent_x": extent[0], "extent_y": extent[1]}
    if material == "alloy":
        return polycrystal.make(seed, AlloySettings(**size))
    if material == "fibre":
        return fibres.make(seed, FibreSettings(**size))
    if material == "pmma":
        return fibres.make(seed, FibreSettings(**size, volume_fraction=0.026, radius=1.7, radius_deviation=0.5))
    generator = np.random.default_rng(seed)
    if material == "copolymer":
        return level_set(swift_hohenberg(extent, generator=generator), COPOLYMER_FRACTION)
    fraction, length, exponent, smoothing = RANDOM_FIELDS[material]
    field = random_field(extent, length=length, exponent=exponent, smoothing=smoothing, generator=generator)
    return level_set(field, fraction)


def level_set(field: np.ndarray, volume_fraction: float) -> np.ndarray:
    """Return the level set (I, J) uint8 of a field: phase 1 above the threshold that gives the volume fraction."""
    n_above = round(volume_fraction * field.size)
    phases = np.zeros(field.size, dtype=np.uint8)
    phases[np.argsort(field, axis=None, kind="stable")[field.size - n_above :]] = 1
    return phases.reshape(field.shape)


def random_field(
    extent: tuple[int, int], *, length: float, exponent: float, smoothing: float, generator: np.random.Generator
) -> np.ndarray:
    """Draw a periodic Gaussian random field (I, J) float64 with the mean 0 and an arbitrary scale.

    Parameters
    ----------
    extent : (int, int)
        Rows and columns.
    length : float
        Correlation length l in pixels.
    exponent : float
        m; level sets are rougher for smaller m.
    smoothing : float
        Standard deviation w in pixels of a Gaussian blur, 0 for none.
    generator : numpy.random.Generator

    Notes
    -----
    White noise times the amplitude (1 + k^2 l^2)^(-m) exp(-k^2 w^2 / 2) at the wave number k in radians per pixel; for
    w = 0 it is a Matern field.
    """
    k_squared = _wave_numbers_squared(extent)
    amplitude = (1 + k_squared * length**2) ** -exponent * np.exp(-k_squared * smoothing**2 / 2)
    amplitude[0, 0] = 0
    return np.fft.irfft2(np.fft.rfft2(generator.standard_normal(extent)) * amplitude, extent)


def swift_hohenberg(
    extent: tuple[int, int], *, generator: np.random.Generator, wavelength: float = COPOLYMER_WAVELENGTH
) -> np.ndarray:
    """Solve du/dt = e u - (1 + lap / k_0^2)^2 u - u^3 from noise, on a periodic field, (I, J) float64.

    The linear part is implicit in time, the cube explicit; k_0 = 2 pi / wavelength, wavelength in pixels.
    """
    detuning = (1 - _wave_numbers_squared(extent) * (wavelength / (2 * np.pi)) ** 2) ** 2
    implicit = 1 / (1 - _TIME_STEP * (_GROWTH_RATE - detuning))
    u = 0.1 * generator.standard_normal(extent)
    for _ in range(_N_STEPS):
        u = np.fft.irfft2(np.fft.rfft2(u - _TIME_STEP * u**3) * implicit, extent)
    return u


def _wave_numbers_squared(extent: tuple[int, int]) -> np.ndarray:
    """Return k^2 in radians^2 per pixel^2, shape (I, J // 2 + 1), as rfft2 orders them."""
    rows, columns = np.fft.fftfreq(extent[0])[:, None], np.fft.rfftfreq(extent[1])[None, :]
    return (2 * np.pi) ** 2 * (rows**2 + columns**2)
