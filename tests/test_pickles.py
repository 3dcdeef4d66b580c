"""Descriptor files are pickles: what MCRpy writes is read, what a stranger wrote never runs."""

from __future__ import annotations

import pickle
import re
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge.characterization import number_of_phases, read_characterization
from mcrpy_diffusion.mcrpy_bridge.pickles import read_pickle

SETTINGS = b"cmcrpy.src.Settings\nCharacterizationSettings\n"


@pytest.fixture(scope="module")
def characterization() -> dict:
    from mcrpy_diffusion.mcrpy_bridge.environment import import_mcrpy

    mcrpy = import_mcrpy(threads=1)
    from mcrpy.src.Symmetry import Symmetry

    rng = np.random.default_rng(0)
    settings = mcrpy.CharacterizationSettings(descriptor_types=["FFTCorrelations"], limit_to=4)
    settings.n_phases, settings.symmetry, settings.desired_shape_2d = 1, Symmetry(), (16, 16)
    settings.volume_fractions = np.float64(0.25)
    return {
        "FFTCorrelations": rng.random((1, 1, 7, 7)),
        "Fortran": np.asfortranarray(rng.random((1, 2, 3))),
        "BigEndian": np.arange(6, dtype=">i4").reshape(1, 2, 3),
        "Small": np.ones((1, 1), dtype=np.float32),
        "settings": settings,
    }


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("numpy_2", [False, True])
def test_what_mcrpy_writes_comes_back(characterization: dict, tmp_path: Path, protocol: int, numpy_2: bool) -> None:
    data = pickle.dumps(characterization, protocol=protocol)
    if numpy_2 and protocol < 4:  # the later protocols store the length of the name with it
        data = data.replace(b"numpy.core.", b"numpy._core.")
    elif numpy_2:
        data = re.sub(
            rb"\x8c(.)(numpy\.core\.\w+)",
            lambda m: b"\x8c" + bytes([m[1][0] + 1]) + m[2].replace(b".core", b"._core"),
            data.replace(data[2:11], b""),  # without the frame, whose length changes
        )
    read = read_characterization(write(tmp_path / "a.pickle", data))
    assert read.keys() == characterization.keys()
    for name in read.keys() - {"settings"}:
        assert type(read[name]) is np.ndarray
        assert read[name].dtype == np.float64
        np.testing.assert_array_equal(read[name], characterization[name])
    expected = vars(characterization["settings"])
    assert vars(read["settings"]).keys() == expected.keys()
    for name in expected.keys() - {"symmetry"}:
        assert getattr(read["settings"], name) == expected[name]
    assert read["settings"].symmetry == SimpleNamespace()
    assert number_of_phases(read) == 2


def test_reading_imports_neither_tensorflow_nor_mcrpy(characterization: dict, tmp_path: Path) -> None:
    path = write(tmp_path / "a.pickle", pickle.dumps(characterization))
    code = (
        "import sys; from mcrpy_diffusion.mcrpy_bridge.characterization import read_characterization; "
        f"read_characterization({str(path)!r}); assert not {{'mcrpy', 'tensorflow'}} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def stack_global(module: str, name: str) -> bytes:
    return b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name)) + b"\x93"


def call(module: str, name: str, *texts: str) -> bytes:
    """A pickle (protocol 4) that calls module.name(*texts)."""
    arguments = b"".join(b"X" + struct.pack("<I", len(text)) + text.encode() for text in texts)
    return b"\x80\x04" + stack_global(module, name) + b"(" + arguments + b"tR."


