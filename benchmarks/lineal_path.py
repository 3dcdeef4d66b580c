"""LinealPathFunction against MCRpy's own LinealPath, side by side in one run.

    python benchmarks/lineal_path.py micrograph.npy [--limit_to 32]

Ours is computed for all r below half of the image's smaller extent, MCRpy's for segments that reach --limit_to pixels
from their middle, as its option of that name says. Both are MCRpy's descriptor functions, made and called as
`mcrpy.characterize` does. "first" is the time to make the function and to call it once, "call" that of a call of the
ready function (ours: the quickest of 20; MCRpy's: the first, for want of patience). The ratios are MCRpy's over ours.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from mcrpy_diffusion import register


def _descriptor(name: str, shape: tuple[int, int], limit_to: int) -> Callable[[Any], Any]:
    from mcrpy.src import descriptor_factory, loader

    loader.load_plugins([f"mcrpy.descriptors.{name}"])
    arguments = {
        "desired_shape_2d": shape,
        "desired_shape_extended": (1, *shape, 1),
        "limit_to": limit_to,
        "use_multigrid_descriptor": False,
        "use_multiphase": False,
        "periodic": True,
    }
    return descriptor_factory.create(name, arguments=arguments)


def measure(name: str, phases: np.ndarray, limit_to: int, n_calls: int) -> tuple[np.ndarray, float, float]:
    """Return the descriptor of an image (I, J), and the seconds of the first use and of the quickest call."""
    import tensorflow as tf

    x = tf.constant(phases[None, ..., None], tf.float64)
    start = time.perf_counter()
    function = _descriptor(name, (phases.shape[0], phases.shape[1]), limit_to)
    made = time.perf_counter()
    value = function(x).numpy()
    calls = [time.perf_counter() - made]
    first = time.perf_counter() - start
    for _ in range(n_calls - 1):
        start = time.perf_counter()
        function(x).numpy()
        calls.append(time.perf_counter() - start)
    return value, first, min(calls)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description="LinealPathFunction against MCRpy's LinealPath.")
    parser.add_argument("micrograph", help=".npy file of phases; phase 1 is measured")
    parser.add_argument("--limit_to", type=int, default=32, help="of MCRpy's LinealPath (default: 32)")
    options = parser.parse_args()
    register(with_torch=False)
    phases = (np.load(options.micrograph) == 1).astype(np.float64)
    n_lengths = min(phases.shape) // 2
    measure("LinealPathFunction", phases[:16, :16], 4, 2)  # TensorFlow's own start
    ours, first, call = measure("LinealPathFunction", phases, n_lengths, 20)
    theirs, their_first, their_call = measure("LinealPath", phases, options.limit_to, 1)
    fraction = phases.mean()
    print(f"{options.micrograph}: {phases.shape[0]} x {phases.shape[1]} pixels, volume fraction {fraction:.6f}")
    print(f"{'':20}{'limit_to':>10}{'L(0) - fraction':>18}{'first, s':>12}{'call, s':>12}")
    rows = (
        ("LinealPathFunction", n_lengths, np.abs(ours[..., 0] - fraction).max(), first, call),
        ("MCRpy's LinealPath", options.limit_to, np.abs(theirs.ravel()[0] - fraction), their_first, their_call),
    )
    for name, limit_to, error, seconds, again in rows:
        print(f"{name:20}{limit_to:>10}{error:>18.2g}{seconds:>12.4g}{again:>12.4g}")
    print(f"{'ratio':48}{their_first / first:>12.0f}{their_call / call:>12.0f}")


if __name__ == "__main__":
    main()
