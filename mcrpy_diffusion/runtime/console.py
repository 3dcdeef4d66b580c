"""From errors to exit statuses, for every command of the package."""

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
    """Shows log records on whatever stderr is at the time."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show a record."""
        self.stream = sys.stderr
        super().emit(record)


@contextlib.contextmanager
def messages_of(logger_name: str) -> Iterator[None]:
    """Show on stderr what a stage says of its run, such as the memory it needs."""
    with logged_by(CurrentStderr(), "%(message)s", logging.getLogger(logger_name)):
        yield


@contextlib.contextmanager
def logged_by(handler: logging.Handler, form: str, logger: logging.Logger, level: int = logging.INFO) -> Iterator[None]:
    """Give a logger a handler, the form of its lines and a level for a while; afterwards the handler is closed."""
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
        Does the work; returns an exit status, or None for done.
    stopped : str
        What is said after Ctrl-C.

    Returns
    -------
    int
        0 done, 2 wrong input (`InputError`, or a file that the system refuses: its name, the rights, the room on the
        disk), 130 stopped by Ctrl-C; the latter two with one line on stderr. Any other error is a fault of the program
        and passes through.
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
    """Print one line on stderr, after everything that went to stdout."""
    sys.stdout.flush()
    print(printable(" ".join(message.split())), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Return one line in which no character steers the terminal; names and values of strangers can hold such ones."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text)
    return shown if len(shown) <= MAX_MESSAGE else f"{shown[: MAX_MESSAGE // 2]} ... {shown[-MAX_MESSAGE // 2 :]}"
