"""The project's named errors."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: what was given, what is allowed. Commands print it and exit with status 2.
    """


def one_line(error: BaseException, *, max_length: int = 200) -> str:
    """Return what an error says in one line: without the path of a file, which the message around it names."""
    text = (error.strerror or "") if isinstance(error, OSError) else ""
    return " ".join((text or str(error)).split())[:max_length] or type(error).__name__
