"""What tifffile and Pillow can write is read back; what is damaged is refused in a line, or read right."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from test_image_rules import blob

from mcrpy_diffusion.data.micrograph import read_images, read_micrograph
from mcrpy_diffusion.data.raw_images import RawImage, read_file
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.npy_files import Budget

TYPES = (
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "float32",
    "float64",
)
TIFF_COMPRESSIONS = (None, "zlib", "lzw", "packbits", "zstd", "lzma")
ORIENTED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: a.T[:, ::-1],
    7: lambda a: a[::-1, ::-1].T,
    8: lambda a: a.T[::-1],
}
"""Value of the tag Orientation -> the image as it is shown."""
QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def read(path: Path, *, several: bool = True) -> list[RawImage]:
    return read_file(path, Budget("images"), several=several)


def random_array(draw: Any, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    if dtype.kind == "b":
        return generator.random(shape) < 0.5
    if dtype.kind == "f":
        return (100 * generator.standard_normal(shape)).astype(dtype)
    low, high = (0, 1) if draw(st.booleans()) else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return generator.integers(low, high, shape, dtype=dtype, endpoint=True)


def inverted(values: np.ndarray) -> np.ndarray:
    return 1 - values if values.dtype.kind == "f" else ~values


@st.composite
def tiff_files(draw: Any) -> tuple[bytes, list[np.ndarray]]:
    """A file that tifffile writes, and its images as they are shown, white as the largest value."""
    dtype = np.dtype(draw(st.sampled_from(TYPES)))
    n_pages = draw(st.integers(1, 3))
    pages = random_array(draw, dtype, (n_pages, draw(st.integers(2, 40)), draw(st.integers(5, 40))))
    orientation, white_is_zero = draw(st.sampled_from(list(ORIENTED))), draw(st.booleans())
    compression = draw(st.sampled_from(TIFF_COMPRESSIONS)) if dtype.kind != "b" else None
    options: dict[str, Any] = {"compression": compression, "bigtiff": draw(st.booleans())}
    if compression not in (None, "packbits") and dtype.kind in "iuf" and dtype.name not in ("int64", "uint64"):
        options["predictor"] = draw(st.booleans())
    if draw(st.booleans()) and dtype.kind != "b":
        options["tile"] = (16, 16)
    else:
        options["rowsperstrip"] = draw(st.integers(1, 50))
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, bigtiff=options.pop("bigtiff"), byteorder=draw(st.sampled_from("<>"))) as file:
        for page in pages:
            file.write(
                page,
                photometric="miniswhite" if white_is_zero else "minisblack",
                extratags=[(274, 3, 1, orientation, True)],
                metadata=None,
                **options,
            )
    shown = [ORIENTED[orientation](inverted(page) if white_is_zero else page) for page in pages]
    return stream.getvalue(), shown


@QUICK
@given(tiff_files())
def test_what_tifffile_writes_is_read_back(tmp_path_factory, made):
    data, expected = made
    path = tmp_path_factory.mktemp("tiff") / "a.tif"
    path.write_bytes(data)
    found = read(path)
    assert len(found) == len(expected)
    for image, values in zip(found, expected, strict=True):
        assert image.values.dtype == values.dtype.newbyteorder("=")
        np.testing.assert_array_equal(image.values, values)


@st.composite
def pillow_files(draw: Any) -> tuple[str, bytes, np.ndarray, int]:
    """A file that Pillow writes: its suffix, its content, grey values, and how far they may be off."""
    mode = draw(st.sampled_from(["1", "L", "LA", "RGB", "RGBA", "P", "I;16", "CMYK", "F", "I"]))
    suffixes = {"1": ".png .tif .bmp .gif", "L": ".png .tif .bmp .gif .jpg", "RGB": ".png .tif .bmp .jpg"}
    suffixes |= {"P": ".png .tif .bmp .gif", "I;16": ".png .tif", "LA": ".png .tif", "RGBA": ".png .tif"}
    suffix = draw(st.sampled_from(suffixes.get(mode, ".tif").split()))
    shape = (draw(st.integers(2, 30)), draw(st.integers(5, 30)))
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    grey = generator.integers(0, 256, shape, dtype=np.uint8)
    if suffix == ".jpg":  # which keeps smooth images alone
        grey = np.broadcast_to(np.linspace(20, 230, shape[1]).astype(np.uint8), shape).copy()
    expected: np.ndarray = grey
    if mode == "I;16":
        expected = generator.integers(0, 2**16, shape, dtype=np.uint16)
        image = Image.fromarray(expected)
    elif mode in ("F", "I"):
        expected = grey.astype(np.float32 if mode == "F" else np.int32) * 3
        image = Image.fromarray(expected)
    elif mode == "1":
        expected = grey > 127
        image = Image.fromarray(expected)
    elif mode in ("RGB", "RGBA", "P", "CMYK") and suffix != ".jpg" and draw(st.booleans()):
        colours = generator.integers(0, 256, (*shape, 3), dtype=np.uint8)
        image = Image.fromarray(colours).convert(mode)
        expected = np.asarray(image.convert("RGB").convert("L"))
    else:
        image = Image.fromarray(grey).convert(mode)
    orientation = draw(st.sampled_from(list(ORIENTED)))
    options: dict[str, Any] = {}
    if suffix == ".tif":
        of_bits = ["group3", "group4", "tiff_ccitt"] if mode == "1" else []
        names = [None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd", "lzma", *of_bits]
        options["compression"] = draw(st.sampled_from(names))
        options["tiffinfo"] = {274: orientation}
    elif suffix in (".png", ".jpg"):
        exif = Image.Exif()
        exif[274] = orientation
        options["exif"] = exif
        if suffix == ".jpg":
            options["quality"] = 95
    else:
        orientation = 1
    stream = io.BytesIO()
    image.save(stream, format={".tif": "TIFF", ".jpg": "JPEG"}.get(suffix, suffix[1:]), **options)
    tolerance = 6 if suffix == ".jpg" else 1 if mode in ("RGB", "RGBA", "P", "CMYK") else 0
    return suffix, stream.getvalue(), ORIENTED[orientation](expected), tolerance


@QUICK
@given(pillow_files())
def test_what_pillow_writes_is_read_back(tmp_path_factory, made):
    suffix, data, expected, tolerance = made
    path = tmp_path_factory.mktemp("pillow") / f"a{suffix}"
    path.write_bytes(data)
    (image,) = read(path, several=False)
    values = image.values
    if expected.dtype == bool and values.dtype != bool:  # black and white, as GIF and BMP store them
        values = values == 255
    assert values.shape == expected.shape
    assert np.abs(values.astype(np.float64) - expected.astype(np.float64)).max() <= tolerance


@QUICK
@given(st.sampled_from(TYPES), st.sampled_from([".npy", ".npz"]), st.integers(0, 9), st.booleans(), st.data())
def test_what_numpy_writes_is_read_back(tmp_path_factory, dtype, suffix, n_planes, fortran, data):
    values = random_array(data.draw, np.dtype(dtype), (n_planes, 6, 7) if n_planes else (6, 7))
    path = tmp_path_factory.mktemp("numpy") / f"a{suffix}"
    values = np.asfortranarray(values) if fortran else values
    (np.save if suffix == ".npy" else np.savez_compressed)(path, values)
    np.testing.assert_array_equal(np.stack([image.values for image in read(path)]), values.reshape(-1, 6, 7))


def test_colours_of_16_bit_png_keep_their_depth(tmp_path):
    """Pillow would keep the upper 8 bits, in which few levels look like phases."""
    import imagecodecs

    values = np.random.default_rng(0).integers(0, 1024, (9, 8), dtype=np.uint16)
    for samples in (np.stack([values] * 3, axis=-1), np.stack([values, np.full_like(values, 65535)], axis=-1)):
        (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(samples))
        (image,) = read(tmp_path / "a.png")
        np.testing.assert_array_equal(image.values, values)
        assert image.white == 65535


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_colours_of_tiff(tmp_path, planar, dtype):
    colours = np.random.default_rng(0).integers(0, 255, (9, 8, 3)).astype(dtype)
    stored = colours if planar == "contig" else np.moveaxis(colours, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    (image,) = read(tmp_path / "a.tif")
    np.testing.assert_allclose(image.values, colours @ [0.299, 0.587, 0.114], atol=0.5)


def test_channels_are_not_mixed(tmp_path):
    values = np.zeros((3, 9, 8), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, metadata={"axes": "CYX"})
    tifffile.imwrite(tmp_path / "b.tif", values, photometric="minisblack", planarconfig="separate")
    for name in "ab":
        with pytest.raises(InputError, match="one channel, got 3"):
            read(tmp_path / f"{name}.tif")


def test_thumbnails_are_left_out(tmp_path):
    values = blob(0)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(values, metadata=None)
        file.write(values[::4, ::4], subfiletype=1, metadata=None)
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.tif").phases, values)


def test_gif_and_png_of_several_frames_are_refused(tmp_path):
    frames = [Image.fromarray(blob(seed) * np.uint8(255)) for seed in range(2)]
    for name in ("a.gif", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(InputError, match="2 frames"):
            read(tmp_path / name)


# --- damaged files -------------------------------------------------------------------------------------------------


@functools.cache
def good_files() -> list[tuple[str, bytes]]:
    """Files of two phases, or of grey values that become them, in each format."""
    phases = blob(0, size=32)
    grey = (60 + 100 * phases + np.random.default_rng(0).integers(0, 20, phases.shape)).astype(np.uint8)
    made = []
    for values in (phases * np.uint8(255), grey):
        for suffix in (".png", ".bmp", ".gif", ".jpg"):
            stream = io.BytesIO()
            kind = {".jpg": "JPEG"}.get(suffix, suffix[1:])
            Image.fromarray(values).save(stream, format=kind, **({"quality": 95} if suffix == ".jpg" else {}))
            made.append((suffix, stream.getvalue()))
        for options in (
            {},
            {"compression": "zlib"},
            {"compression": "lzw"},
            {"compression": "packbits"},
            {"imagej": True},
        ):
            stream = io.BytesIO()
            tifffile.imwrite(stream, values, **({} if "imagej" in options else {"rowsperstrip": 8}), **options)
            made.append((".tif", stream.getvalue()))
        for save, suffix in ((np.save, ".npy"), (np.savez_compressed, ".npz")):
            stream = io.BytesIO()
            save(stream, values)
            made.append((suffix, stream.getvalue()))
    return made


def attempt(call: Callable[[], np.ndarray]) -> tuple[np.ndarray | None, str]:
    """Return the phases that a call reads, or the message of its refusal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call(), ""
    except InputError as error:
        return None, str(error)


