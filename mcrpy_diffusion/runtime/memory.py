"""Memory: an estimate for a training, the available memory, and advice if it is exceeded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from mcrpy_diffusion.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

GIB = 2**30
COPIES_OF_THE_WEIGHTS = 5  # weights, gradients, two moments of Adam, moving average


def training_memory(network: nn.Module, image: tuple[int, ...], batch_size: int, *, bytes_per_number: int = 4) -> int:
    """Return the memory of a training in bytes: copies of the weights, and tensors saved for the backward pass.

    Parameters
    ----------
    network : nn.Module
        Called with (x, t, conditions); not changed.
    image : tuple of int
        Shape (C, I, J).
    batch_size : int
        Images per forward pass.
    bytes_per_number : int
        4, or 2 if the network computes in bfloat16.

    Notes
    -----
    A copy of the network on PyTorch's meta device, which has shapes without values, runs one forward pass. The tensors
    that autograd saves are counted, each storage once. The workspace of libraries is not included.
    """
    import copy

    import torch

    twin = copy.deepcopy(network).to("meta").train()
    own = {p.untyped_storage()._cdata for p in twin.parameters()}
    saved: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in own and tensor.is_floating_point():
            saved[tensor.untyped_storage()._cdata] = tensor
        return tensor

    n_conditions = getattr(network, "n_conditions", 0)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        conditions = torch.empty(1, n_conditions, device="meta") if n_conditions else None
        twin(torch.empty(1, *image, device="meta"), torch.empty(1, device="meta"), conditions)
    numbers = sum(tensor.untyped_storage().nbytes() // tensor.element_size() for tensor in saved.values())
    weights = sum(p.numel() for p in network.parameters())
    return COPIES_OF_THE_WEIGHTS * 4 * weights + batch_size * bytes_per_number * numbers


def available_memory(device: torch.device) -> int:
    """Return the free memory of a GPU, or the available memory of the machine, in bytes."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def peak_memory() -> int:
    """Return the peak memory of this process in bytes.

    On Linux it is VmHWM: `ru_maxrss` starts from the memory of the parent process.
    """
    import psutil

    with contextlib.suppress(OSError, StopIteration), open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))


@contextlib.contextmanager
def advice_when_out_of_memory(advice: Callable[[], str]) -> Iterator[None]:
    """Raise InputError with advice instead of torch.OutOfMemoryError and the RuntimeError of the CPU allocator."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        import torch

        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error):
            raise InputError(f"out of memory: {advice()}") from error
        raise
