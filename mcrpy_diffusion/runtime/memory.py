"""Memory of a training: an estimate before it starts, and advice if there is too little."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from mcrpy_diffusion.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

GIB = 2**30
COPIES_OF_THE_WEIGHTS = 5  # weights, gradients, two moments of Adam, moving average


def training_memory(network: nn.Module, image: tuple[int, ...], batch_size: int, *, bytes_per_number: int = 4) -> int:
    """Bytes that training takes: the weights' copies, and what the backward pass needs of the forward pass.

    Parameters
    ----------
    network : nn.Module
        Called with (x, t, conditions); is not changed.
    image : tuple of int
        Shape (C, I, J).
    batch_size : int
        Images that go through the network at once.
    bytes_per_number : int
        4, or 2 where the network computes in bfloat16.

    Notes
    -----
    A copy of the network on PyTorch's meta device, which has shapes and no values, runs forward once; the tensors that
    autograd saves are counted, each storage once. The libraries' own workspace comes on top.
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
    """Bytes that are free on a graphics card, or that this process may still take of the machine's memory."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


def peak_memory() -> int:
    """Bytes of the machine's memory that this process held at most since its program began.

    Notes
    -----
    On Linux that is VmHWM: `ru_maxrss` would begin with what the parent held when it started this process.
    """
    import psutil

    with contextlib.suppress(OSError, StopIteration), open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))


@contextlib.contextmanager
def advice_when_out_of_memory(advice: Callable[[], str]) -> Iterator[None]:
    """Turn PyTorch's errors for too little memory into one line that says what helps.

    Raises
    ------
    InputError
        In place of torch.OutOfMemoryError, and of the RuntimeError of the CPU's allocator.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f"out of memory: {advice()}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether PyTorch, or Python, says with this error that memory is short."""
    import torch

    kinds: tuple[Any, ...] = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)
