"""What is settled for MCRpy and TensorFlow in a process: in one place, said in the log, the host's logging kept."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mcrpy_diffusion.commands import mcrpy_commands as commands
from mcrpy_diffusion.mcrpy_bridge import environment, results
from mcrpy_diffusion.settings import GenerationSettings

ROOT = Path(__file__).parents[1]


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own, with variables of TensorFlow unset unless given."""
    names = ("TF_USE_LEGACY_KERAS", "TF_FORCE_GPU_ALLOW_GROWTH", "CUDA_VISIBLE_DEVICES")
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    return subprocess.run(
        [sys.executable, "-c", code], env={**inherited, **variables}, capture_output=True, text=True, timeout=300
    )


def test_gpus_and_keras_are_settled_in_one_place() -> None:
    words = r"set_visible_devices|set_memory_growth|ALLOW_GROWTH|LEGACY_KERAS|parallelism_threads"
    files = [file for folder in ("mcrpy_diffusion", "plugins") for file in (ROOT / folder).rglob("*.py")]
    named = {file.name for file in files if re.search(words, file.read_text(encoding="utf-8"))}
    assert named == {"environment.py"}


def test_the_log_says_which_keras_and_nothing_is_printed() -> None:
    """TensorFlow may grow its share of a GPU as it needs, and here is shown none."""
    code = (
        "import logging; logging.basicConfig(level=logging.INFO, format='%(name)s: %(message)s'); "
        "from mcrpy_diffusion.mcrpy_bridge.environment import import_mcrpy; import_mcrpy(with_torch=False); "
        "import os, tensorflow as tf; print(os.environ['TF_FORCE_GPU_ALLOW_GROWTH'], tf.keras.__name__); "
        "print(tf.config.get_visible_devices('GPU'))"
    )
    done = python(code)
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stderr.startswith("mcrpy_diffusion.mcrpy_bridge.environment: TF_USE_LEGACY_KERAS=1: ")
    first, second = done.stdout.splitlines()
    assert first.startswith("true tf_keras")
    assert second == "[]"


def test_the_users_choice_of_keras_stays_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "0")
    environment.prepare()
    assert os.environ["TF_USE_LEGACY_KERAS"] == "0"
    assert environment.notes()[0].startswith("TF_USE_LEGACY_KERAS is 0: TensorFlow uses Keras 3")
    monkeypatch.delenv("TF_USE_LEGACY_KERAS")
    assert environment.notes()[0].startswith("TF_USE_LEGACY_KERAS is not set")
    environment.prepare()
    assert environment.notes()[0].startswith("TF_USE_LEGACY_KERAS=1: TensorFlow uses Keras 2")


def test_numpy_2_gets_the_names_of_numpy_1_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With any numpy: as if it were the other one."""
    monkeypatch.setattr(environment, "_supplied", [])
    for name in ("product", "bool8"):
        monkeypatch.delitem(vars(np), name, raising=False)
    monkeypatch.setattr(np, "__version__", "1.26.4")
    assert environment.supply_numpy_names() == []
    assert "product" not in vars(np)
    monkeypatch.setattr(np, "__version__", "2.1.0")
    try:
        for _ in range(3):
            assert environment.supply_numpy_names() == ["product", "bool8"]
        assert vars(np)["product"] is np.prod
        assert vars(np)["bool8"] is np.bool_
        assert any("np.product = np.prod, np.bool8 = np.bool_" in line for line in environment.notes())
    finally:
        del vars(np)["product"], vars(np)["bool8"]  # monkeypatch puts back what was there


def test_mcrpys_own_log_begins_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--method descriptor` writes MCRpy's log file (not in 0.2.0's match); ours is the pipeline's (test_pipeline)."""
    monkeypatch.chdir(tmp_path)
    phases = np.random.default_rng(0).integers(2, size=(16, 16))
    small = GenerationSettings(extent_x=16, extent_y=16, limit_to=4)
    results.save_characterization(phases, small, "noise_characterization.pickle")
    from mcrpy.src import log

    set_up = log.setup_logging
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []  # pytest's too: MCRpy opens its file for a process without logging
    try:
        arguments = "--descriptor_filename noise_characterization.pickle --descriptor_types FFTCorrelations"
        arguments += " --limit_to 4 --max_iter 1 --extent_x 16 --extent_y 16 --no_multigrid_descriptor"
        assert commands.reconstruct(arguments.split()) == 0
        assert root.handlers == []
        assert root.level == level
    finally:
        root.handlers[:] = handlers
    text = (tmp_path / "results" / "logfile.log").read_text()
    for line in environment.notes():
        assert text.count(line) == 1
    assert log.setup_logging is set_up


def reset(target_folder: str | None, args: object) -> None:
    """What the repository's MCRpy does in place of `logging.basicConfig`."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.setLevel(logging.DEBUG)
    root.addHandler(logging.StreamHandler(sys.stdout))


@pytest.mark.parametrize("repositorys", [False, True])
def test_a_hosts_logging_survives_all_that_calls_mcrpy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repositorys: bool
) -> None:
    """A host that logs to a file, uses our functions and goes on logging; with either MCRpy's way to set up logging."""
    environment.import_mcrpy(threads=1)
    from mcrpy.src import log

    from mcrpy_diffusion.mcrpy_bridge.reconstruction import Reconstructor

    if repositorys:
        monkeypatch.setattr(log, "setup_logging", reset)
    monkeypatch.chdir(tmp_path)
    phases = np.random.default_rng(0).integers(2, size=(16, 16))
    np.save("noise.npy", phases)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    mine = logging.FileHandler(tmp_path / "host.log", mode="w")
    root.handlers[:] = [mine]
    root.setLevel(logging.WARNING)
    try:
        characterization = results.characterize(phases, GenerationSettings(extent_x=16, extent_y=16, limit_to=4))
        settings = {"descriptor_types": ["FFTCorrelations"], "limit_to": 4, "optimizer_type": "LBFGSB"}
        settings |= {"loss_type": "MSE", "max_iter": 1, "use_multigrid_descriptor": False}
        Reconstructor(characterization, n_phases=1, shape=(16, 16), settings=settings)(0)
        arguments = "--descriptor_types FFTCorrelations --limit_to 4 --microstructure_filenames noise.npy"
        assert commands.characterize(arguments.split()) == 0
        assert commands.match([*arguments.split(), "--max_iter", "1"]) == 0
        assert root.handlers == [mine]
        assert root.level == logging.WARNING
        assert mine.stream is not None  # open
        logging.error("the host goes on")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        mine.close()
    assert (tmp_path / "host.log").read_text() == "the host goes on\n"
