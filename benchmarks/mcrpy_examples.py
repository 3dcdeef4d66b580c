"""The 2D examples of MCRpy's README: by MCRpy itself, by our commands, and with `--method diffusion`; prints the log.

Every command with `--method descriptor` is run twice from the same seed, once as `python -m mcrpy.<command>` does and
once by ours, and what they leave is compared byte for byte. The micrographs are the built-in reference images, in place
of those of MCRpy's repository (`pymks_ms_64x64_2`: ceramics; `alloy_resized_s` and `alloy_inverted_s`, whose boundaries
are phase 0 and phase 1; `copolymer_resized_s`). Options are those of the README of MCRpy's repository, as MCRpy 0.2.0
takes them: `--no_multiphase` is its default for match, and the extent in z is left out.

    python benchmarks/mcrpy_examples.py | tee log.txt

Few iterations and training steps are the default: this shows that everything runs, not how good it is.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import pickle
import re
import runpy
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.commands import mcrpy_commands as commands
from mcrpy_diffusion.materials.reference_images import ReferenceSettings, make
from mcrpy_diffusion.mcrpy_bridge import results
from mcrpy_diffusion.mcrpy_bridge.environment import import_mcrpy, notes

MICROGRAPHS = ("ceramics", "alloy", "alloy_inverted", "copolymer")
SEED = 7
EXTENT = "--extent_x 64 --extent_y 64"
WEIGHTS = "--descriptor_weights 1 100"
EXAMPLES: tuple[tuple[str, str, str, str], ...] = (
    ("Quick start", "match", "ceramics", "--limit_to 16 --descriptor_types FFTCorrelations"),
    (
        "Quick start with multigrid",
        "match",
        "ceramics",
        "--limit_to 8 --descriptor_types FFTCorrelations --use_multigrid_reconstruction",
    ),
    (
        "Only characterize",
        "characterize",
        "ceramics",
        "--limit_to 16 --no_multiphase --descriptor_types Correlations Variation GramMatrices FFTCorrelations",
    ),
    (
        "Reconstruct later",
        "reconstruct",
        "ceramics",
        f"--limit_to 16 --descriptor_types Correlations Variation {WEIGHTS} {EXTENT}",
    ),
    (
        "Loop over --information",
        "reconstruct",
        "ceramics",
        f"--limit_to 16 --information 1 --descriptor_types FFTCorrelations Variation {WEIGHTS} {EXTENT}",
    ),
    ("Boundaries are phase 0: fails, says MCRpy's README", "match", "alloy", "--descriptor_types Correlations"),
    ("Boundaries are phase 1", "match", "alloy_inverted", "--descriptor_types Correlations"),
    ("Both phases", "match", "alloy", "--descriptor_types Correlations --use_multiphase"),
    (
        "Multigrid",
        "match",
        "alloy_inverted",
        "--descriptor_types Correlations --use_multigrid_reconstruction",
    ),
    ("Descriptors", "match", "copolymer", "--descriptor_types GramMatrices"),
)
"""Title, command, micrograph and options of each example."""


def main() -> int:
    """Run all examples and print the log; return how many commands went wrong or differ."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--max_iter", type=int, default=50, help="of MCRpy's optimisations (its default: 500)")
    parser.add_argument("--n_training_steps", type=int, default=60, help="of each diffusion model")
    parser.add_argument("--n_samples", type=int, default=4, help="structures by diffusion, per example")
    parser.add_argument("--data_folder", help="where everything is written; removed afterwards unless given")
    options = parser.parse_args()
    import_mcrpy(hide_gpus=False)  # MCRpy 0.2.0's Gram matrices fail where nobody has chosen Keras 2
    for line in notes():
        print(line)
    with contextlib.ExitStack() as stack:
        root = Path(options.data_folder or stack.enter_context(tempfile.TemporaryDirectory()))
        root.mkdir(parents=True, exist_ok=True)
        before = Path.cwd()
        os.chdir(root)
        stack.callback(os.chdir, before)
        micrographs()
        wrong = sum(by_descriptors(*example, options.max_iter) for example in EXAMPLES)
        for name in MICROGRAPHS:
            words = f"--microstructure_filenames {name}_256.npy --n_training_steps {options.n_training_steps}"
            words += f" --n_samples {options.n_samples} --data_folder model_{name}"
            wrong += by_diffusion(f"A model of {name}", "match", words)
        for title, command, name, words in EXAMPLES:
            if command != "characterize":
                line = f"{given(command, name)} {words} --model model_{name}/model.safetensors --data_folder diffusion"
                line += f" --n_samples {options.n_samples}"
                if "--information" not in words:
                    line += f" --information {re.sub('[^a-z0-9]+', '_', title.lower())}"
                few = " --n_training_samples 4 --n_jobs 1" if "FFT" in words and command == "reconstruct" else ""
                wrong += by_diffusion(title, command, line + few)
    print(f"\n{wrong} commands went wrong or gave other results than MCRpy's own")
    return int(wrong > 0)


