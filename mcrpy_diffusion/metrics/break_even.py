"""From how many structures on one way of making them is cheaper than another, all costs counted."""

from __future__ import annotations

import math


def break_even(fixed: float, each: float, other_fixed: float, other_each: float) -> int | None:
    """Return the number of structures from which on the first way is cheaper than the other.

    Parameters
    ----------
    fixed, other_fixed : float
        What each way costs before the first structure, such as seconds; finite, at least 0.
    each, other_each : float
        What each structure costs on top, in the same unit; finite, at least 0.

    Returns
    -------
    int or None
        The smallest n of at least 1 with fixed + m each < other_fixed + m other_each for every m from n on; None if
        there is none: where a structure does not cost less than the other way's, unless it costs the same after a
        smaller beginning.

    Raises
    ------
    ValueError
        If a cost is negative or not finite.

    Notes
    -----
    n = floor((fixed - other_fixed) / (other_each - each)) + 1, at least 1.
    """
    costs = (fixed, each, other_fixed, other_each)
    if not all(math.isfinite(cost) and cost >= 0 for cost in costs):
        raise ValueError(f"costs must be finite numbers of at least 0, got {costs}")
    if each >= other_each:
        return 1 if each == other_each and fixed < other_fixed else None

    def is_cheaper(n: int) -> bool:
        return fixed + n * each < other_fixed + n * other_each

    n = max(math.floor((fixed - other_fixed) / (other_each - each)) + 1, 1)
    if n > 1 and is_cheaper(n - 1):  # the quotient was rounded
        return n - 1
    return n if is_cheaper(n) else n + 1
