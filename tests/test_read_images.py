"""Reading many images at once."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mcrpy_diffusion.data.micrograph import read_images, read_micrograph
from mcrpy_diffusion.errors import InputError


@pytest.fixture
def masks():
    return np.random.default_rng(0).integers(0, 2, (3, 10, 12), dtype=np.uint8)


def save_tif(path, pages):
    first, *rest = [Image.fromarray(page) for page in pages]
    first.save(path, save_all=True, append_images=rest)


def test_one_image_in_each_format(tmp_path, masks):
    np.save(tmp_path / "stack.npy", masks)
    np.savez(tmp_path / "one.npz", masks)
    np.savez(tmp_path / "many.npz", a=masks[0], b=masks[1:])
    save_tif(tmp_path / "pages.tif", masks * 255)
    for name in ("stack.npy", "one.npz", "many.npz", "pages.tif"):
        images = read_images([tmp_path / name])
        np.testing.assert_array_equal(np.stack([image.phases for image in images]), masks)
        assert {image.n_phases for image in images} == {2}
    (tmp_path / "folder" / "below").mkdir(parents=True)
    Image.fromarray(masks[0] * 255).save(tmp_path / "folder" / "a.png")
    np.save(tmp_path / "folder" / "below" / "b.npy", masks[1] * np.uint8(255))
    (tmp_path / "folder" / "notes.txt").write_text("no image")
    images = read_images([tmp_path / "folder"])
    assert [image.name for image in images] == ["a", "b"]
    np.testing.assert_array_equal(np.stack([image.phases for image in images]), masks[:2])


def test_a_single_image_is_read_as_read_micrograph_does(tmp_path):
    grey = np.random.default_rng(1).normal(100, 30, (20, 30)).clip(0, 255).astype(np.uint8)
    grey[:10] //= 3
    for name, values in (("grey.png", grey), ("colour.png", np.stack([grey, grey, grey], axis=-1))):
        Image.fromarray(values).save(tmp_path / name)
        alone, (together,) = read_micrograph(tmp_path / name), read_images([tmp_path / name])
        np.testing.assert_array_equal(together.phases, alone.phases)
        assert (together.threshold, together.sha256) == (alone.threshold, alone.sha256)
        np.testing.assert_allclose(
            read_images([tmp_path / name], grey_values=True)[0].phases,
            read_micrograph(tmp_path / name, grey_values=True).phases,
        )


def test_all_images_have_one_threshold(tmp_path):
    """The second page is matrix only; its own threshold would lie within its noise."""
    generator = np.random.default_rng(2)
    pages = generator.normal(60, 5, (2, 32, 32))
    pages[0, 8:20, 8:20] += 120
    save_tif(tmp_path / "pages.tif", pages.clip(0, 255).astype(np.uint8))
    first, second = read_images([tmp_path / "pages.tif"])
    assert first.phases.sum() == 144
    assert second.phases.sum() == 0
    assert first.threshold == second.threshold


def test_an_image_may_lack_a_phase_of_the_others(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0, 1], [2, 1]]))
    np.save(tmp_path / "b.npy", np.array([[1, 1], [1, 1]]))
    images = read_images([tmp_path], use_multiphase=True)
    assert [image.n_phases for image in images] == [3, 3]
    assert images[1].phases.tolist() == [[1, 1], [1, 1]]
    with pytest.raises(InputError, match="must have 2 phases, got 3"):
        read_images([tmp_path])


def test_grey_values_are_scaled_together(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[0.0, 2.0]] * 2))
    np.save(tmp_path / "b.npy", np.array([[1.0, 4.0]] * 2))
    a, b = read_images([tmp_path], grey_values=True)
    assert a.n_phases == 0
    np.testing.assert_allclose(a.phases[0], [0, 0.5])
    np.testing.assert_allclose(b.phases[0], [0.25, 1])


def test_unreadable_files_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.tif").write_bytes(b"II*\0 nothing")
    np.save(tmp_path / "objects.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    np.save(tmp_path / "flat.npy", np.zeros(5))
    np.save(tmp_path / "nan.npy", np.full((4, 4), np.nan))
    np.save(tmp_path / "one.npy", np.zeros((4, 4)))
    np.savez(tmp_path / "none.npz")
    np.save(tmp_path / "true.npy", np.ones((4, 4), bool))
    np.save(tmp_path / "short.npy", np.zeros((40, 40)))
    (tmp_path / "short.npy").write_bytes((tmp_path / "short.npy").read_bytes()[:200])
    for name, said in (
        ("missing", "does not exist"),
        ("empty", "must hold images"),
        ("broken.tif", "is not a valid .tif file"),
        ("objects.npy", "holds Python objects"),
        ("flat.npy", "two axes"),
        ("nan.npy", "got NaN"),
        ("one.npy", "only the value 0"),
        ("none.npz", "got none"),
        ("true.npy", "only the value 1"),
        ("short.npy", "the file holds"),
    ):
        with pytest.raises(InputError, match=said) as caught:
            read_images([tmp_path / name])
        assert "\n" not in str(caught.value)
    np.save(tmp_path / "grey.npy", np.arange(100.0).reshape(10, 10))
    with pytest.raises(InputError, match="got grey values"):
        read_images([tmp_path / "grey.npy"], use_multiphase=True)
