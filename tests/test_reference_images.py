"""Built-in reference images: closed forms of the fields, and statistics of the published micrographs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials import reference_images
from mcrpy_diffusion.materials.reference_images import ReferenceSettings, make, random_field, swift_hohenberg
from mcrpy_diffusion.metrics.spatial_statistics import discrepancy, radial_average, two_point_correlation

FRACTIONS = {"fibre": 0.35, "carbonate": 0.139, "ceramics": 0.391, "pmma": 0.026, "copolymer": 0.521}


@pytest.mark.parametrize("material", list(FRACTIONS))
def test_volume_fraction_and_kind(material):
    image = make(0, ReferenceSettings(material=material))
    assert image.shape == (256, 256)
    assert image.dtype == np.uint8
    assert set(np.unique(image)) == {0, 1}
    assert image.mean() == pytest.approx(FRACTIONS[material], abs=0.001)


@pytest.mark.parametrize("material", reference_images.MATERIALS)
def test_an_image_depends_on_its_seed_alone(material):
    settings = ReferenceSettings(material=material, extent_x=64, extent_y=96)
    first, again, other = (make(seed, settings) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (64, 96)
    assert (first != other).mean() > 0.01


def test_random_field_has_the_matern_covariance():
    """The spectrum (1 + k^2 l^2)^(-2) in the plane has the covariance (r / l) K_1(r / l)."""
    covariance = np.zeros(31)
    for seed in range(40):
        field = random_field((192, 192), length=6.0, exponent=1.0, smoothing=0.0, generator=np.random.default_rng(seed))
        spectrum = np.abs(np.fft.rfft2(field)) ** 2
        covariance += radial_average(np.fft.irfft2(spectrum, field.shape), max_distance=30)
    r = np.arange(2, 31)
    expected = r / 6 * special.k1(r / 6)
    np.testing.assert_allclose((covariance / covariance[0])[2:], expected, atol=0.03)


def test_labyrinth_has_its_wavelength_and_amplitude():
    """The amplitude of a lamella: u = A cos(k_0 x) with 3 A^2 / 4 = e, for the fundamental wave alone."""
    field = swift_hohenberg((128, 160), generator=np.random.default_rng(0), wavelength=8.0)
    rows, columns = np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(160), indexing="ij")
    power = np.abs(np.fft.fft2(field)) ** 2
    assert np.average(np.hypot(rows, columns), weights=power) == pytest.approx(1 / 8, rel=0.05)
    amplitude = np.sqrt(4 * reference_images._GROWTH_RATE / 3)
    assert field.std() == pytest.approx(amplitude / np.sqrt(2), rel=0.15)


@pytest.mark.parametrize(
    ("material", "percent"), [("carbonate", 5.0), ("ceramics", 3.0), ("pmma", 20.0), ("copolymer", 3.0)]
)
def test_two_point_correlation_is_close_to_that_of_the_micrograph(microstructures, material, percent):
    micrograph = np.load(microstructures / f"{material}_256.npy")
    real = radial_average(two_point_correlation(micrograph, phase=1, periodic=False), max_distance=31)
    curves = [
        radial_average(
            two_point_correlation(make(seed, ReferenceSettings(material=material)), phase=1, periodic=True),
            max_distance=31,
        )
        for seed in range(4 if material != "copolymer" else 1)
    ]
    assert discrepancy(real, np.mean(curves, axis=0)) < percent


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"material": "wood"}, "material must be one of alloy, fibre, carbonate, ceramics, pmma, copolymer"),
        ({"extent_x": 8}, "extent_x must be at least 64, got 8"),
    ],
)
def test_invalid_settings_are_rejected(values, message):
    with pytest.raises(InputError, match=message):
        ReferenceSettings.from_dict(values)
