"""Evaluation -> the closing table of the console."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from mcrpy_diffusion.evaluation.results import Evaluation
from mcrpy_diffusion.reports.rows import BASIC_GROUP, COPY_GROUP, FEATURE_GROUP, REQUEST_GROUP, groups
from mcrpy_diffusion.reports.sentences import counts, notes, star, verdict, warnings
from mcrpy_diffusion.runtime.tables import text_table

WIDTH = 100  # characters of a line at most
HEAD = ("generated against", "original", "held-out part", "floor (95 %)")


def console_table(evaluation: Evaluation, seconds: Mapping[str, float], *, full: bool = False) -> str:
    """Return the closing table of the console.

    Parameters
    ----------
    evaluation : Evaluation
    seconds : mapping
        Stage -> seconds.
    full : bool
        Whether all measures of the report are in it, or the most important ones.

    Returns
    -------
    str
        Lines of at most 100 characters without the last line's end.
    """
    found = groups(evaluation)
    features = found.get(FEATURE_GROUP, [])
    important = [*found.get(REQUEST_GROUP, []), *found[BASIC_GROUP], *features, found[COPY_GROUP][0]]
    rows = [row for each in found.values() for row in each] if full else important
    # the floor of a measure by features says less than its interval
    cells = [(r.name, r.with_interval if r in features else r.marked, r.held_out, r.floor) for r in rows]
    times = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    before, after = (verdict(evaluation), *warnings(evaluation)), (star(rows), *notes(evaluation), counts(evaluation))
    return "\n".join(
        [
            *_wrapped(before),
            text_table(HEAD, cells, min_widths=(0, 16, 16, 16)),
            *_wrapped(after),
            f"seconds: {times}, together {sum(seconds.values()):.1f}",
        ]
    )


def _wrapped(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in textwrap.wrap(text, WIDTH)]
