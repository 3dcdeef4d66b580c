"""The information bar that microscopes write below an image: found to be pointed out, never cut off silently."""

from __future__ import annotations

import numpy as np

from mcrpy_diffusion.data.levels import few_levels

MIN_ROWS, MIN_SHARE, MAX_SHARE = 8, 0.02, 0.35
"""Height of a bar in rows, and as a share of all rows."""
MIN_UNIFORM = 0.4
"""Share of a row of a bar that has a single grey value, the bar's background."""
MAX_TEXT_ROWS = 4
"""Successive rows of a bar in which text or lines hide the background."""


def bar_rows(values: np.ndarray) -> int:
    """Return how many rows at the bottom look like an information bar; 0 if none do.

    Parameters
    ----------
    values : (I, J)
        Grey values or levels.

    Notes
    -----
    In the rows of a bar, one grey value fills a large part of the row, at least twice as much as in the image above. In
    an image of few levels, where whole rows may be of one phase, the rows must be constant, and at least three times as
    many as such rows anywhere else.
    """
    n_rows = len(values)
    shares = np.array([np.unique(row, return_counts=True)[1].max() for row in values]) / values.shape[1]
    if few_levels(values) is not None:
        runs = _runs(shares == 1)
        if not runs or runs[-1][1] != n_rows:
            return 0
        *others, (first, _) = runs
        height = n_rows - first
        return height if _is_bar(height, n_rows) and height >= 3 * max((b - a for a, b in others), default=0) else 0
    uniform = shares >= MIN_UNIFORM
    first, n_text = n_rows, 0
    for row in range(n_rows - 1, -1, -1):
        n_text = 0 if uniform[row] else n_text + 1
        if n_text > MAX_TEXT_ROWS:
            break
        first = row if uniform[row] else first
    height = n_rows - first
    if not _is_bar(height, n_rows):
        return 0
    return height if np.median(shares[first:]) >= 2 * np.median(shares[:first]) else 0


def _is_bar(height: int, n_rows: int) -> bool:
    return height >= max(MIN_ROWS, MIN_SHARE * n_rows) and height <= MAX_SHARE * n_rows


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Return the first row of each run of True, and the row after its last one."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
