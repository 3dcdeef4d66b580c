"""Seconds and hardware of each step, in a file beside its results; seconds add up over stops."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mcrpy_diffusion.io.files import make_folder, write_json

RECORD = "record.json"


@contextlib.contextmanager
def timed(folder: Path, step: str) -> Iterator[None]:
    """Add the seconds of a step to those of earlier calls, and note the hardware."""
    started = time.monotonic()
    try:
        yield
    finally:
        steps = read_record(folder)
        seconds = steps.get(step, {}).get("seconds", 0.0) + time.monotonic() - started
        write_json(make_folder(folder) / RECORD, steps | {step: {"seconds": round(seconds, 1), "hardware": hardware()}})


def read_record(folder: Path) -> dict[str, dict[str, Any]]:
    """Return seconds and hardware by step; empty without a record."""
    try:
        found = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def hardware() -> str:
    """Name the graphics card, or the processor with its cores and the threads that PyTorch uses."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = "" if torch is None else f", threads: {torch.get_num_threads()}"
    return f"{_processor()}, {cores} cores{threads}"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
