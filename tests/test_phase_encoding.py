"""Phases to channels and back."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from mcrpy_diffusion.data.phase_encoding import decode, encode, n_channels, volume_fractions
from mcrpy_diffusion.errors import InputError


def _random_phases(n_phases: int) -> np.ndarray:
    return np.random.default_rng(0).integers(n_phases, size=(5, 6, 7)).astype(np.uint8)


def test_two_phases_by_hand():
    encoded = encode(np.array([[[0, 1], [1, 0]]], dtype=np.uint8), 2)
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(encoded, [[[[-1, 1], [1, -1]]]])


def test_three_phases_by_hand():
    encoded = encode(np.array([[[0, 2, 1]]]), 3)
    np.testing.assert_array_equal(encoded, [[[[1, -1, -1]], [[-1, -1, 1]], [[-1, 1, -1]]]])


def test_grey_by_hand():
    np.testing.assert_array_equal(encode(np.array([[[0, 0.25, 1]]]), 0), [[[[-1, -0.5, 1]]]])
    np.testing.assert_array_equal(decode(np.array([[[[-1, -0.5, 1, 3, -2]]]]), 0), [[[0, 0.25, 1, 1, 0]]])


@pytest.mark.parametrize("n_phases", [2, 3, 4, 7])
@pytest.mark.parametrize("as_torch", [False, True])
def test_decode_undoes_encode(n_phases, as_torch):
    phases = _random_phases(n_phases)
    given = torch.from_numpy(phases) if as_torch else phases
    encoded = encode(given, n_phases)
    decoded = decode(encoded, n_phases)
    assert tuple(encoded.shape) == (5, n_channels(n_phases), 6, 7)
    assert type(encoded) is type(decoded) is type(given)
    assert str(encoded.dtype).endswith("float32")
    assert str(decoded.dtype).endswith("uint8")
    np.testing.assert_array_equal(np.asarray(decoded), phases)
    np.testing.assert_array_equal(np.asarray(encoded), encode(phases, n_phases))


@pytest.mark.parametrize("n_phases", [2, 3])
def test_decode_survives_noise_below_half_the_distance(n_phases):
    phases = _random_phases(n_phases)
    noise = np.random.default_rng(1).uniform(-0.99, 0.99, size=(5, n_channels(n_phases), 6, 7))
    np.testing.assert_array_equal(decode(encode(phases, n_phases) + noise, n_phases), phases)


def test_volume_fractions_by_hand():
    phases = np.array([[[0, 1, 2, 2]], [[0, 0, 0, 1]]])
    np.testing.assert_array_equal(volume_fractions(phases, 3), [[0.25, 0.5], [0.25, 0]])
    np.testing.assert_array_equal(volume_fractions(phases[1:], 2), [[0.25]])
    np.testing.assert_array_equal(volume_fractions(torch.from_numpy(phases), 3), [[0.25, 0.5], [0.25, 0]])
    np.testing.assert_array_equal(volume_fractions(np.array([[[0.0, 0.5, 1.0, 0.5]]], dtype=np.float32), 0), [[0.5]])


def test_volume_fraction_is_summed_in_float64():
    grey = np.full((1, 2000, 2000), 0.1, dtype=np.float32)
    assert volume_fractions(grey, 0)[0, 0] == pytest.approx(np.float64(np.float32(0.1)), rel=1e-12)


@pytest.mark.parametrize("n_phases", [-1, 1, 257])
def test_impossible_numbers_of_phases(n_phases):
    with pytest.raises(InputError, match="between 2 and 256"):
        n_channels(n_phases)


@pytest.mark.parametrize(
    ("phases", "n_phases"),
    [
        (np.array([[[0, 2]]]), 2),
        (np.array([[[0, -1]]]), 2),
        (np.array([[[0, 3]]]), 3),
        (np.array([[[0.0, 1.5]]]), 0),
        (np.array([[[0.0, np.nan]]]), 0),
        (np.array([[0, 1]]), 2),
        (torch.tensor([[[0, 2]]]), 2),
    ],
)
def test_phases_that_do_not_fit(phases, n_phases):
    with pytest.raises(InputError, match="must"):
        encode(phases, n_phases)


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
def test_channels_that_do_not_fit(make):
    with pytest.raises(InputError, match="must have the shape"):
        decode(make(np.zeros((1, 2, 3, 3))), 2)
    with pytest.raises(InputError, match="NaN"):
        decode(make(np.full((1, 1, 3, 3), np.nan)), 2)


def test_torch_is_not_imported():
    code = (
        "import sys, numpy as np; from mcrpy_diffusion.data.phase_encoding import encode; "
        "encode(np.zeros((1, 2, 2)), 2); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
