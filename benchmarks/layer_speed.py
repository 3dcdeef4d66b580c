"""The package's own layers against PyTorch's, forward and backward, in bfloat16 with channels in the last place.

Both run in this one process, in turns; the best of the repetitions, and the ratio.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from mcrpy_diffusion.diffusion.fast_layers import circular_pad, dropout, group_norm_silu


def milliseconds(layers: dict[str, Callable[[Tensor], Tensor]], x: Tensor, repeats: int) -> dict[str, float]:
    """Best time of a forward and a backward pass of each."""
    best = dict.fromkeys(layers, float("inf"))
    for _ in range(repeats):
        for name, layer in layers.items():
            started = time.perf_counter()
            y = layer(x)
            torch.autograd.grad(y, x, torch.ones_like(y))
            best[name] = min(best[name], (time.perf_counter() - started) * 1e3)
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--shape", type=int, nargs=4, default=(4, 128, 64, 64))
    options = parser.parse_args()
    torch.manual_seed(0)
    x = torch.randn(*options.shape, dtype=torch.bfloat16).to(memory_format=torch.channels_last).requires_grad_()
    norm = nn.GroupNorm(32, options.shape[1])
    torch_norm = nn.GroupNorm(32, options.shape[1]).bfloat16()
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
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {tuple(options.shape)}, milliseconds")
    for name, layers in pairs.items():
        best = milliseconds(layers, x, options.repeats)
        ratio = best["torch"] / best["ours"]
        print(f"{name:30s} torch {best['torch']:7.2f}   ours {best['ours']:7.2f}   {ratio:5.1f} times as fast")


if __name__ == "__main__":
    main()
