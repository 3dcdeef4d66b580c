"""Exit statuses and messages of the commands."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator

from mcrpy_diffusion.errors import InputError

DONE, WRONG_INPUT, INTERRUPTED = 0, 2, 130
MAX_MESSAGE = 4000  # characters
CONTINUES = "stopped; the same command continues"


class CurrentStderr(logging.StreamHandler):
    """Writes log records to the current `sys.stderr`."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        self.stream = sys.stderr
        super().emit(record)


@contextlib.contextmanager
def messages_of(logger_name: str) -> Iterator[None]:
    """Show the log messages of a module on stderr, for example the memory that a training needs."""
    with logged_by(CurrentStderr(), "%(message)s", logging.getLogger(logger_name)):
        yield


@contextlib.contextmanager
def logged_by(handler: logging.Handler, form: str, logger: logging.Logger, level: int = logging.INFO) -> Iterator[None]:
    """Attach a handler to a logger, with a format and a level, within this context; then close the handler."""
    handler.setFormatter(logging.Formatter(form))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        handler.close()


def run(function: Callable[[], int | None], *, stopped: str = CONTINUES) -> int:
    """Call a command's function and return its exit status.

    Parameters
    ----------
    function : callable
        Returns an exit status, or None for success.
    stopped : str
        Message after Ctrl-C.

    Returns
    -------
    int
        0 done; 2 wrong input: an `InputError`, or an `OSError` of a file (name, permissions, disk space); 130 stopped
        by Ctrl-C. For 2 and 130, one line is printed on stderr. Other errors are bugs and are raised.
    """
    try:
        return function() or DONE
    except InputError as error:
        say_error(f"error: {error}")
        return WRONG_INPUT
    except OSError as error:
        if error.filename is None:
            raise
        say_error(f"error: {error.filename}: {error.strerror}")
        return WRONG_INPUT
    except KeyboardInterrupt:
        say_error(stopped)
        return INTERRUPTED


def say_error(message: str) -> None:
    """Print one line on stderr, after flushing stdout."""
    sys.stdout.flush()
    print(printable(" ".join(message.split())), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Escape control characters, which untrusted files can contain, and shorten long texts."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
    return shown if len(shown) <= MAX_MESSAGE else f"{shown[: MAX_MESSAGE // 2]} ... {shown[-MAX_MESSAGE // 2 :]}"
