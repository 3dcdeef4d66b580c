"""The project's named errors."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message is one line: what was given, what is allowed. Commands print it and exit with status 2.
    """