def live_payloads(target: Path) -> dict[str, bytes]:
    """Pickles that make a file when `pickle.loads` reads them."""
    shell, code = f"touch {target}", f"open({str(target)!r}, 'w').close()"
    inner = pickle.dumps(None).replace(b"N.", b"") + b"cos\nsystem\n(X" + struct.pack("<I", len(shell))
    inner += shell.encode() + b"tR."
    return {
        "os.system": call("os", "system", shell),
        "posix.system": call("posix", "system", shell),
        "builtins.eval": call("builtins", "eval", code),
        "builtins.exec": call("builtins", "exec", code),
        "dotted name of an allowed module": call("mcrpy.src.Settings", "logging.os.system", shell),
        "dotted name of numpy": call("numpy.f2py", "os.system", shell),
        "subprocess": b"\x80\x04"
        + stack_global("subprocess", "check_call")
        + b"(](X\x05\x00\x00\x00touchX"
        + struct.pack("<I", len(str(target)))
        + str(target).encode()
        + b"etR.",
        "INST opcode": b"(S" + repr(shell).encode() + b"\nios\nsystem\n.",
        "OBJ opcode": b"(cos\nsystem\nS" + repr(shell).encode() + b"\no.",
        "inside a dictionary with settings": b"(dS'settings'\n(S" + repr(shell).encode() + b"\nios\nsystem\ns.",
        "pickle in a pickle": b"\x80\x04"
        + stack_global("pickle", "loads")
        + b"(B"
        + struct.pack("<I", len(inner))
        + inner
        + b"tR.",
    }


@pytest.mark.parametrize("name", live_payloads(Path("x")))
def test_a_strangers_code_never_runs(tmp_path: Path, name: str) -> None:
    target = tmp_path / "made_by_the_pickle"
    payload = live_payloads(target)[name]
    pickle.loads(payload)
    assert target.exists()  # the payload is real: without the allow-list it does run
    target.unlink()
    path = write(tmp_path / "hostile.pickle", payload)
    with pytest.raises(InputError) as caught:
        read_pickle(path)
    assert str(caught.value).isprintable()
    assert not target.exists()


def named(module: str, name: str, arguments: bytes = b"(t") -> bytes:
    return b"\x80\x04" + stack_global(module, name) + arguments + b"R."


def array(shape: bytes, dtype: bytes = b"X\x02\x00\x00\x00f8\x85R", data: bytes = b"C\x08" + bytes(8)) -> bytes:
    """A pickle of one array, of which each part can be odd."""
    start = b"\x80\x04" + stack_global("numpy.core.multiarray", "_reconstruct") + stack_global("numpy", "ndarray")
    return (
        start + b"K\x00\x85C\x01b\x87R(K\x01" + shape + stack_global("numpy", "dtype") + dtype + b"\x89" + data + b"tb."
    )


@pytest.mark.parametrize(
    "payload",
    [
        named("tensorflow", "Variable"),
        named("mcrpy.src.fileutils", "load"),
        named("mcrpy.src.Settings", "select_subsettings"),
        named("numpy", "load"),
        named("numpy", "memmap"),
        named("numpy.core.multiarray", "fromfile"),
        named("builtins", "getattr"),
        named("numpy.core.multiarray", "_reconstruct.__globals__"),
        named("numpy", "ndarray.__class__"),
        named("builtins", "bytearray", b"J\x00\x00\x00\x70\x85"),
        named("builtins", "bytes", b"J\x00\x00\x00\x70\x85"),
        named("copyreg", "add_extension"),
        named("functools", "partial"),
        b"\x80\x04\x82\x01.",  # extension registry
        b"\x80\x05\x97.",  # a buffer outside the pickle
        b"Psome id\n.",  # persistent id
        b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.",  # bytes longer than the file
        b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.",  # a bytearray, which Python allocates before reading
        b"\x80\x02}r\x00\x00\x00\x01.",  # a memo of 256 MiB for one part
        b"\x80\x02}p16777216\n.",
        b"(" * 100_000 + b".",
        b"\x80\x04" + b"]" * 5000 + b"a" * 4999 + b".",
        b"\x80\x02\x8b" + struct.pack("<I", 10**5) + b"\x01" * 10**5 + b".",  # an integer too long to be printed
        array(b"K\x02\x85"),  # larger than its bytes
        array(b"J\x00\x00\x00\x70\x85"),
        array(b"K\x01\x85", b"X\x02\x00\x00\x00O8\x85R"),  # objects instead of numbers, made of raw bytes
        array(b"J\x00\x00\x00\x70\x85", b"X\x02\x00\x00\x00O8\x85R", b"](K\x01e"),
        array(b"K\x01\x85", b"X\x05\x00\x00\x00f8,f8\x85R"),
        array(b"K\x01\x85", b"X\x04\x00\x00\x00V9e9\x85R"),
        array(b"K\x01\x85", b""),  # numpy.dtype itself
    ],
)
def test_anything_else_is_rejected(tmp_path: Path, payload: bytes) -> None:
    with pytest.raises(InputError) as caught:
        read_pickle(write(tmp_path / "hostile.pickle", payload))
    assert str(caught.value).isprintable()


