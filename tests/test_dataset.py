"""The folder of a data set: its record, and interruptions at any moment."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mcrpy_diffusion.data import dataset as datasets
from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.data.dataset_check import verify
from mcrpy_diffusion.data.micrograph import hash_phases
from mcrpy_diffusion.errors import InputError

RECIPE = {"extent": (4, 5), "descriptors": {"types": ["FFTCorrelations"], "limit_to": 32}, "seed": 0}


def _structure(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(2, size=(4, 5)).astype(np.uint8)


def _grown(folder: Path, n: int = 6, *, finish: bool = False) -> Dataset:
    """A closed data set of n tried seeds; each third seed is rejected."""
    with Dataset.create_or_resume(folder, RECIPE) as dataset:
        for seed in range(n):
            if seed % 3 == 2:
                dataset.append(seed, None, reason="volume fraction", volume_fraction=0.9)
            else:
                dataset.append(seed, _structure(seed), volume_fraction=_structure(seed).mean())
        if finish:
            dataset.finish()
    return dataset


def _check_consistent(folder: Path) -> Dataset:
    """Each line has the sample of its seed, and there are no other samples."""
    dataset = Dataset.open(folder)
    by_index = {line["index"]: line["seed"] for line in dataset.samples if line["accepted"]}
    if by_index:
        np.testing.assert_array_equal(dataset.load(), [_structure(by_index[index]) for index in dataset.accepted])
    assert sorted(by_index) == list(range(len(by_index)))
    files = {file.name for file in (folder / "samples").iterdir()}
    assert files == {f"{index:06d}.npy" for index in by_index}
    return dataset


def test_record_of_a_data_set(tmp_path):
    settings, versions = {"n_jobs": 2}, {"numpy": np.__version__}
    folder = tmp_path / "deep" / "dataset"
    with Dataset.create_or_resume(
        folder, RECIPE, settings=settings, versions=versions, reference_sha256=["ab", "cd"]
    ) as dataset:
        assert dataset.append(10, _structure(10), volume_fraction=np.float32(0.5), discrepancies={"S2": 1.5}) == 0
        assert dataset.append(11, None, reason="copy") is None
        assert dataset.append(12, _structure(12)) == 1
        assert (dataset.n_accepted, dataset.accepted, dataset.tried) == (2, [0, 1], {10, 11, 12})
        assert dataset.counts() == {"accepted": 2, "copy": 1}
        np.testing.assert_array_equal(dataset.load(), [_structure(10), _structure(12)])
        assert not dataset.is_complete
        dataset.finish()
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert lines[0] == {
        "index": 0,
        "seed": 10,
        "accepted": True,
        "reason": "accepted",
        "volume_fraction": 0.5,
        "discrepancies": {"S2": 1.5},
        "sha256": hash_phases(_structure(10)),
    }
    assert lines[1] == {"index": None, "seed": 11, "accepted": False, "reason": "copy"}
    info = json.loads((folder / "dataset.json").read_text())
    assert info["complete"] is True
    assert (info["recipe"]["extent"], info["settings"], info["versions"]) == ([4, 5], settings, versions)
    assert (info["reference_sha256"], info["n_accepted"], info["n_tried"]) == (["ab", "cd"], 2, 3)
    assert info["rejected"] == {"copy": 1}
    assert np.load(folder / "samples" / "000001.npy").dtype == np.uint8


def test_resuming(tmp_path):
    _grown(tmp_path, 4)
    with Dataset.create_or_resume(tmp_path, RECIPE) as dataset:
        assert (dataset.n_accepted, dataset.tried) == (3, {0, 1, 2, 3})
        assert dataset.append(4, _structure(4)) == 3
    assert _check_consistent(tmp_path).n_accepted == 4


def test_a_complete_data_set_stays_complete(tmp_path):
    _grown(tmp_path, finish=True)
    with Dataset.create_or_resume(tmp_path, RECIPE) as dataset:
        assert dataset.is_complete
        with pytest.raises(ValueError, match="complete"):
            dataset.append(99, _structure(99))
    assert Dataset.open(tmp_path).is_complete


def test_another_recipe_is_rejected_with_each_key(tmp_path):
    _grown(tmp_path)
    before = (tmp_path / "dataset.json").read_bytes()
    other = {"extent": (4, 6), "descriptors": {"types": ["FFTCorrelations"], "limit_to": 16}, "seed": 0, "new": None}
    with pytest.raises(InputError) as caught:
        Dataset.create_or_resume(tmp_path, other)
    message = str(caught.value)
    assert "extent: [4, 5] -> [4, 6]" in message
    assert "descriptors.limit_to: 32 -> 16" in message
    assert "new: 'absent' -> None" in message
    assert "seed" not in message
    assert "types" not in message
    assert "\n" not in message
    with pytest.raises(InputError, match="reference_sha256"):
        Dataset.create_or_resume(tmp_path, RECIPE, reference_sha256=["ab"])
    assert (tmp_path / "dataset.json").read_bytes() == before
    Dataset.create_or_resume(tmp_path, RECIPE).close()  # the rejected attempts released the lock


@pytest.mark.parametrize("n_bytes", [1, 2, 10, 60])
def test_incomplete_last_line(tmp_path, n_bytes):
    _grown(tmp_path, 5, finish=True)
    log = tmp_path / "samples.jsonl"
    log.write_bytes(log.read_bytes()[:-n_bytes])
    assert Dataset.open(tmp_path).tried == {0, 1, 2, 3}  # readers ignore the incomplete line
    with Dataset.create_or_resume(tmp_path, RECIPE) as dataset:
        assert not dataset.is_complete
        assert dataset.tried == {0, 1, 2, 3}
        assert not json.loads((tmp_path / "dataset.json").read_text())["complete"]
        dataset.append(4, _structure(4))
    assert _check_consistent(tmp_path).tried == {0, 1, 2, 3, 4}


def test_leftovers_of_a_killed_process(tmp_path):
    _grown(tmp_path)
    (tmp_path / "samples" / "000004.npy.tmp").write_bytes(b"half")
    (tmp_path / "dataset.json.tmp").write_bytes(b"{")
    np.save(tmp_path / "samples" / "000004.npy", _structure(77))  # complete, but without a line
    with Dataset.create_or_resume(tmp_path, RECIPE):
        pass
    assert _check_consistent(tmp_path).n_accepted == 4
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated"])
def test_lost_samples_are_made_again(tmp_path, damage, caplog):
    _grown(tmp_path, finish=True)
    sample = tmp_path / "samples" / "000001.npy"
    if damage == "missing":
        sample.unlink()
        with pytest.raises(InputError, match="000001.npy.* is missing"):
            Dataset.open(tmp_path)
    else:
        sample.write_bytes(sample.read_bytes()[: 0 if damage == "empty" else -1])
        with pytest.raises(InputError, match="000001.npy.* is not a valid sample"):
            Dataset.open(tmp_path).load()
    with Dataset.create_or_resume(tmp_path, RECIPE) as dataset:
        assert "1 samples" in caplog.text
        assert (dataset.is_complete, dataset.accepted) == (False, [0, 2, 3])
        assert 1 not in dataset.tried
        assert dataset.append(1, _structure(1)) == 1  # the gap is filled first
        assert dataset.append(9, _structure(9)) == 4
    _check_consistent(tmp_path)


def test_damage_beyond_repair(tmp_path):
    _grown(tmp_path / "log")
    log = tmp_path / "log" / "samples.jsonl"
    log.write_bytes(b"nonsense\n" + log.read_bytes())
    with pytest.raises(InputError, match="is damaged"):
        Dataset.create_or_resume(tmp_path / "log", RECIPE)
    for k, content in enumerate((b"{", b"[]", b"{}", b'{"format": 99, "recipe": {}, "complete": false}')):
        _grown(tmp_path / str(k))
        (tmp_path / str(k) / "dataset.json").write_bytes(content)
        for use in (Dataset.open, lambda folder: Dataset.create_or_resume(folder, RECIPE)):
            with pytest.raises(InputError, match="dataset.json"):
                use(tmp_path / str(k))
    (tmp_path / "log" / "dataset.json").unlink()
    with pytest.raises(InputError, match="no dataset.json"):
        Dataset.create_or_resume(tmp_path / "log", RECIPE)


def test_unusable_folders(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="cannot be written"):
            Dataset.create_or_resume(folder, RECIPE)
        with pytest.raises(InputError, match="does not exist"):
            Dataset.open(folder)
    with pytest.raises(InputError, match="does not exist"):
        Dataset.open(tmp_path / "nowhere")
    with (
        Dataset.create_or_resume(tmp_path / "empty", RECIPE) as dataset,
        pytest.raises(InputError, match="no accepted"),
    ):
        dataset.load()


def test_invalid_calls(tmp_path):
    with Dataset.create_or_resume(tmp_path, RECIPE) as dataset:
        dataset.append(0, _structure(0))
        with pytest.raises(ValueError, match="once, got 0"):
            dataset.append(0, _structure(0))
        with pytest.raises(ValueError, match="reason"):
            dataset.append(1, None)
        with pytest.raises(ValueError, match="reason"):
            dataset.append(1, _structure(1), reason="copy")
        with pytest.raises(TypeError, match="JSON"):
            dataset.append(1, _structure(1), fact=object())
    for closed in (dataset, Dataset.open(tmp_path)):
        with pytest.raises(ValueError, match="opened for reading"):
            closed.append(1, _structure(1))
        with pytest.raises(ValueError, match="opened for reading"):
            closed.finish()
    assert _check_consistent(tmp_path).n_accepted == 1


def test_samples_of_different_shapes_do_not_load(tmp_path):
    _grown(tmp_path)
    np.save(tmp_path / "samples" / "000002.npy", np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match=r"000002.npy.* unlike 000000.npy"):
        Dataset.open(tmp_path).load()


def test_samples_are_appended_in_any_order(tmp_path):
    with Dataset.create_or_resume(tmp_path, RECIPE) as dataset:
        for index in (3, 0, 2):
            assert dataset.append(10 + index, _structure(index), index=index) == index
        assert dataset.append(5, _structure(1)) == 1  # the first free index
        for wrong in ({"phases": _structure(0), "index": 3}, {"phases": None, "index": 7, "reason": "copy"}):
            with pytest.raises(ValueError, match="index must be"):
                dataset.append(99, **wrong)
        np.testing.assert_array_equal(dataset.load(), [_structure(k) for k in range(4)])
        np.testing.assert_array_equal(dataset.sample(2), _structure(2))
        dataset.finish()
    assert verify(tmp_path).n_tried == 4


def test_maps_are_stored_and_repaired_with_the_samples(tmp_path):
    grains = np.arange(20, dtype=np.int32).reshape(4, 5)
    with Dataset.create_or_resume(tmp_path, RECIPE) as dataset:
        dataset.append(0, _structure(0), maps={"grains": grains})
        dataset.append(1, _structure(1), maps={"grains": grains + 1})
        for name in ("samples", "../x", "a b"):
            with pytest.raises(ValueError, match="identifier"):
                dataset.append(2, _structure(2), maps={name: grains})
        dataset.finish()
    verify(tmp_path)
    np.testing.assert_array_equal(np.load(tmp_path / "grains" / "000001.npy"), grains + 1)
    (tmp_path / "grains" / "000000.npy").unlink()
    with pytest.raises(InputError, match="grains/000000.npy is missing"):
        verify(tmp_path)
    with Dataset.create_or_resume(tmp_path, RECIPE) as dataset:
        assert dataset.accepted == [1]


# --- verify --------------------------------------------------------------------------------------------------------


def test_verify_accepts_a_complete_data_set(tmp_path):
    _grown(tmp_path, finish=True)
    (tmp_path / "generate.log").write_text("chatter")
    assert verify(tmp_path).n_accepted == 4


def _change_a_pixel(folder):
    sample = np.load(folder / "samples" / "000001.npy")
    sample[0, 0] = 1 - sample[0, 0]
    np.save(folder / "samples" / "000001.npy", sample)


def _swap_two_samples(folder):
    first, second = (folder / "samples" / f"00000{k}.npy" for k in (0, 1))
    first.rename(folder / "x")
    second.rename(first)
    (folder / "x").rename(second)


def _drop_a_line(folder):
    log = folder / "samples.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[1:]))


def _repeat_a_line(folder):
    log = folder / "samples.jsonl"
    log.write_bytes(log.read_bytes() + log.read_bytes().splitlines(keepends=True)[0])


def _change_the_info(folder, **changes):
    info = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**info, **changes}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_change_a_pixel, "samples/000001.npy was changed"),
        (_swap_two_samples, "samples/000000.npy was changed; samples/000001.npy was changed"),
        (lambda folder: (folder / "samples" / "000002.npy").unlink(), "samples/000002.npy is missing"),
        (
            lambda folder: (folder / "samples" / "000002.npy").write_bytes(b""),
            "000002.npy is not a valid sample",
        ),
        (
            lambda folder: (folder / "samples" / "000009.npy").write_bytes(b""),
            "samples/000009.npy does not belong there",
        ),
        (lambda folder: (folder / "samples" / "note.txt").touch(), "samples/note.txt does not belong there"),
        (lambda folder: (folder / "foreign.npy").touch(), "foreign.npy does not belong there"),
        (_drop_a_line, "dataset.json records 4 samples of 6 seeds, samples.jsonl 3 of 5"),
        (_repeat_a_line, "samples.jsonl has a seed twice; samples.jsonl has a sample twice"),
        (lambda folder: _change_the_info(folder, complete=False), "it is not complete: 4 samples so far"),
        (lambda folder: _change_the_info(folder, versions=None), "dataset.json has no versions"),
    ],
)
def test_verify_finds(tmp_path, damage, said):
    _grown(tmp_path, finish=True)
    damage(tmp_path)
    with pytest.raises(InputError) as caught:
        verify(tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_verify_checks_the_volume_fraction_without_hashes(tmp_path):
    _grown(tmp_path, finish=True)
    log = tmp_path / "samples.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    log.write_text("".join(json.dumps({k: v for k, v in line.items() if k != "sha256"}) + "\n" for line in lines))
    verify(tmp_path)
    _change_a_pixel(tmp_path)
    with pytest.raises(InputError, match=r"samples/000001.npy has the volume fraction"):
        verify(tmp_path)


def test_verify_lists_five_problems_and_counts_the_rest(tmp_path):
    _grown(tmp_path, finish=True)
    for k in range(9):
        (tmp_path / f"foreign_{k}").touch()
    with pytest.raises(InputError, match=r"foreign_4 does not belong there, and 4 more$"):
        verify(tmp_path)


def test_verify_rejects_a_locked_folder(tmp_path):
    _grown(tmp_path)
    with (
        Dataset.create_or_resume(tmp_path, RECIPE),
        pytest.raises(InputError, match="in use by another process"),
    ):
        verify(tmp_path)


# --- images for training -------------------------------------------------------------------------------------------


def test_packed_images_are_the_samples(tmp_path, monkeypatch):
    _grown(tmp_path, 9, finish=True)
    dataset = Dataset.open(tmp_path)
    expected = dataset.load()
    assert not isinstance(dataset.images(), np.memmap)  # a small data set stays in memory
    monkeypatch.setattr(datasets, "IN_MEMORY_BYTES", 0)
    images = dataset.images()
    assert isinstance(images, np.memmap)
    assert (images.shape, images.dtype, len(images), images.ndim) == (expected.shape, expected.dtype, 6, 3)
    for rows in (0, -1, np.int64(3), slice(1, 5, 2), slice(0), [2, 2, 0], np.array([-1, 5, 3]), np.array([], int)):
        np.testing.assert_array_equal(images[rows], expected[rows])
    np.testing.assert_array_equal(np.load(next(tmp_path.glob("images_*.npy"))), expected)  # an ordinary file
    for rows in (6, -7, [0, 6]):
        with pytest.raises(IndexError):
            images[rows]
    assert verify(tmp_path).n_accepted == 6


def test_packed_floats_keep_their_type(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "IN_MEMORY_BYTES", 0)
    grey = np.random.default_rng(0).random((3, 4, 5), dtype=np.float32)
    with Dataset.create_or_resume(tmp_path, RECIPE) as dataset:
        for seed, image in enumerate(grey):
            dataset.append(seed, image)
        images = dataset.images()
    np.testing.assert_array_equal(images[[2, 0]], grey[[2, 0]])
    assert images[1].dtype == np.float32


def test_a_packed_file_is_written_again_if_the_samples_change(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "IN_MEMORY_BYTES", 0)
    _grown(tmp_path, 4)
    Dataset.open(tmp_path).images()
    first = next(tmp_path.glob("images_*.npy"))
    stamp = first.stat().st_mtime_ns
    (tmp_path / "samples" / "000000.npy").rename(tmp_path / "hidden")  # not read again
    with pytest.raises(InputError, match="missing"):
        Dataset.open(tmp_path)
    (tmp_path / "hidden").rename(tmp_path / "samples" / "000000.npy")
    Dataset.open(tmp_path).images()
    assert first.stat().st_mtime_ns == stamp
    with Dataset.create_or_resume(tmp_path, RECIPE) as dataset:
        dataset.append(4, _structure(4))
        np.testing.assert_array_equal(dataset.images()[:], dataset.load())
    assert not first.exists()
    assert len(list(tmp_path.glob("images_*"))) == 1


def test_a_changed_sample_is_not_packed(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "IN_MEMORY_BYTES", 0)
    _grown(tmp_path, finish=True)
    _change_a_pixel(tmp_path)
    with pytest.raises(InputError, match=r"000001.npy' does not agree with samples.jsonl"):
        Dataset.open(tmp_path).images()
    assert not list(tmp_path.glob("images_*"))


def test_a_damaged_packed_file_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "IN_MEMORY_BYTES", 0)
    _grown(tmp_path, finish=True)
    Dataset.open(tmp_path).images()
    packed = next(tmp_path.glob("images_*.npy"))
    whole = packed.read_bytes()
    for part in (whole[:-1], whole[:5], b""):
        packed.write_bytes(part)
        with pytest.raises(InputError, match="is damaged"):
            Dataset.open(tmp_path).images()


LOADER = """
import sys
import numpy as np
from mcrpy_diffusion.data import dataset
dataset.IN_MEMORY_BYTES = 0
images = dataset.Dataset.open(sys.argv[1]).images()
def own():  # memory that the system cannot free, in KiB
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))
before = own()
for start in range(0, len(images), 32):
    images[np.arange(start, min(start + 32, len(images)))].sum()
