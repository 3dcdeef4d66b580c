"""Text tables: aligned columns, and cells in Markdown."""

from mcrpy_diffusion.runtime.tables import MISSING, markdown_table, number, text_table

HEAD = ("method", "s", "n")
ROWS = [("diffusion", "0.1", "1000"), ("a", "20", "")]


def test_columns_of_text() -> None:
    lines = text_table(HEAD, ROWS).splitlines()
    assert lines == ["method       s     n", "-" * 20, "diffusion  0.1  1000", "a           20"]
    lines = text_table(HEAD, ROWS, align="<", min_widths=(10, 5)).splitlines()
    assert lines[2] == "diffusion   0.1    1000"
    assert text_table(HEAD, []).splitlines()[1] == "-" * 12


def test_markdown() -> None:
    assert markdown_table(HEAD, ROWS, align="<>").splitlines() == [
        "| method | s | n |",
        "| --- | --: | --: |",
        "| diffusion | 0.1 | 1000 |",
        "| a | 20 |  |",
    ]


def test_a_missing_number() -> None:
    assert [number(0.126, "{:.2f}"), number(None, "{:.2f}")] == ["0.13", MISSING]