def test_the_odd_arrays_differ_from_a_good_one_in_one_part(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_pickle(write(tmp_path / "a.pickle", array(b"K\x01\x85"))), [0.0])


def test_flags_of_a_type_are_not_taken_over(tmp_path: Path) -> None:
    """numpy.dtype would take flags from a pickle that make numbers pointers to objects."""
    flags = b"X\x02\x00\x00\x00i8\x89\x88\x87R(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x3ftb"
    assert pickle.loads(b"\x80\x04" + stack_global("numpy", "dtype") + flags + b".").flags == 0x3F
    read = read_pickle(write(tmp_path / "a.pickle", array(b"K\x01\x85", flags)))
    assert (read.dtype, read.dtype.flags) == (np.int64, np.dtype("i8").flags)


def test_many_references_to_one_list_are_not_unfolded(tmp_path: Path) -> None:
    bomb: list = []
    for _ in range(6):
        bomb = [bomb] * 30
    many_arrays = [np.zeros(1000)] * 20_000
    for value in (bomb, many_arrays):
        with pytest.raises(InputError, match="too many values"):
            read_pickle(write(tmp_path / "bomb.pickle", pickle.dumps({"settings": value})))


def test_nothing_sticks_to_mcrpys_classes(characterization: dict, tmp_path: Path) -> None:
    """BUILD can set attributes of a class that a pickle names."""
    import mcrpy

    payload = b"}S'settings'\n" + SETTINGS + b"(N}S'limit_to'\nI7\nstbs."
    pickle.loads(b"\x80\x02" + payload)
    assert mcrpy.CharacterizationSettings.limit_to == 7  # it does, without the stand-ins
    mcrpy.CharacterizationSettings.limit_to = 16
    with pytest.raises(InputError):
        read_pickle(write(tmp_path / "hostile.pickle", b"\x80\x02" + payload))
    assert mcrpy.CharacterizationSettings.limit_to == 16
    path = write(tmp_path / "fine.pickle", pickle.dumps({"settings": mcrpy.CharacterizationSettings(limit_to=5)}))
    assert read_pickle(path)["settings"].limit_to == 5


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a valid pickle"),
        (b"hello", "not a valid pickle"),
        (b"\x93NUMPY\x01\x00", "not a valid pickle"),
        (pickle.dumps([1, 2]), "no 'settings'"),
        (pickle.dumps({"FFTCorrelations": np.zeros((1, 1, 3, 3))}), "no 'settings'"),
    ],
)
def test_other_files(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_characterization(write(tmp_path / "a.pickle", content))


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "missing.pickle", "cannot be read"), (tmp_path, "regular file")):
        with pytest.raises(InputError, match=message):
            read_pickle(path)


def test_characterizations_that_cannot_be_used(characterization: dict, tmp_path: Path) -> None:
    settings = characterization["settings"]
    good = np.ones((1, 1, 3, 3))
    cases = {
        "no descriptors": {},
        "3D": {"FFTCorrelations": (good, good, good)},
        "NaN": {"FFTCorrelations": np.full((1, 1, 3, 3), np.nan)},
        "not an array": {"FFTCorrelations": "text"},
        "is not an array of numbers": {"FFTCorrelations": np.float64(3)},
    }
    for message, descriptors in cases.items():
        with pytest.raises(InputError, match=message):
            read_characterization(write(tmp_path / "a.pickle", pickle.dumps({**descriptors, "settings": settings})))
    path = write(tmp_path / "a.pickle", pickle.dumps({"A": good, "settings": type(settings)()}))
    with pytest.raises(InputError, match="n_phases"):
        read_characterization(path)
