"""Reading micrographs: all formats, and one-line errors for damaged or hostile files."""

from __future__ import annotations

import io
import logging
import os
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mcrpy_diffusion.data import levels, raw_images
from mcrpy_diffusion.data.micrograph import hash_phases, read_micrograph
from mcrpy_diffusion.data.raw_images import MAX_PIXELS
from mcrpy_diffusion.data.segmentation import otsu_threshold
from mcrpy_diffusion.errors import InputError

PHASES = (np.arange(35).reshape(5, 7) % 3 == 0).astype(np.uint8)
"""Two phases on a small image that is not square."""


def _refused(path: object, *words: str, **options: bool) -> None:
    """Check that reading fails with one line that names the file."""
    with pytest.raises(InputError) as caught:
        read_micrograph(path, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < len(str(path)) + 300
    for word in (Path(str(path)).name, *words):
        assert word in message


def _save(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def _npy_header(descr: str, shape: str, version: int = 1) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(header)) + header


def _png_of_size(width: int, height: int) -> bytes:
    """A PNG with a large size in its header and no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def _blobs(low: float, high: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """A noisy grey image of two levels, and its phases."""
    rng = np.random.default_rng(0)
    i, j = np.ogrid[:60, :50]
    phases = (np.sin(i / 4) + np.sin(j / 5) > 0.3).astype(np.uint8)
    return low + (high - low) * phases.astype(float) + noise * rng.standard_normal((60, 50)), phases


# --- valid files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", ">i2", "int64", "uint64", "float16", "float32", ">f8"])
def test_numpy_phases(tmp_path, dtype):
    read = read_micrograph(_save(tmp_path / "a.b.npy", PHASES.astype(dtype)))
    np.testing.assert_array_equal(read.phases, PHASES)
    assert (read.phases.dtype, read.n_phases, read.threshold, read.name) == (np.uint8, 2, None, "a.b")
    assert read.path == str(tmp_path / "a.b.npy")


def test_fortran_order_and_second_header_version(tmp_path):
    np.testing.assert_array_equal(read_micrograph(_save(tmp_path / "f.npy", np.asfortranarray(PHASES))).phases, PHASES)
    (tmp_path / "v2.npy").write_bytes(_npy_header("'|u1'", "(5, 7)", version=2) + PHASES.tobytes())
    np.testing.assert_array_equal(read_micrograph(tmp_path / "v2.npy").phases, PHASES)


def test_same_micrograph_has_the_same_hash_in_every_file(tmp_path):
    np.save(tmp_path / "a.npy", PHASES.astype(">i4"))
    np.savez(tmp_path / "b.npz", anything=np.asfortranarray(PHASES))
    Image.fromarray(PHASES * 255).save(tmp_path / "c.png")
    hashes = {read_micrograph(tmp_path / name).sha256 for name in ("a.npy", "b.npz", "c.png")}
    assert hashes == {hash_phases(PHASES)}
    assert len(hashes.pop()) == 64
    assert hash_phases(np.asfortranarray(PHASES)) == hash_phases(PHASES[:, ::-1][:, ::-1]) == hash_phases(PHASES)
    assert hash_phases(PHASES.astype(">f4")) == hash_phases(PHASES.astype("<f4"))
    changed = PHASES.copy()
    changed[2, 3] ^= 1
    others = [changed, PHASES.reshape(7, 5), PHASES.astype(np.float32)]
    assert len({hash_phases(a) for a in [PHASES, *others]}) == 4


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    save(tmp_path / "one.npz", PHASES)
    save(tmp_path / "two.npz", phases=PHASES, other=1 - PHASES)
    save(tmp_path / "none_named.npz", a=PHASES, b=PHASES)
    for name in ("one", "two"):
        np.testing.assert_array_equal(read_micrograph(tmp_path / f"{name}.npz").phases, PHASES)
    _refused(tmp_path / "none_named.npz", "a, b", "one named phases")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff", ".PNG"])
@pytest.mark.parametrize("levels", [(0, 255), (0, 1), (17, 18), (255, 3)])
def test_images_of_two_levels(tmp_path, suffix, levels):
    """The lower of two grey levels is phase 0."""
    file = tmp_path / f"image{suffix}"
    Image.fromarray(np.where(PHASES == 1, *levels[::-1]).astype(np.uint8)).save(file)
    read = read_micrograph(file)
    np.testing.assert_array_equal(read.phases, PHASES if levels[1] > levels[0] else 1 - PHASES)
    assert (read.n_phases, read.threshold) == (2, None)


@pytest.mark.parametrize("mode", ["1", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "I", "F"])
def test_every_kind_of_image(tmp_path, mode):
    image = Image.fromarray(PHASES * 255)
    if mode == "I;16":
        image = Image.fromarray(PHASES.astype(np.uint16) * 65535)
    elif mode == "P":
        image = Image.fromarray(1 - PHASES).convert("P")
        image.putpalette([250, 250, 250, 10, 10, 10])  # index 1 is the darker one
    else:
        image = image.convert(mode)
    image.save(tmp_path / "image.tif")
    np.testing.assert_array_equal(read_micrograph(tmp_path / "image.tif").phases, PHASES)


def test_colours_become_luminance(tmp_path):
    colours = np.zeros((5, 7, 3), dtype=np.uint8)
    colours[PHASES == 1] = (0, 255, 0)  # green is brighter than blue
    colours[PHASES == 0] = (0, 0, 255)
    Image.fromarray(colours).save(tmp_path / "image.png")
    np.testing.assert_array_equal(read_micrograph(tmp_path / "image.png").phases, PHASES)
    grey = read_micrograph(tmp_path / "image.png", grey_values=True).phases
    np.testing.assert_allclose(grey, np.where(PHASES == 1, 0.587, 0.114), atol=0.5 / 255)


def test_masks_in_numpy_files(tmp_path):
    for white, dtype in ((255, "uint8"), (255, "int64"), (65535, "uint16")):
        read = read_micrograph(_save(tmp_path / "mask.npy", PHASES.astype(dtype) * white))
        np.testing.assert_array_equal(read.phases, PHASES)


def test_three_phases_need_use_multiphase(tmp_path):
    phases = np.arange(35).reshape(5, 7) % 3
    for file in (_save(tmp_path / "a.npy", phases), tmp_path / "a.png"):
        Image.fromarray(phases.astype(np.uint8)).save(tmp_path / "a.png")
        _refused(file, "got 3", "--use_multiphase")
        read = read_micrograph(file, use_multiphase=True)
        assert (read.n_phases, read.threshold) == (3, None)
        np.testing.assert_array_equal(read.phases, phases)
    assert read_micrograph(_save(tmp_path / "two.npy", PHASES), use_multiphase=True).n_phases == 2


@pytest.mark.parametrize(
    ("low", "high", "dtype", "suffix"),
    [
        (80, 180, np.uint8, ".png"),
        (80, 180, np.uint8, ".npy"),
        (20000, 40000, np.uint16, ".tif"),
        (-3000, 1000, np.int16, ".npy"),
        (0.2, 0.6, np.float32, ".npy"),
        (0.2, 0.6, np.float32, ".tif"),
        (0.2, 0.6, np.float16, ".npy"),
        (-1e-30, 1e-30, np.float64, ".npy"),
        (1e17, 3e17, np.float64, ".npy"),
    ],
)
def test_grey_images_are_thresholded_and_the_threshold_is_logged(tmp_path, caplog, low, high, dtype, suffix):
    values, phases = _blobs(low, high, (high - low) / 10)
    file = tmp_path / f"grey{suffix}"
    if suffix == ".npy":
        np.save(file, values.astype(dtype))
    else:
        Image.fromarray(values.astype(dtype)).save(file)
    with caplog.at_level(logging.INFO):
        read = read_micrograph(file)
    assert read.n_phases == 2
    assert read.threshold == pytest.approx((low + high) / 2, abs=0.15 * (high - low))
    np.testing.assert_array_equal(read.phases, phases)
    assert f"{read.threshold:.6g}" in caplog.text


def test_jpeg_of_two_phases(tmp_path):
    _, phases = _blobs(0, 1, 0)
    for suffix in (".jpg", ".jpeg"):
        Image.fromarray(phases * 255).save(tmp_path / f"image{suffix}", quality=95, subsampling=0)
        read = read_micrograph(tmp_path / f"image{suffix}")
        np.testing.assert_array_equal(read.phases, phases)
        assert read.threshold == pytest.approx(127, abs=40)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 51, 102, 255] * 3 + [*range(20)]], dtype=np.uint8), lambda v: v / 255),
        (np.array([[5, 20000, *range(30)]], dtype=np.uint16), lambda v: v / 65535),
        (np.array([[0.25, 0.5, 0.75]], dtype=np.float32), lambda v: v),
        (np.array([[-100, 0, 100, 300]], dtype=np.int32), lambda v: (v + 100) / 400),
        (np.array([[-1.0, 0.0, 3.0]]), lambda v: (v + 1) / 4),
        (np.array([[0, 1, 2]], dtype=np.uint8), lambda v: v / 2),
        (np.array([[False, True]]), lambda v: v),
    ],
)
def test_grey_values_are_kept(tmp_path, values, expected):
    read = read_micrograph(_save(tmp_path / "grey.npy", values), grey_values=True)
    assert (read.phases.dtype, read.n_phases, read.threshold) == (np.float32, 0, None)
    np.testing.assert_allclose(read.phases, expected(values.astype(float)), rtol=1e-6)


def test_result_does_not_depend_on_the_block_size(tmp_path, monkeypatch):
    values, _ = _blobs(80, 180, 20)
    files = [_save(tmp_path / f"{k}.npy", v) for k, v in enumerate((values, values.astype(np.uint8), PHASES))]
    options = ({}, {"grey_values": True})
    whole = [read_micrograph(file, **o) for file in files for o in options]
    monkeypatch.setattr(levels, "_BLOCK_PIXELS", 120)
    parts = [read_micrograph(file, **o) for file in files for o in options]
    assert [(a.sha256, a.threshold) for a in whole] == [(a.sha256, a.threshold) for a in parts]


def test_shared_micrographs():
    there = os.environ.get("MCRPY_DIFFUSION_MICROSTRUCTURES")
    folder = Path(there) if there else Path(__file__).parents[2] / "shared" / "microstructures"
    if not folder.is_dir():
        pytest.skip("the real micrographs are not here")
    for file in sorted(folder.glob("*.npy")):
        read = read_micrograph(file, use_multiphase=True)
        np.testing.assert_array_equal(read.phases, np.load(file))
        assert read.n_phases == (3 if "composite" in file.name else 2)


# --- Otsu ----------------------------------------------------------------------------------------------------------


def _brute_otsu(values: np.ndarray) -> float:
    """Try every level as threshold; return the largest variance between the classes."""

    def between(threshold: float) -> float:
        above = values > threshold
        return above.mean() * (1 - above.mean()) * (values[above].mean() - values[~above].mean()) ** 2

    return max(between(t) for t in np.unique(values)[:-1])


@pytest.mark.parametrize("seed", range(5))
def test_otsu_agrees_with_brute_force(seed):
    rng = np.random.default_rng(seed)
    values = rng.integers(rng.integers(2, 250), size=(9, 11)).astype(rng.choice(["uint8", "int16", "int64"]))
    values += values.dtype.type(3)
    above = values > otsu_threshold(values)
    variance = above.mean() * (1 - above.mean()) * (values[above].mean() - values[~above].mean()) ** 2
    assert variance == pytest.approx(_brute_otsu(values), rel=1e-12)


def test_otsu_by_hand():
    assert otsu_threshold(np.array([[0, 0, 10, 10]])) == 4.5  # all thresholds from 0 to below 10 are equally good
    assert otsu_threshold(np.array([[1, 2, 8, 9]])) == 4.5
    assert otsu_threshold(np.array([[0.0, 0.0, 1.0]])) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    "values",
    [
        np.array([[1.0, np.nextafter(1, 2), np.nextafter(1, 2)]]),
        np.array([[np.nextafter(1, 2), np.nextafter(1, 2) + 2**-52]]),  # the mean rounds to the upper value
        np.array([[0, 5e-324, 1e-323]]),
        np.array([[-1e300, 0.0, 1e300]]),
        np.array([[-128, 5, 127]], dtype=np.int8),
        np.array([[2**53 - 5, 2**53 - 1, 2**53]], dtype=np.uint64),
        np.array([[-(2**53), 0, 2**53]], dtype=np.int64),
        np.array([[0, 65504, 1.5]], dtype=np.float16),
    ],
)
def test_no_rounding_empties_a_phase(tmp_path, values):
    threshold = otsu_threshold(values)
    assert values.min() <= threshold < values.max().astype(np.float64)
    file = _save(tmp_path / "a.npy", values)
    if len(np.unique(values)) > 2 or np.array_equal(values, np.rint(values)):
        _refused(file, "renumber")  # few levels are phases with wrong numbers
    else:
        assert set(np.unique(read_micrograph(file).phases)) == {0, 1}


# --- invalid files -------------------------------------------------------------------------------------------------


def test_not_a_regular_file(tmp_path):
    _refused(tmp_path / "missing.npy", "does not exist")
    _refused(tmp_path, "is a folder")
    (tmp_path / "folder.npy").mkdir()
    _refused(tmp_path / "folder.npy", "is a folder")
    for suffix in raw_images.SUFFIXES:
        (tmp_path / f"empty{suffix}").touch()
        _refused(tmp_path / f"empty{suffix}", "is empty")
    _refused(tmp_path / ("long" * 100 + ".npy"), "cannot be read")
    with pytest.raises(InputError, match="cannot be read"):
        read_micrograph("null\0byte.npy")
    _refused(_save(tmp_path / "a.npy", PHASES) / "b.npy", "cannot be read")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.npy")  # opening it would block
        _refused(tmp_path / "pipe.npy", "regular file")


def test_unknown_suffix(tmp_path):
    for name in ("a.txt", "a", "a.pickle", "a.webp"):
        (tmp_path / name).write_bytes(b"123")
        _refused(tmp_path / name, "suffix", ".npy, .npz, .png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything is readable for root")
def test_unreadable(tmp_path):
    for name in ("a.npy", "a.npz", "a.png"):
        (tmp_path / name).write_bytes(b"123")
        (tmp_path / name).chmod(0)
        _refused(tmp_path / name, "cannot be read")


def test_messages_have_one_line_for_any_file_name(tmp_path):
    with pytest.raises(InputError) as caught:
        read_micrograph(tmp_path / "two\nlines.npy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((5, 7), np.uint8), ["only the value 0"]),
        (np.full((5, 7), 0.5), ["only the value 0.5"]),
        (np.ones((5, 7), bool), ["only the value 1"]),
        (np.where(PHASES, np.nan, 1.0), ["NaN"]),
        (np.where(PHASES, np.inf, 1.0), ["infinite"]),
        (PHASES + 1, ["1, 2", "0 .. 1", "--grey_values"]),
        (PHASES * 2, ["0, 2"]),
        (PHASES.astype(int) - 1, ["-1, 0"]),
        (PHASES * 2.0, ["0, 2"]),
        (np.arange(35).reshape(5, 7) % 3 * 100, ["0, 100, 200", "0 .. 2"]),
        (PHASES[0], ["must have two axes"]),
        (np.array(1), ["must have two axes"]),
        (np.stack([PHASES] * 2), ["3D is not supported"]),
        (np.zeros((3, 4, 5, 6)), ["must have two axes"]),
        (np.zeros((0, 5)), ["at least one pixel"]),
        (PHASES.astype(complex), ["complex128", "must hold integers"]),
        (PHASES.astype("U1"), ["must hold integers"]),
        (PHASES.astype("M8[s]"), ["must hold integers"]),
        (np.zeros((3, 3), dtype=[("a", "u1")]), ["must hold integers"]),
        (np.where(PHASES, 1e307, -1e307), ["must hold values between"]),
        (np.where(PHASES, 2**60, 0), ["must hold values between"]),
    ],
)
def test_invalid_arrays(tmp_path, array, words):
    _refused(_save(tmp_path / "a.npy", array), *words)
    np.savez(tmp_path / "a.npz", array)
    _refused(tmp_path / "a.npz", *words)


class _Trap:
    """A pickle with a side effect when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_pickled_objects_are_rejected_and_not_run(tmp_path):
    trace = tmp_path / "trace"
    array = np.array([[_Trap(trace)]], dtype=object)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", array)
    for name in ("a.npy", "a.npz"):
        _refused(tmp_path / name, "Python objects")
    (tmp_path / "raw.npy").write_bytes((tmp_path / "a.npy").read_bytes()[128:])  # a bare pickle
    _refused(tmp_path / "raw.npy", "not a valid .npy file")
    assert not trace.exists()
    np.load(tmp_path / "a.npy", allow_pickle=True)  # the side effect occurs
    assert trace.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"hello", "not a valid .npy file"),
        (b"\x93NUMPY\x01\x00", "not a valid .npy file"),
        (b"\x93NUMPY\x09\x00" + b"\0" * 100, "9.0"),
        (_npy_header("'|u1'", "(5, 7)") + bytes(34), "the file holds 34"),
        (_npy_header("'|u1'", "(100000000, 100000000)"), "got 100000000 x 100000000"),
        (_npy_header("'<f8'", f"({2**62}, {2**62})") + bytes(100), "pixels"),
        (_npy_header("'<f8'", "(11000, 12000)") + bytes(100), "the file holds 100"),
        (_npy_header("'|u1'", "(-5, -7)") + bytes(35), "at least one pixel"),
        (_npy_header("'|u1'", "(5, 7") + bytes(35), "not a valid"),
        (_npy_header("'|u1'", "5") + bytes(35), "not a valid"),
        (_npy_header("'|u1'", "(5.0, 7)") + bytes(35), "not a valid"),
        (_npy_header("'nonsense'", "(5, 7)") + bytes(35), "not a valid"),
        (_npy_header("'|u1'", "(" * 3000), "not a valid"),
        (_npy_header("'|V1000000000'", "(5, 7)"), "must hold integers"),
        (_npy_header("[('a', '|u1', (1000000, 1000000))]", "(5, 7)"), "not a valid"),
        (_npy_header("[('a', '|u1', (10000, 10000))]", "(5, 7)"), "must hold integers"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b" " * 100, "4294967295"),
    ],
)
def test_broken_npy_files(tmp_path, content, words):
    (tmp_path / "a.npy").write_bytes(content)
    _refused(tmp_path / "a.npy", words)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("arr_0.npy", content)
    _refused(tmp_path / "a.npz", words.replace(".npy", ".npz"))


