"""Where the nearest crop lies: a brute-force twin over all positions and half turns, phases and grey values."""

from __future__ import annotations

import numpy as np
import pytest

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.copying import nearest_crop_distance
from mcrpy_diffusion.metrics.nearest_crops import nearest_crop


def random_micrographs(kind: int, rng: np.random.Generator) -> list[np.ndarray]:
    shapes = [(14, 9), (8, 17)]
    if kind == 0:
        return [rng.random(shape) for shape in shapes]
    return [rng.integers(kind, size=shape).astype(np.uint8) for shape in shapes]


@pytest.mark.parametrize("kind", [0, 2, 3], ids=["grey", "two phases", "three phases"])
def test_place_and_distance_are_those_of_all_crops_tried(kind: int) -> None:
    rng = np.random.default_rng(kind)
    for _ in range(5):
        micrographs = random_micrographs(kind, rng)
        image = rng.random((6, 7)) if kind == 0 else rng.integers(kind, size=(6, 7)).astype(np.uint8)
        tried = []
        for k, m in enumerate(micrographs):
            for rotated in (False, True):
                for i, j in np.ndindex(m.shape[0] - 5, m.shape[1] - 6):
                    crop = m[i : i + 6, j : j + 7]
                    crop = crop[::-1, ::-1] if rotated else crop
                    error = ((image - crop) ** 2).mean() if kind == 0 else (image != crop).mean()
                    tried.append((round(float(error), 12), k, rotated, i, j))
        place = nearest_crop(image, micrographs)
        found = (round(place.distance, 12), place.micrograph, place.rotated, place.row, place.column)
        assert found == min(tried)
        crop = place.cut(micrographs, (6, 7))
        error = ((image - crop) ** 2).mean() if kind == 0 else (image != crop).mean()
        assert error == pytest.approx(place.distance, abs=1e-12)
        assert nearest_crop_distance(image[None], micrographs)[0] == pytest.approx(place.distance, abs=1e-12)


@pytest.mark.parametrize("sizes", [[], [(5, 9)], [(9, 9), (9, 6)]])
def test_micrographs_that_hold_no_crop_are_refused(sizes: list[tuple[int, int]]) -> None:
    with pytest.raises(InputError, match=r"as large as the image, \(6, 7\)"):
        nearest_crop(np.zeros((6, 7), dtype=np.uint8), [np.zeros(size, dtype=np.uint8) for size in sizes])
