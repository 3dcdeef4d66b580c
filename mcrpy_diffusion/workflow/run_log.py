"""The log file of a run, and the seconds of its stages."""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import time
from collections.abc import Iterator

from mcrpy_diffusion.io.files import write_json
from mcrpy_diffusion.io.untrusted import read_json, reject_symlinks
from mcrpy_diffusion.runtime.console import logged_by
from mcrpy_diffusion.workflow.match_plan import Plan

log = logging.getLogger("mcrpy_diffusion")


@contextlib.contextmanager
def log_file(plan: Plan) -> Iterator[None]:
    """Send the log of this package to <data_folder>/<logfile_name>.log."""
    path = plan.folder / f"{plan.logfile_name}.log"
    reject_symlinks(path)
    with logged_by(logging.FileHandler(path), "%(asctime)s on %(levelname)s: %(message)s", log, plan.logging_level):
        yield


def log_environment() -> None:
    """Log how the environment was set up for MCRpy, if that was imported before the log file was opened."""
    if "mcrpy" in sys.modules:
        from mcrpy_diffusion.mcrpy_bridge.environment import notes

        for line in notes():
            log.info("%s", line)


@contextlib.contextmanager
def stage(plan: Plan, name: str) -> Iterator[None]:
    """Log a stage and add its seconds to those of earlier runs in the same folder."""
    log.info("%s: start", name)
    started = time.monotonic()
    try:
        yield
    finally:
        seconds = read_timings(plan)
        seconds[name] = round(seconds.get(name, 0.0) + time.monotonic() - started, 1)
        with contextlib.suppress(OSError):
            write_json(plan.path("seconds.json"), seconds)
        log.info("%s: %.1f s in all", name, seconds[name])


def read_timings(plan: Plan) -> dict[str, float]:
    """Seconds of each stage so far; empty where the file cannot be read."""
    try:
        seconds = {str(k): float(v) for k, v in read_json(plan.path("seconds.json")).items()}
        return {k: v for k, v in seconds.items() if math.isfinite(v)}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError):
        return {}


def say(line: str) -> None:
    """Print a line and log it."""
    print(line, flush=True)
    log.info("%s", line)