print(len(images) * images[0].nbytes, (own() - before) * 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of the memory")
def test_reading_all_packed_images_takes_no_memory(tmp_path):
    with Dataset.create_or_resume(tmp_path, RECIPE) as dataset:
        for seed in range(400):
            dataset.append(seed, np.full((256, 256), seed % 2, np.uint8))
    code = [sys.executable, "-c", LOADER, str(tmp_path)]
    total, grown = map(int, subprocess.run(code, capture_output=True, text=True, check=True).stdout.split())
    assert total == 400 * 256 * 256
    assert grown < total / 4


# --- two processes, and kill -9 ------------------------------------------------------------------------------------

WRITER = """
import sys, numpy as np
from mcrpy_diffusion.data.dataset import Dataset
recipe = {"extent": (4, 5), "descriptors": {"types": ["FFTCorrelations"], "limit_to": 32}, "seed": 0}
dataset = Dataset.create_or_resume(sys.argv[1], recipe)
seed = max(dataset.tried, default=-1)
while True:
    seed += 1
    if seed % 3 == 2:
        dataset.append(seed, None, reason="copy")
    else:
        dataset.append(seed, np.random.default_rng(seed).integers(2, size=(4, 5)).astype(np.uint8))
    print(seed, flush=True)
"""


def _writer(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()  # the process has the lock and writes
    return process


def test_two_processes_cannot_write_one_folder(tmp_path):
    process = _writer(tmp_path)
    try:
        with pytest.raises(InputError, match="in use by another process"):
            Dataset.create_or_resume(tmp_path, RECIPE)
        Dataset.open(tmp_path)  # reading is allowed
    finally:
        process.kill()
        process.communicate()
    with Dataset.create_or_resume(tmp_path, RECIPE):  # the lock ended with the process
        with pytest.raises(InputError, match="in use by another process"):
            Dataset.create_or_resume(tmp_path, RECIPE)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill -9 here")
def test_kill_at_any_moment(tmp_path):
    n_tried = 0
    for n_more in (1, 7, 40):
        process = _writer(tmp_path)
        assert process.stdout is not None
        for _ in range(n_more):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        with Dataset.create_or_resume(tmp_path, RECIPE) as dataset:
            assert dataset.tried == set(range(len(dataset.tried)))  # no seed is lost or skipped
            assert len(dataset.tried) > n_tried + n_more
            n_tried = len(dataset.tried)
        _check_consistent(tmp_path)


def test_interruption_at_each_write_can_be_resumed(tmp_path, monkeypatch):
    """Stop before each step that changes the folder, like a kill, and resume."""
    real = os.replace
    for stop_at in range(5):
        folder = tmp_path / str(stop_at)
        left = stop_at

        def replace(source: Path, target: Path) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            real(source, target)

        monkeypatch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            _grown(folder, 6)
        monkeypatch.setattr(os, "replace", real)
        with Dataset.create_or_resume(folder, RECIPE) as dataset:
            for seed in set(range(4)) - dataset.tried:
                dataset.append(seed, _structure(seed))
        assert _check_consistent(folder).tried == {0, 1, 2, 3}


def test_file_systems_without_locks_cause_a_warning(tmp_path, monkeypatch, caplog):
    def fail(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", fail)
    _grown(tmp_path, finish=True)
    assert "cannot be locked" in caplog.text
    assert verify(tmp_path).n_accepted == 4