def outcome(path: Path) -> np.ndarray | None:
    """Return the phases of a file; None if it is refused, in one line, and the same one by both functions."""
    one, message = attempt(lambda: read_micrograph(path).phases)
    other, same_message = attempt(lambda: read_images([path])[0].phases)
    assert "\n" not in message + same_message
    if "3D" not in message:
        assert message == same_message
        np.testing.assert_array_equal(one, other)
    return one


def test_truncated_files_are_read_right_or_refused(tmp_path):
    """150 files that end early: what is missing is never made up."""
    generator, n_read, phases = np.random.default_rng(0), 0, blob(0, size=32)
    for suffix, data in good_files():
        path = tmp_path / f"a{suffix}"
        path.write_bytes(data)
        np.testing.assert_array_equal(outcome(path), phases)
    for k in range(150):
        suffix, data = good_files()[k % len(good_files())]
        path = tmp_path / f"a{suffix}"
        path.write_bytes(data[: generator.integers(len(data)) if k % 3 else len(data) - generator.integers(1, 40)])
        found = outcome(path)
        if found is not None:
            np.testing.assert_array_equal(found, phases, err_msg=f"{suffix}, file {k}")
            n_read += 1
    assert n_read < 50


def test_changed_files_are_read_or_refused(tmp_path):
    """150 files with changed, removed or repeated bytes, many in the header: phases or one line."""
    generator = np.random.default_rng(1)
    for k in range(150):
        suffix, data = good_files()[k % len(good_files())]
        changed = bytearray(data)
        for _ in range(generator.integers(1, 4)):
            limit = len(changed) if generator.random() < 0.4 else min(len(changed), 200)
            place, length = int(generator.integers(limit)), int(generator.integers(1, 9))
            kind = generator.integers(3)
            if kind == 0:
                changed[place : place + length] = generator.bytes(length)
            elif kind == 1:
                del changed[place : place + length]
            else:
                changed[place:place] = changed[place : place + length]
        path = tmp_path / f"a{suffix}"
        path.write_bytes(bytes(changed))
        found = outcome(path)
        assert found is None or set(np.unique(found)) <= {0, 1}


def test_a_circular_chain_of_pages_ends(tmp_path):
    """The second page's directory names the first one, or itself, as the next."""
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as file:
        for seed in range(3):
            file.write(blob(seed), metadata=None)
    stream.seek(0)
    with tifffile.TiffFile(stream) as file:
        offsets = [page.offset for page in file.pages]
        n_tags = len(file.pages[1].tags)
    for target in offsets[:2]:
        data = bytearray(stream.getvalue())
        place = offsets[1] + 2 + 12 * n_tags
        data[place : place + 4] = target.to_bytes(4, "little")
        (tmp_path / "a.tif").write_bytes(bytes(data))
        with pytest.raises(InputError, match="circular"):
            read(tmp_path / "a.tif")
