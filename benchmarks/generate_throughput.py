"""Throughput of the data factory's S2 recipe against a shell loop over MCRpy's own command, side by side in one run.

Both characterize the same micrograph, reconstruct from random starts with the same descriptor, optimizer, loss, limit
and number of iterations (ours does not end early here), and use the same number of processes of one thread each. The
loop is `xargs -P` over `python -m mcrpy.match`. It runs before and after ours, so that other work on the machine weighs
on both.

    python benchmarks/generate_throughput.py micrograph.npy
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.data.micrograph import read_micrograph
from mcrpy_diffusion.materials import descriptor_based, engine
from mcrpy_diffusion.materials.local_workers import LocalWorkers
from mcrpy_diffusion.mcrpy_bridge.environment import variables
from mcrpy_diffusion.settings import GenerationSettings


def main() -> None:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("micrograph")
    parser.add_argument("--n_samples", type=int, default=100, help="of ours")
    parser.add_argument("--n_runs", type=int, default=4, help="of the loop, half of them before ours and half after")
    parser.add_argument("--max_iter", type=int, default=300)
    parser.add_argument("--n_jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    phases = read_micrograph(options.micrograph).phases
    settings = GenerationSettings(
        extent_x=phases.shape[0],
        extent_y=phases.shape[1],
        max_iter=options.max_iter,
        limit_to=min(phases.shape) // 2,
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        np.save(root / "micrograph.npy", phases)
        before, iterations_before = loop(root, settings, options.n_runs // 2, options.n_jobs)
        whole, steady, iterations, counts = ours(root, phases, settings, options.n_samples, options.n_jobs)
        after, iterations_after = loop(root, settings, options.n_runs - options.n_runs // 2, options.n_jobs)
    seconds = (before + after) / options.n_runs
    their_iterations = (iterations_before + iterations_after) / options.n_runs
    print(f"{options.n_jobs} processes, {settings.max_iter} iterations at most")
    print(f"shell loop over mcrpy.match     {seconds:7.2f} s a structure, {their_iterations:4.0f} iterations each")
    print(f"generate, start included        {whole:7.2f} s a structure, {iterations:4.0f} iterations each")
    print(f"generate, once it runs          {steady:7.2f} s a structure; checked: {json.dumps(counts)}")
    print(f"ratio                           {seconds / whole:7.2f}, once it runs {seconds / steady:.2f}")


def loop(root: Path, settings: GenerationSettings, n_runs: int, n_jobs: int) -> tuple[float, int]:
    """Run MCRpy's command so many times; return the seconds in all and the iterations in all."""
    if n_runs == 0:
        return 0.0, 0
    command = (
        f"{sys.executable} -m mcrpy.match --microstructure_filenames micrograph.npy --descriptor_types FFTCorrelations "
        f"--optimizer_type LBFGSB --loss_type MSE --no_multigrid_descriptor --limit_to {settings.limit_to} "
        f"--max_iter {settings.max_iter} --data_folder run_{{}} > run_{{}}.txt 2>&1"
    )
    environment = {**os.environ, **variables(threads=1, hide_gpus=True)}
    started = time.monotonic()
    subprocess.run(
        ["bash", "-c", f"seq {n_runs} | xargs -P {n_jobs} -I{{}} sh -c '{command}'"],
        cwd=root,
        env=environment,
        check=True,
    )
    seconds = time.monotonic() - started
    last = [(root / f"run_{k}.txt").read_text().rsplit("Iteration ", 1)[1] for k in range(1, n_runs + 1)]
    return seconds, sum(int(line.split()[0]) for line in last)


def ours(
    root: Path, phases: np.ndarray, settings: GenerationSettings, n_samples: int, n_jobs: int
) -> tuple[float, float, float, dict[str, int]]:
    """Return the seconds per draw, in all and after each process has begun, the iterations per draw and the counts."""
    ends: list[float] = []
    source = descriptor_based.Reconstructions(settings, micrographs=(phases,), stop_early=False)
    started = time.monotonic()
    with (
        Dataset.create_or_resume(root / "dataset", {}) as dataset,
        LocalWorkers(n_jobs, source) as workers,
    ):
        engine.fill(
            dataset,
            source,
            n_samples=n_samples,
            seed=0,
            workers=workers,
            progress=lambda *_: ends.append(time.monotonic()),
        )
        iterations = float(np.mean([line["n_iterations"] for line in dataset.samples]))
        counts, n = dataset.counts(), dataset.n_tried
    half = n // 2
    return (ends[-1] - started) / n, (ends[-1] - ends[half]) / (n - 1 - half), iterations, counts


if __name__ == "__main__":
    main()
