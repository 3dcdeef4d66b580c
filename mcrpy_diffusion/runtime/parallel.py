"""Several processes, on one machine or many: started by `accelerate launch`, joined by Hugging Face Accelerate."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelerate import Accelerator


def make_accelerator(device: str | None = None) -> Accelerator:
    """Join the processes that `accelerate launch` started; a process started otherwise is alone.

    Parameters
    ----------
    device : str, optional
        "cuda" or "cpu"; the first where there is one.
    """
    import torch
    from accelerate import Accelerator

    cpu = device == "cpu" or not torch.cuda.is_available()
    return Accelerator(cpu=cpu, mixed_precision="no")  # the training chooses its precision itself


def count() -> int:
    """Number of processes that work together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the process that speaks for all."""
    return os.environ.get("RANK", "0") == "0"


def leave() -> None:
    """Take leave of the other processes, at the end of a command."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def wanted_processes(command_line: list[str], environment: dict[str, str]) -> int:
    """How many processes `accelerate launch` was asked for where it started one only; else 1.

    Without a graphics card Accelerate (1.15) starts a single process whatever --num_processes says, unless MPI is
    there; it then sets MASTER_ADDR, but no WORLD_SIZE.

    Parameters
    ----------
    command_line : list of str
        That of the parent process.
    environment : dict
    """
    alone = "MASTER_ADDR" in environment and "WORLD_SIZE" not in environment
    if not alone or "ACCELERATE_MIXED_PRECISION" not in environment:
        return 1
    for i, word in enumerate(command_line):
        name, _, value = word.replace("-", "_").partition("=")
        if name in ("__num_processes", "_n"):
            number = value or (command_line[i + 1] if i + 1 < len(command_line) else "")
            return int(number) if number.isdigit() else 1
    return 1


def start_the_others(arguments: list[str]) -> int | None:
    """Where `accelerate launch` started one process of several, let torchrun start them all and wait for them.

    Parameters
    ----------
    arguments : list of str
        Those of the command `mcrpy_diffusion`.

    Returns
    -------
    int or None
        Exit status of the processes; None where nothing was to be done.
    """
    if "MASTER_ADDR" not in os.environ or "WORLD_SIZE" in os.environ:
        return None
    import subprocess

    import psutil

    parent = psutil.Process().parent()
    number = wanted_processes(parent.cmdline() if parent is not None else [], dict(os.environ))
    if number == 1:
        return None
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={number}", "-m", "mcrpy_diffusion"]
    environment = {k: v for k, v in os.environ.items() if k not in ("MASTER_ADDR", "MASTER_PORT")}
    return subprocess.run([sys.executable, *launch, *arguments], env=environment).returncode
