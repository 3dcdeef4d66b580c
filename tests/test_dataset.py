"""The dataset's folder: what it records, and that it survives being stopped at any moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.errors import InputError

RECIPE = {"extent": (4, 5), "descriptors": {"types": ["FFTCorrelations"], "limit_to": 32}, "seed": 0}


def _structure(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(2, size=(4, 5)).astype(np.uint8)


def _grown(folder: Path, n: int = 6, *, finish: bool = False) -> Dataset:
    """A dataset of n tried seeds, every third one refused, closed."""
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
    """Every line's sample is there and is the seed's; no other sample is."""
    dataset = Dataset.open(folder)
    by_index = {line["index"]: line["seed"] for line in dataset.samples if line["accepted"]}
    if by_index:
        np.testing.assert_array_equal(dataset.load(), [_structure(by_index[index]) for index in dataset.accepted])
    assert sorted(by_index) == list(range(len(by_index)))
    files = {file.name for file in (folder / "samples").iterdir()}
    assert files == {f"{index:06d}.npy" for index in by_index}
    return dataset


def test_what_is_recorded(tmp_path):
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
    }
    assert lines[1] == {"index": None, "seed": 11, "accepted": False, "reason": "copy"}
    info = json.loads((folder / "dataset.json").read_text())
    assert info["complete"] is True
    assert (info["recipe"]["extent"], info["settings"], info["versions"]) == ([4, 5], settings, versions)
    assert (info["reference_sha256"], info["n_accepted"], info["n_tried"]) == (["ab", "cd"], 2, 3)
    assert np.load(folder / "samples" / "000001.npy").dtype == np.uint8


def test_going_on(tmp_path):
    _grown(tmp_path, 4)
    with Dataset.create_or_resume(tmp_path, RECIPE) as dataset:
        assert (dataset.n_accepted, dataset.tried) == (3, {0, 1, 2, 3})
        assert dataset.append(4, _structure(4)) == 3
    assert _check_consistent(tmp_path).n_accepted == 4


def test_a_finished_dataset_stays_finished(tmp_path):
    _grown(tmp_path, finish=True)
    with Dataset.create_or_resume(tmp_path, RECIPE) as dataset:
        assert dataset.is_complete
        with pytest.raises(ValueError, match="finished"):
            dataset.append(99, _structure(99))
    assert Dataset.open(tmp_path).is_complete


def test_another_recipe_is_refused_key_by_key(tmp_path):
    _grown(tmp_path)
    before = (tmp_path / "dataset.json").read_bytes()
    other = {"extent": (4, 6), "descriptors": {"types": ["FFTCorrelations"], "limit_to": 16}, "seed": 0, "new": None}
    with pytest.raises(InputError) as caught:
        Dataset.create_or_resume(tmp_path, other)
    message = str(caught.value)
    assert "extent was [4, 5] and is now [4, 6]" in message
    assert "descriptors.limit_to was 32 and is now 16" in message
    assert "new was 'absent' and is now None" in message
    assert "seed" not in message
    assert "types" not in message
    assert "\n" not in message
    with pytest.raises(InputError, match="reference_sha256"):
        Dataset.create_or_resume(tmp_path, RECIPE, reference_sha256=["ab"])
    assert (tmp_path / "dataset.json").read_bytes() == before
    Dataset.create_or_resume(tmp_path, RECIPE).close()  # the refused attempts left no lock behind


@pytest.mark.parametrize("n_bytes", [1, 2, 10, 60])
def test_torn_last_line(tmp_path, n_bytes):
    _grown(tmp_path, 5, finish=True)
    log = tmp_path / "samples.jsonl"
    log.write_bytes(log.read_bytes()[:-n_bytes])
    assert Dataset.open(tmp_path).tried == {0, 1, 2, 3}  # a reader does not mind
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
    np.save(tmp_path / "samples" / "000004.npy", _structure(77))  # whole, but its line was never written
    with Dataset.create_or_resume(tmp_path, RECIPE):
        pass
    assert _check_consistent(tmp_path).n_accepted == 4
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated"])
def test_lost_samples_are_made_anew(tmp_path, damage, caplog):
    _grown(tmp_path, finish=True)
    sample = tmp_path / "samples" / "000001.npy"
    if damage == "missing":
        sample.unlink()
        with pytest.raises(InputError, match="000001.npy.* is missing"):
            Dataset.open(tmp_path)
    else:
        sample.write_bytes(sample.read_bytes()[: 0 if damage == "empty" else -1])
        with pytest.raises(InputError, match="000001.npy.* is no valid sample"):
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


def test_folders_that_cannot_be_used(tmp_path):
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


def test_wrong_calls(tmp_path):
    with Dataset.create_or_resume(tmp_path, RECIPE) as dataset:
        dataset.append(0, _structure(0))
        with pytest.raises(ValueError, match="seed 0 was tried"):
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
    process.stdout.readline()  # it has the lock and writes
    return process


def test_two_processes_refuse_each_other(tmp_path):
    process = _writer(tmp_path)
    try:
        with pytest.raises(InputError, match=rf"being written by another process \(number {process.pid}\)"):
            Dataset.create_or_resume(tmp_path, RECIPE)
        Dataset.open(tmp_path)  # reading is allowed
    finally:
        process.kill()
        process.communicate()
    with Dataset.create_or_resume(tmp_path, RECIPE):  # the lock went with the process
        with pytest.raises(InputError, match=rf"number {os.getpid()}"):
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
            assert dataset.tried == set(range(len(dataset.tried)))  # none is lost, none skipped
            assert len(dataset.tried) > n_tried + n_more
            n_tried = len(dataset.tried)
        _check_consistent(tmp_path)


def test_every_cut_of_the_writing_can_be_resumed(tmp_path, monkeypatch):
    """Stop before each of the steps that change the folder, as a kill would, and go on."""
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
