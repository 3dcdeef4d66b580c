"""Random symmetries: the set of symmetries, their probabilities, and unchanged statistics."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from mcrpy_diffusion.data.augmentation import augment
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.spatial_statistics import lineal_path, two_point_correlation


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _orbit(image: np.ndarray, *, periodic: bool, isotropic: bool) -> set[bytes]:
    """All images under the allowed symmetries, by brute force."""
    images = [image, image[::-1, ::-1]]
    if isotropic:
        images += [image[::-1], image[:, ::-1]]
        if image.shape[0] == image.shape[1]:
            images += [np.rot90(a) for a in list(images)]
    if periodic:
        rows, columns = image.shape
        images = [np.roll(a, (i, j), (0, 1)) for a in images for i in range(rows) for j in range(columns)]
    return {a.tobytes() for a in images}


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("isotropic", [False, True])
@pytest.mark.parametrize("shape", [(3, 3), (2, 3)])
def test_exactly_the_allowed_images_occur_equally_often(shape, periodic, isotropic):
    image = np.arange(np.prod(shape)).reshape(shape)
    orbit = _orbit(image, periodic=periodic, isotropic=isotropic)
    n = 300 * len(orbit)
    batch = torch.from_numpy(image).expand(n, 1, *shape)
    made = augment(batch, periodic=periodic, isotropic=isotropic, generator=_generator())
    counts = Counter(a.tobytes() for a in made[:, 0].numpy())
    assert set(counts) == orbit
    assert all(abs(count - 300) < 6 * 300**0.5 for count in counts.values())


@pytest.mark.parametrize("periodic", [False, True])
def test_statistics_of_every_image_are_kept_without_isotropy(periodic):
    phases = np.random.default_rng(0).integers(2, size=(20, 1, 8, 6)).astype(np.uint8)
    made = augment(torch.from_numpy(phases), periodic=periodic, isotropic=False, generator=_generator()).numpy()
    assert (made != phases).any()
    for statistic in (two_point_correlation, lineal_path):
        expected = statistic(phases[:, 0], phase=1, periodic=periodic)
        np.testing.assert_allclose(statistic(made[:, 0], phase=1, periodic=periodic), expected, rtol=0, atol=1e-15)


def test_channels_move_together():
    image = torch.arange(16).reshape(1, 1, 4, 4)
    batch = torch.cat([image, image + 100], dim=1).expand(50, 2, 4, 4)
    made = augment(batch, periodic=True, isotropic=True, generator=_generator())
    assert torch.equal(made[:, 1], made[:, 0] + 100)


def test_the_generator_decides():
    batch = torch.randn(10, 1, 8, 8, generator=_generator())
    first, again, other = (augment(batch, periodic=True, isotropic=True, generator=_generator(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_shape_that_is_no_batch():
    with pytest.raises(InputError, match="must have the shape"):
        augment(torch.zeros(3, 4, 4), periodic=True, isotropic=False, generator=_generator())
