"""The package's own layers against PyTorch's, forward and backward, with channels in the last place.

Both run in this one process, in turns; the best of the repetitions, and the ratio. `--dtype` is bfloat16 or
float32. Beside other work, `--clock cpu --threads 1` counts the processor's time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from mcrpy_diffusion.diffusion.layers import circular_pad, dropout, group_norm_silu
from mcrpy_diffusion.diffusion.unet import n_groups


def milliseconds(
    layers: dict[str, Callable[[Tensor], Tensor]],
    x: Tensor,
    weights: list[Tensor],
    repeats: int,
    clock: Callable[[], float],
) -> dict[str, float]:
    """Best time of a forward and a backward pass of each, the latter to x and the weights that a layer has."""
    best = dict.fromkeys(layers, float("inf"))
    for _ in range(repeats):
        for name, layer in layers.items():
            started = clock()
            y = layer(x)
            torch.autograd.grad(y, [x, *weights], torch.ones_like(y), allow_unused=True)
            best[name] = min(best[name], (clock() - started) * 1e3)
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--shape", type=int, nargs=4, default=(4, 128, 64, 64))
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    dtype = getattr(torch, options.dtype)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    channels = options.shape[1]
    x = torch.randn(*options.shape, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
    norm = nn.GroupNorm(n_groups(channels), channels)
    torch_norm = nn.GroupNorm(n_groups(channels), channels).to(dtype)
    weight = torch.randn(channels, channels, 3, 3).to(memory_format=torch.channels_last).requires_grad_()
    pairs: dict[str, dict[str, Callable[[Tensor], Tensor]]] = {
        "group normalisation and SiLU": {
            "torch": lambda x: functional.silu(torch_norm(x)),
            "ours": lambda x: group_norm_silu(x, norm),
        },
        "circular padding": {
            "torch": lambda x: functional.pad(x, (1, 1, 1, 1), mode="circular"),
            "ours": circular_pad,
        },
        "dropout": {"torch": lambda x: functional.dropout(x, 0.1), "ours": lambda x: dropout(x, 0.1, training=True)},
    }
    shape, threads = tuple(options.shape), torch.get_num_threads()
    print(f"torch {torch.__version__}, {threads} threads, {shape}, {options.dtype}, milliseconds")
    for name, layers in pairs.items():
        best = milliseconds(layers, x, [weight], options.repeats, clock)
        ratio = best["torch"] / best["ours"]
        print(f"{name:30s} torch {best['torch']:7.2f}   ours {best['ours']:7.2f}   {ratio:5.1f} times as fast")


if __name__ == "__main__":
    main()
