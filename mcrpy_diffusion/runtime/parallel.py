"""Training in several processes on one or more machines, started by torchrun, with Hugging Face Accelerate."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import Accelerator


def make_accelerator(device: str | None = None) -> Accelerator:
    """Connect the processes started by torchrun or `accelerate launch`; any other process trains alone.

    Parameters
    ----------
    device : str, optional
        "cuda" or "cpu"; by default "cuda" if a GPU is present.
    """
    import torch
    from accelerate import Accelerator

    cpu = device == "cpu" or not torch.cuda.is_available()
    return Accelerator(cpu=cpu, mixed_precision="no")  # the training sets its precision itself


def num_processes() -> int:
    """Return the number of processes of the training, from the environment of torchrun and Accelerate."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Return whether this process prints and writes for all of them."""
    return os.environ.get("RANK", "0") == "0"


def shutdown() -> None:
    """Close the connections to the other processes."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
