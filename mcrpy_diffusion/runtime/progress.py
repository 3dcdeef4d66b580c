"""Progress of long tasks: a tqdm bar on a terminal, one line per minute in the log."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any

LOG_EVERY_SECONDS = 60.0
LINE_EVERY_SECONDS = 0.5
_lines = False


@contextlib.contextmanager
def as_lines() -> Iterator[None]:
    """Print progress as lines "Iteration i of n", which MCRpy's GUI reads, within this context."""
    global _lines
    before, _lines = _lines, True
    try:
        yield
    finally:
        _lines = before


class Progress:
    """A bar with rate and remaining time, as a context manager.

    Parameters
    ----------
    total : int
    description : str
    initial : int
        Number of units done before this run.
    unit : str
    silent : bool
        Whether to show and log nothing, as in all processes except the main one.
    """

    def __init__(
        self, total: int, description: str, *, initial: int = 0, unit: str = "it", silent: bool = False
    ) -> None:
        from tqdm import tqdm

        self.total, self.description, self.done, self.initial = total, description, initial, initial
        self._log = logging.getLogger("mcrpy_diffusion")
        self._started = self._logged = self._printed = time.monotonic()
        self.silent = silent
        disable = silent or _lines or not sys.stderr.isatty()
        self._bar = tqdm(total=total, desc=description, initial=initial, unit=unit, disable=disable, leave=True)

    def update(self, n: int = 1, **facts: Any) -> None:
        """Advance by n units; facts are shown after the bar."""
        self.done += n
        if facts:
            self._bar.set_postfix(facts, refresh=n == 0)  # an update by 0 does not redraw the bar
        self._bar.update(n)
        now = time.monotonic()
        if self.silent:
            return
        if _lines and (now - self._printed >= LINE_EVERY_SECONDS or self.done == self.total):
            self._printed = now
            with contextlib.suppress(OSError):  # a closed window must not stop the task
                print(f"Iteration {self.done} of {self.total} : {self.description}, {self._rate(**facts)}", flush=True)
        if now - self._logged >= LOG_EVERY_SECONDS or (self.done == self.total and n):
            self._logged = now
            self._log.info("%s", self.line(**facts))

    def line(self, **facts: Any) -> str:
        """Return the progress as one line."""
        return f"{self.description}: {self.done} of {self.total}, {self._rate(**facts)}"

    def _rate(self, **facts: Any) -> str:
        seconds = time.monotonic() - self._started
        rate = (self.done - self.initial) / seconds if seconds > 0 else 0.0
        left = f"{(self.total - self.done) / rate:.0f} s left" if rate > 0 else "time left unknown"
        extra = "".join(f", {k} {v}" for k, v in facts.items())
        return f"{rate:.3g} a second, {left}{extra}"

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._bar.close()
