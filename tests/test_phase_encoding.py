"""Phases to channels and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mcrpy_diffusion.data.phase_encoding import decode, encode, n_channels, volume_fractions
from mcrpy_diffusion.errors import InputError


def _random_phases(n_phases: int) -> np.ndarray:
    return np.random.default_rng(0).integers(n_phases, size=(5, 6, 7)).astype(np.uint8)


def test_two_phases_by_hand():
    encoded = encode(torch.tensor([[[0, 1], [1, 0]]], dtype=torch.uint8), 2)
    assert encoded.dtype == torch.float32
    np.testing.assert_array_equal(encoded, [[[[-1, 1], [1, -1]]]])


def test_three_phases_by_hand():
    encoded = encode(torch.tensor([[[0, 2, 1]]]), 3)
    np.testing.assert_array_equal(encoded, [[[[1, -1, -1]], [[-1, -1, 1]], [[-1, 1, -1]]]])


def test_grey_by_hand():
    np.testing.assert_array_equal(encode(torch.tensor([[[0, 0.25, 1]]]), 0), [[[[-1, -0.5, 1]]]])
    np.testing.assert_array_equal(decode(torch.tensor([[[[-1, -0.5, 1, 3, -2]]]]), 0), [[[0, 0.25, 1, 1, 0]]])


@pytest.mark.parametrize("n_phases", [2, 3, 4, 7])
def test_decode_inverts_encode(n_phases):
    phases = torch.from_numpy(_random_phases(n_phases))
    encoded = encode(phases, n_phases)
    decoded = decode(encoded, n_phases)
    assert tuple(encoded.shape) == (5, n_channels(n_phases), 6, 7)
    assert encoded.dtype == torch.float32
    assert decoded.dtype == torch.uint8
    assert torch.equal(decoded, phases)


@pytest.mark.parametrize("n_phases", [2, 3])
def test_decode_is_exact_for_noise_below_half_the_distance(n_phases):
    phases = _random_phases(n_phases)
    noise = np.random.default_rng(1).uniform(-0.99, 0.99, size=(5, n_channels(n_phases), 6, 7))
    noisy = encode(torch.from_numpy(phases), n_phases) + torch.from_numpy(noise)
    np.testing.assert_array_equal(decode(noisy, n_phases), phases)


def test_volume_fractions_by_hand():
    phases = np.array([[[0, 1, 2, 2]], [[0, 0, 0, 1]]])
    np.testing.assert_array_equal(volume_fractions(phases, 3), [[0.25, 0.5], [0.25, 0]])
    np.testing.assert_array_equal(volume_fractions(phases[1:], 2), [[0.25]])
    np.testing.assert_array_equal(volume_fractions(np.array([[[0.0, 0.5, 1.0, 0.5]]], dtype=np.float32), 0), [[0.5]])


def test_volume_fraction_is_summed_in_float64():
    grey = np.full((1, 2000, 2000), 0.1, dtype=np.float32)
    assert volume_fractions(grey, 0)[0, 0] == pytest.approx(np.float64(np.float32(0.1)), rel=1e-12)


@pytest.mark.parametrize("n_phases", [-1, 1, 257])
def test_invalid_numbers_of_phases(n_phases):
    with pytest.raises(InputError, match="between 2 and 256"):
        n_channels(n_phases)


@pytest.mark.parametrize(
    ("phases", "n_phases"),
    [
        ([[[0, 2]]], 2),
        ([[[0, -1]]], 2),
        ([[[0, 3]]], 3),
        ([[[0.0, 1.5]]], 0),
        ([[[0.0, np.nan]]], 0),
        ([[0, 1]], 2),
    ],
)
@pytest.mark.parametrize(("function", "make"), [(encode, torch.tensor), (volume_fractions, np.array)])
def test_invalid_phases(function, make, phases, n_phases):
    with pytest.raises(InputError, match="must"):
        function(make(phases), n_phases)


def test_invalid_channels():
    with pytest.raises(InputError, match="must have the shape"):
        decode(torch.zeros(1, 2, 3, 3), 2)
    with pytest.raises(InputError, match="NaN"):
        decode(torch.full((1, 1, 3, 3), torch.nan), 2)
