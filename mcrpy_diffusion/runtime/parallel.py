"""Training in several processes, on one machine or many: started by torchrun, connected by Hugging Face Accelerate."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import Accelerator


def make_accelerator(device: str | None = None) -> Accelerator:
    """Connect the processes that torchrun or `accelerate launch` started; a process started otherwise trains alone.

    Parameters
    ----------
    device : str, optional
        "cuda" or "cpu"; by default "cuda" if a graphics card is present.
    """
    import torch
    from accelerate import Accelerator

    cpu = device == "cpu" or not torch.cuda.is_available()
    return Accelerator(cpu=cpu, mixed_precision="no")  # the training chooses its precision itself


def num_processes() -> int:
    """Return how many processes train together, as torchrun and Accelerate say it in the environment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Return whether this process prints and writes for all of them."""
    return os.environ.get("RANK", "0") == "0"


def shutdown() -> None:
    """Close the connections to the other processes."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
