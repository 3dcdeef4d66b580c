"""Make the reference micrograph of the examples: a bicontinuous two-phase structure, `bicontinuous.npy`.

A Gaussian random field with waves of one length in all directions is cut at a level: the two phases form interwoven
labyrinths, as after spinodal decomposition. Run `python examples/make_reference.py` to make the file anew; the same
seed gives the same file.

References
----------
J. W. Cahn, "Phase separation by spinodal decomposition in isotropic systems", J. Chem. Phys. 42 (1965), 93: waves of
random phase and direction and one length, cut at a level.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

EXTENT = (256, 256)
WAVELENGTH = 14.0  # pixels: one period of both phases
RELATIVE_BANDWIDTH = 0.08  # standard deviation of the wave number over the wave number
VOLUME_FRACTION = 0.4
SEED = 9  # of 0 to 11 the one whose first three quarters and last quarter are most alike in S2 and L


def gaussian_random_field(
    extent: tuple[int, int], *, wavelength: float, relative_bandwidth: float, generator: np.random.Generator
) -> np.ndarray:
    """Draw a random field whose spectrum is a ring: waves of about one length in all directions.

    Parameters
    ----------
    extent : (int, int)
        Rows and columns.
    wavelength : float
        Mean wavelength in pixels.
    relative_bandwidth : float
        Standard deviation of the wave numbers over their mean.
    generator : numpy.random.Generator
        Source of the white noise that is filtered.

    Returns
    -------
    (I, J) float64
        A periodic field; only its order of values matters here, not its scale.
    """
    noise = np.fft.rfft2(generator.standard_normal(extent))
    wave_number = np.hypot(np.fft.fftfreq(extent[0])[:, None], np.fft.rfftfreq(extent[1])[None, :])
    amplitude = np.exp(-(((wave_number * wavelength - 1) / relative_bandwidth) ** 2) / 4)
    return np.fft.irfft2(noise * amplitude, extent)


def make_reference(
    extent: tuple[int, int] = EXTENT,
    *,
    wavelength: float = WAVELENGTH,
    relative_bandwidth: float = RELATIVE_BANDWIDTH,
    volume_fraction: float = VOLUME_FRACTION,
    seed: int = SEED,
) -> np.ndarray:
    """Make a two-phase structure, cut out of a larger field: as in a real micrograph, its edges do not join.

    Parameters
    ----------
    extent : (int, int)
        Rows and columns.
    wavelength, relative_bandwidth : float
        See `gaussian_random_field`.
    volume_fraction : float
        Fraction of phase 1, met to within one pixel.
    seed : int
        Seed of the field.

    Returns
    -------
    (I, J) uint8
        Phases 0 and 1.
    """
    larger = (2 * extent[0], 2 * extent[1])
    generator = np.random.Generator(np.random.PCG64(seed))
    field = gaussian_random_field(
        larger, wavelength=wavelength, relative_bandwidth=relative_bandwidth, generator=generator
    )[: extent[0], : extent[1]]
    n_pixels = round(volume_fraction * field.size)
    level = np.partition(field, field.size - n_pixels, axis=None)[field.size - n_pixels]
    return (field >= level).astype(np.uint8)


def main() -> None:
    """Write the reference beside this file, or where `--out` says."""
    parser = argparse.ArgumentParser(description="Make the reference micrograph of the examples.")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("bicontinuous.npy"), help="file to write")
    arguments = parser.parse_args()
    phases = make_reference()
    np.save(arguments.out, phases)
    print(f"{arguments.out}: {phases.shape[0]} x {phases.shape[1]} pixels, volume fraction {phases.mean():.4f}")


if __name__ == "__main__":
    main()
