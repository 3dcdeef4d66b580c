"""Volumes where a Gaussian random field exceeds a threshold, with closed forms for S2 and the interface.

The field has mean 0, variance 1 and the covariance C(r) = exp(-(r / l)^2) sin(q r) / (q r) with q = 2 pi / d: the
correlation length l alone (d = None, C = exp(-(r / l)^2)) gives blobs, a wavelength d two phases that wind through each
other.

References
----------
S. Torquato, Random Heterogeneous Materials (2002), section 8.1; the covariance is that of A. P. Roberts, M. Teubner,
Phys. Rev. E 51 (1995) 4141. The rate of crossings is due to S. O. Rice, Bell Syst. Tech. J. 24 (1945) 46.
"""

from __future__ import annotations

from math import exp, pi

import numpy as np
import scipy.fft
from scipy.special import ndtri

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.arrays import signed_shifts

_N_NODES = 200  # of the quadrature of S2


def level_set(
    extent: tuple[int, int, int],
    *,
    correlation_length: float,
    wavelength: float | None,
    volume_fraction: float,
    seed: int,
) -> np.ndarray:
    """Make a periodic volume whose phase 1 is where a Gaussian random field is above a threshold.

    Parameters
    ----------
    extent : (int, int, int)
        Planes, rows, columns; several correlation lengths each, for the closed forms to hold.
    correlation_length : float
        l, in voxels.
    wavelength : float or None
        d, in voxels; None for none.
    volume_fraction : float
        Expected share of phase 1, between 0 and 1. Single volumes scatter around it.
    seed : int

    Returns
    -------
    (I, J, K) uint8

    Raises
    ------
    InputError
        If the volume fraction is out of range.
    """
    threshold = _threshold(volume_fraction)
    squares = sum(np.ix_(*(signed_shifts(n).astype(np.float64) ** 2 for n in extent)))
    at_shifts = covariance(np.sqrt(squares), correlation_length=correlation_length, wavelength=wavelength)
    power = np.maximum(scipy.fft.rfftn(at_shifts).real, 0)  # the periodic images leave tiny negative values
    noise = scipy.fft.rfftn(np.random.default_rng(seed).standard_normal(extent))
    return (scipy.fft.irfftn(np.sqrt(power) * noise, extent) > threshold).astype(np.uint8)


def covariance(r: np.ndarray | float, *, correlation_length: float, wavelength: float | None) -> np.ndarray:
    """Return the covariance of the field at distances r."""
    r = np.asarray(r, dtype=np.float64)
    envelope = np.exp(-((r / correlation_length) ** 2))
    return envelope if wavelength is None else envelope * np.sinc(2 * r / wavelength)


def level_set_s2(
    r: np.ndarray | float, *, correlation_length: float, wavelength: float | None, volume_fraction: float
) -> np.ndarray:
    r"""Return S2 of a level set at distances r.

    Notes
    -----
    The tetrachoric function: :math:`S_2 = \phi^2 + \frac{1}{2 \pi} \int_0^{\arcsin C(r)} \exp(-t^2 / (1 + \sin u)) du`
    with the threshold t, by Gauss-Legendre quadrature; :math:`1/4 + \arcsin C / (2 \pi)` for phi = 1/2.
    """
    threshold = _threshold(volume_fraction)
    at_r = covariance(r, correlation_length=correlation_length, wavelength=wavelength)
    nodes, weights = np.polynomial.legendre.leggauss(_N_NODES)
    angle = np.arcsin(at_r)[..., None]
    values = np.exp(-(threshold**2) / (1 + np.sin(angle * (nodes + 1) / 2)))
    return volume_fraction**2 + (values @ weights) * angle[..., 0] / 2 / (2 * pi)


def level_set_surface(*, correlation_length: float, wavelength: float | None, volume_fraction: float) -> float:
    """Return the area of the interface per volume: 2 / pi exp(-t^2 / 2) sqrt(-C''(0))."""
    curvature = 2 / correlation_length**2 + (0 if wavelength is None else (2 * pi / wavelength) ** 2 / 3)
    return 2 / pi * exp(-(_threshold(volume_fraction) ** 2) / 2) * curvature**0.5


def _threshold(volume_fraction: float) -> float:
    if not 0 < volume_fraction < 1:
        raise InputError(f"volume_fraction must be between 0 and 1, got {volume_fraction!r}")
    return float(ndtri(1 - volume_fraction))
