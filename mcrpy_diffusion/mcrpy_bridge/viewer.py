"""MCRpy's viewer with matplotlib 3.9 and later."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def single_points() -> Iterator[None]:
    """Let `Line2D.set_data` take single numbers, as MCRpy 0.2.0's viewer does and matplotlib 3.9 no longer allows."""
    import numpy as np
    from matplotlib.lines import Line2D

    original = Line2D.set_data

    def set_data(self: Line2D, *values: Any) -> None:
        original(self, *(np.atleast_1d(value) if len(values) == 2 else value for value in values))

    setattr(Line2D, "set_data", set_data)  # noqa: B010
    try:
        yield
    finally:
        setattr(Line2D, "set_data", original)  # noqa: B010