def micrographs() -> None:
    """Write 64 x 64 and 256 x 256 images: phases as integers."""
    for size, ending in ((64, ""), (256, "_256")):
        for material in ("ceramics", "alloy", "copolymer"):
            phases = make(0, ReferenceSettings(material=material, extent_x=size, extent_y=size)).astype(np.int64)
            if material == "alloy":  # whose boundaries are phase 1 here
                np.save(f"alloy_inverted{ending}.npy", phases)
                phases = 1 - phases
            np.save(f"{material}{ending}.npy", phases)


def given(command: str, name: str) -> str:
    """Name the input of a command."""
    if command == "reconstruct":
        return f"--descriptor_filename characterized/{name}_characterization.pickle"
    return f"--microstructure_filenames {name}.npy"


def by_descriptors(title: str, command: str, name: str, words: str, max_iter: int) -> int:
    """Run a command as MCRpy and as ours, and compare what they leave; return 1 where anything is wrong."""
    line = f"{given(command, name)} {words}"
    line += f" --max_iter {max_iter}" if command != "characterize" else ""
    method = " --method descriptor" if command != "characterize" else ""
    print(f"\n## {title}\n$ mcrpy_{command} {line}{method}", flush=True)
    run = getattr(commands, command)
    started = time.monotonic()
    theirs = results_of(lambda: itself(command, line.split()))
    between = time.monotonic()
    ours = results_of(lambda: run(f"{line}{method}".split()))
    print(f"   MCRpy itself {between - started:.1f} s, this package {time.monotonic() - between:.1f} s")
    equal = {file: comparison(content, ours.get(file)) for file, content in theirs.items()}
    for file, verdict in equal.items():
        print(f"   {file}: {verdict}")
    if command == "characterize":
        Path("characterized").mkdir(exist_ok=True)
        for file, content in ours.items():
            Path("characterized", file).write_bytes(content)
    else:
        Path("results").mkdir()
        for file, content in ours.items():
            Path("results", file).write_bytes(content)
        show(*results.result_files("results", name, information(words)), name)
        shutil.rmtree("results")
    return int(not theirs or set(theirs) != set(ours) or "DIFFERS" in equal.values())


def information(words: str) -> str | None:
    """What a line gives with --information."""
    found = re.search(r"--information (\S+)", words)
    return found[1] if found else None


def by_diffusion(title: str, command: str, words: str) -> int:
    """Run a command with `--method diffusion`, and show how its table ends; return 1 where it fails."""
    print(f"\n## {title}\n$ mcrpy_{command} --method diffusion {words}", flush=True)
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        status = getattr(commands, command)(["--method", "diffusion", *words.split()])
    for line in complained.getvalue().splitlines():
        print(f"   {line}")
    text = said.getvalue().splitlines()
    first = next((i for i, line in enumerate(text) if line.startswith("generated against")), len(text))
    for line in text[first:] or text[-4:]:
        print(f"   {line}")
    print(f"   exit status {status}")
    return int(status != 0)


def itself(command: str, arguments: Sequence[str]) -> None:
    """Run MCRpy's own module in this process."""
    before = sys.argv
    sys.argv = [command, *arguments]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            runpy.run_module(f"mcrpy.{command}", run_name="__main__")
    finally:
        sys.argv = before


def results_of(run: Callable[[], Any]) -> dict[str, bytes]:
    """Run from the common seed, in silence; return the files (log files aside, which hold times) and remove them."""
    np.random.seed(SEED)  # noqa: NPY002  MCRpy draws the initial structure from numpy's global generator
    with silence():
        run()
    content = {path.name: path.read_bytes() for path in sorted(Path("results").iterdir()) if path.suffix != ".log"}
    shutil.rmtree("results")
    return content


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Drop what is printed, also by TensorFlow's C++ part."""
    sys.stdout.flush()
    kept = os.dup(1)
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        os.dup2(nowhere.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def comparison(theirs: bytes, ours: bytes | None) -> str:
    """Say how a file of MCRpy's own and ours compare."""
    if ours == theirs:
        return "identical to MCRpy's own, byte for byte"
    if ours is not None and not theirs.startswith(b"\x93NUMPY"):
        if str(plain(pickle.loads(theirs))) == str(plain(pickle.loads(ours))):
            return "identical to MCRpy's own, all arrays and settings"
    return "DIFFERS"


def plain(value: Any) -> Any:
    """Turn the content of MCRpy's files into plain values: arrays as the digests of their bytes."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype == object):
        return [plain(each) for each in value]
    if hasattr(value, "numpy"):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return value.shape, hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    return plain(vars(value)) if hasattr(value, "__dict__") else repr(value)


def show(structure: Path, convergence: Path, name: str) -> None:
    """Print what a reconstruction reached."""
    import mcrpy

    phases, original = np.load(structure), np.load(f"{name}.npy")
    losses = mcrpy.load(str(convergence))["line_data"][:, 1]
    print(
        f"   {len(losses)} evaluations, loss {losses[0]:.3g} -> {losses[-1]:.3g}, volume fraction of phase 1 "
        f"{np.mean(phases == 1):.4f} (original {np.mean(original == 1):.4f})"
    )


if __name__ == "__main__":
    sys.exit(main())