def test_memory_is_not_allocated_from_a_header(tmp_path):
    (tmp_path / "a.npy").write_bytes(_npy_header("'<f8'", "(11000, 12000)") + bytes(100))  # a gigabyte, allowed
    (tmp_path / "b.npy").write_bytes(_npy_header("'|u1'", "(100000, 100000)") + bytes(100))
    tracemalloc.start()
    try:
        for name in ("a.npy", "b.npy"):
            _refused(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_broken_npz_files(tmp_path):
    file = tmp_path / "a.npz"
    file.write_bytes(b"PK\x03\x04 and nothing more")
    _refused(file, "not a valid .npz file")
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", "hello")
    _refused(file, "got none")
    np.save(file.with_suffix(".npy"), PHASES)
    file.write_bytes(file.with_suffix(".npy").read_bytes())
    _refused(file, "not a valid .npz file")


def test_zip_bomb_is_rejected_by_its_header(tmp_path):
    """A gigabyte of zeros compressed to a megabyte, with a still larger size in the header."""
    header = _npy_header("'<f8'", "(100000, 100000)")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("arr_0.npy", header + bytes(2**24))
    _refused(tmp_path / "a.npz", "got 100000 x 100000")


def test_zip_with_a_wrong_size(tmp_path):
    """The directory gives a small size of the member; no more is read."""
    content = io.BytesIO()
    np.save(content, np.zeros((300, 300), np.uint8))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("arr_0.npy", content.getvalue())
    raw = (tmp_path / "a.npz").read_bytes()
    size = struct.pack("<I", len(content.getvalue()))
    assert raw.count(size) == 2
    (tmp_path / "a.npz").write_bytes(raw.replace(size, struct.pack("<I", 500)))
    _refused(tmp_path / "a.npz", "not a valid .npz file")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_truncated_and_foreign_images(tmp_path, suffix):
    file = tmp_path / f"a{suffix}"
    Image.fromarray((np.random.default_rng(0).random((40, 30)) * 255).astype(np.uint8)).save(file)
    raw = file.read_bytes()
    for length in (1, 4, 20, len(raw) // 2, len(raw) - 30):
        file.write_bytes(raw[:length])
        _refused(file, "" if length > 20 else f"not a valid {suffix} file")
    Image.fromarray(PHASES).save(file, format="GIF")
    _refused(file, "not a valid")


@pytest.mark.parametrize(
    ("width", "height"), [(12000, 12000), (100000, 100000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1)]
)
def test_image_bombs_are_rejected_by_their_header(tmp_path, width, height):
    assert width * height > MAX_PIXELS
    (tmp_path / "a.png").write_bytes(_png_of_size(width, height))
    _refused(tmp_path / "a.png", "pixels")


def test_stacks_are_rejected(tmp_path):
    image = Image.fromarray(PHASES * 255)
    image.save(tmp_path / "a.tif", save_all=True, append_images=[image, image])
    _refused(tmp_path / "a.tif", "got 3", "3D is not supported")


def test_image_without_contrast(tmp_path):
    Image.fromarray(np.full((5, 7, 3), 9, np.uint8)).save(tmp_path / "a.png")
    _refused(tmp_path / "a.png", "only the value 9")


def test_few_grey_levels_are_an_error(tmp_path):
    Image.fromarray((np.arange(35).reshape(5, 7) % 3 * 127).astype(np.uint8)).save(tmp_path / "a.png")
    _refused(tmp_path / "a.png", "0, 127, 254", "--grey_values")
    _refused(tmp_path / "a.png", "0, 127, 254", use_multiphase=True)
    assert read_micrograph(tmp_path / "a.png", grey_values=True).phases.max() == pytest.approx(254 / 255)


def test_a_grey_image_is_not_multiphase(tmp_path):
    _refused(_save(tmp_path / "a.npy", _blobs(0, 1, 0.1)[0]), "grey values", "--use_multiphase", use_multiphase=True)
    with pytest.raises(InputError, match="only one of"):
        read_micrograph(tmp_path / "a.npy", use_multiphase=True, grey_values=True)
