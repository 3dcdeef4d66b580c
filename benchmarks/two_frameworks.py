"""Does a match with the optimizer Diffusion run slower than its parts? PyTorch and TensorFlow share one process.

A denoising step is a network evaluation (PyTorch) and an evaluation of MCRpy's loss (TensorFlow), one after the other.
If the threads of one framework spin while the other works, both together take longer than each alone. So the network
alone, the loss alone and both in turns, as the optimizer does it, are timed round by round in one process, and the
ratio of their medians is printed; 1 means that nothing is lost.

    python benchmarks/two_frameworks.py [--threads 2]
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any


def main() -> None:
    """Time the parts and the whole, and print the ratio."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", maxsplit=1)[0])
    parser.add_argument("--threads", type=int, help="of each framework; as many as each chooses unless given")
    parser.add_argument("--n_steps", type=int, default=20)
    parser.add_argument("--n_rounds", type=int, default=9)
    options = parser.parse_args()
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(options.threads)

    from mcrpy_diffusion.mcrpy_bridge.environment import import_mcrpy

    import_mcrpy(threads=options.threads)
    import tensorflow as tf
    import torch

    network, loss, both = parts(options.n_steps)
    for each in (network, loss, both):
        each()  # TensorFlow traces, PyTorch allocates
    times: dict[str, list[float]] = {"network": [], "loss": [], "both": []}
    for _ in range(options.n_rounds):
        for name, function in (("network", network), ("loss", loss), ("both", both)):
            started = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(
        f"{os.cpu_count()} cores; threads: PyTorch {torch.get_num_threads()}, "
        f"TensorFlow {tf.config.threading.get_intra_op_parallelism_threads() or 'as many as cores'}"
    )
    for name, seconds in medians.items():
        print(f"{name:8} {1000 * seconds / options.n_steps:8.2f} ms a step")
    print(f"ratio    {medians['both'] / (medians['network'] + medians['loss']):8.3f} of both to the sum of its parts")


def parts(n_steps: int) -> tuple[Callable[[], Any], Callable[[], Any], Callable[[], Any]]:
    """Return the network's steps alone, the loss evaluations alone, and both in turns; 64 x 64, preset quick."""
    import mcrpy
    import numpy as np
    from mcrpy.src.DMCR import DMCR
    from mcrpy.src.loss_computation import make_call_loss

    from mcrpy_diffusion.models.checkpoint import ModelInfo, build_network
    from mcrpy_diffusion.models.model import Model
    from mcrpy_diffusion.settings import preset

    info = ModelInfo(
        settings=preset("quick").training,
        n_phases=2,
        extent=(64, 64),
        periodic=True,
        conditions=[[value] for value in np.linspace(0.2, 0.4, 9).tolist()],
    )
    model = Model(build_network(info), info)
    phases = np.random.default_rng(0).integers(2, size=(64, 64)).astype(np.float64)
    chosen = {"descriptor_types": ["FFTCorrelations"], "limit_to": 16, "use_multigrid_descriptor": False}
    structure = mcrpy.Microstructure(phases)
    descriptor = mcrpy.characterize(structure, mcrpy.CharacterizationSettings(**chosen, use_multiphase=False))
    dmcr = DMCR(**vars(mcrpy.ReconstructionSettings(**chosen)), n_phases=1)
    dmcr.assign_desired_descriptor([descriptor["FFTCorrelations"]])
    dmcr.setup_optimization((64, 64), 1, None, 0)

    call_loss = make_call_loss(dmcr.loss, dmcr.ms, is_gradient_based=False)

    def evaluate(_: Any = None) -> None:
        float(call_loss(dmcr.ms))

    def loss() -> None:
        for _ in range(n_steps):
            evaluate()

    return (
        lambda: model.sample(1, n_steps=n_steps),
        loss,
        lambda: model.sample(1, n_steps=n_steps, callback=evaluate),
    )


if __name__ == "__main__":
    main()
