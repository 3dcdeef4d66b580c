"""Text tables: aligned columns for a console, or Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MISSING = "–"
"""Cell of a value that was not measured."""


def number(value: float | None, pattern: str) -> str:
    """Return a number formatted by `pattern`, such as "{:.2f}", or `MISSING` if it is None."""
    return MISSING if value is None else pattern.format(value)


def text_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, align: str = "<>", min_widths: Sequence[int] = ()
) -> str:
    """Return a table in aligned columns, with a rule below the head.

    Parameters
    ----------
    head : sequence of str
    rows : iterable of sequences of str
        Each as long as `head`.
    align : str
        "<" (left) or ">" (right) for each column; the last one applies to all further columns.
    min_widths : sequence of int
        Minimum widths of the first columns in characters.
    """
    lines = [tuple(head), *map(tuple, rows)]
    least = (*min_widths, *[0] * len(head))
    widths = [max(width, *map(len, column)) for width, column in zip(least, zip(*lines))]
    sides = _sides(align, len(head))
    text = ["  ".join(f"{c:{side}{width}}" for c, side, width in zip(line, sides, widths)).rstrip() for line in lines]
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:]])


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, align: str = "<") -> str:
    """Return a table in Markdown; parameters as in `text_table`."""
    rule = ["---" if side == "<" else "--:" for side in _sides(align, len(head))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *rows))


def _sides(align: str, n_columns: int) -> str:
    return align + align[-1] * (n_columns - len(align))
