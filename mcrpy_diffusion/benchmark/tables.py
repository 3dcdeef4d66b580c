"""The two tables of a benchmark, costs and quality, for the console, Markdown and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcrpy_diffusion.runtime.tables import MISSING, markdown_table, number, text_table

NEVER = "never"
SAMPLER_NAMES = {"diffusion_ddim": "DDIM", "diffusion_fast": "fast"}
MIB = 2**20


@dataclass(frozen=True)
class Column:
    """The heading of a column, and what it means."""

    heading: str
    meaning: str


@dataclass(frozen=True)
class Table:
    """Columns, and rows of as many cells; the first cell names the method."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


def cost_table(results: Mapping[str, Any]) -> Table:
    """Costs of each method, and the number of structures from which on diffusion is cheaper."""
    clock = "CPU time" if results["clock"] == "cpu" else "wall time"
    samplers = list(dict.fromkeys(name for each in results["break_even"].values() for name in each))
    columns = [
        Column("method", ""),
        Column("n", "number of structures"),
        Column("s each", f"{clock} of one structure in a warm process, s"),
        Column("data s", "time for the training data, s"),
        Column("training s", "time for the training, s"),
        Column(
            "setup s",
            "time before the first structure, s: program, libraries, characterization or model; for diffusion also "
            "program and libraries of the process that trained the model",
        ),
        Column("MiB", "peak memory of its process; for diffusion of the sampling / of the training"),
        *(
            Column(
                f"{SAMPLER_NAMES[name]} cheaper from",
                f"number of structures from which on {name} costs less than this method, {_counted(results)}",
            )
            for name in samplers
        ),
    ]
    return Table(
        "What they cost", tuple(columns), tuple(_cost_row(results, row, samplers) for row in results["methods"])
    )


def _counted(results: Mapping[str, Any]) -> str:
    """Name the costs of the model that the break-even counts: those of a given model may be unknown."""
    costs = [row["cost"] for row in results["methods"] if row["is_diffusion"] and row["cost"] is not None]
    unknown = [name for name in ("data", "training") if any(cost[name] is None for cost in costs)]
    return {
        (): "data and training counted",
        ("data",): "training counted, data not: their seconds are not known",
        ("training",): "data counted, training not: its seconds are not known",
    }.get(tuple(unknown), "data and training not counted: their seconds are not known")


def _cost_row(results: Mapping[str, Any], row: Mapping[str, Any], samplers: Sequence[str]) -> tuple[str, ...]:
    cost = row["cost"]
    n = str(row["n"]) if row["n"] == row["n_asked"] else f"{row['n']} of {row['n_asked']}"
    if cost is None:
        return (row["method"], n, *("failed" if row["failed"] else MISSING,), *[MISSING] * (4 + len(samplers)))
    memory = [cost["peak_memory"], cost["training_peak_memory"]]
    even = results["break_even"].get(row["method"])
    cheaper = ["" if even is None else NEVER if even[name] is None else str(even[name]) for name in samplers]
    stages = [seconds(cost[name]) if row["is_diffusion"] else "" for name in ("data", "training")]
    return (
        row["method"],
        n,
        seconds(cost["each"]),
        *stages,
        seconds(cost["setup"]),
        " / ".join(f"{value / MIB:.0f}" for value in memory if value is not None),
        *cheaper,
    )


def quality_table(results: Mapping[str, Any]) -> Table:
    """Quality of the structures; below, the mean of as many real crops of the training part."""
    both = "training / held-out part" if results["has_held_out"] else "the reference"
    unseen = "the held-out part" if results["has_held_out"] else "the reference"
    counts = results["counts"]
    columns = (
        Column("method", ""),
        Column("n", "number of structures"),
        Column("volume fraction", f"mean minus that of real crops: {both}; ± the mean absolute difference"),
        Column("eps_S2 %", f"discrepancy of the two-point correlation, eq. (23): {both}"),
        Column("eps_L %", f"discrepancy of the lineal path, eq. (23): {both}"),
        Column("Frechet", f"Frechet distance of VGG-19's features to crops of {unseen}"),
        Column("precision", f"share of the structures that lie among {counts['grid']} crops of {unseen}"),
        Column("recall", f"share of {counts['grid']} crops of {unseen} that lie among the structures"),
        Column(
            "diversity",
            "mean distance to the nearest other structure of the set, under shifts and a half turn, over that of as "
            f"many real crops ({counts['independent']} without a common pixel)",
        ),
        Column("nearest", "smallest pixel MSE between a structure and any position of the training part"),
        Column("copies", "number of exact copies of it"),
    )
    rows = [_quality_row(row["method"], row["n"], row["quality"], results) for row in results["methods"]]
    for n, floor in results["floors"].items():
        rows.append(_quality_row("real crops", int(n), floor, results, fraction="±{:.4f}"))
    return Table("How good they are", columns, tuple(rows))


def _quality_row(
    name: str, n: int, quality: Mapping[str, Any] | None, results: Mapping[str, Any], *, fraction: str = "{:+.4f}"
) -> tuple[str, ...]:
    if quality is None:
        return (name, str(n), *[MISSING] * 9)
    sides = ("seen", "held_out") if results["has_held_out"] else ("seen",)
    copies, diversity = quality["copies"], quality["diversity"]

    def on_both(measure: str, pattern: str) -> str:
        return " / ".join(number(quality[measure][side], pattern) for side in sides)

    return (
        name,
        str(n),
        on_both("volume_fraction", fraction),
        on_both("eps_s2_percent", "{:.1f}"),
        on_both("eps_l_percent", "{:.1f}"),
        number(quality["frechet_distance"], "{:.3g}"),
        number(quality["precision"], "{:.2f}"),
        number(quality["recall"], "{:.2f}"),
        number(None if diversity is None else diversity["relative"], "{:.2f}"),
        number(None if copies is None else copies["minimum_mse"], "{:.3f}"),
        MISSING if copies is None or copies["n_exact"] is None else str(copies["n_exact"]),
    )


def seconds(value: float | None) -> str:
    """Write seconds with two or three digits."""
    return number(value, "{:.0f}" if value is None or value >= 100 else "{:.1f}" if value >= 10 else "{:.2f}")


def plain(table: Table) -> str:
    """Return the table for a console."""
    return text_table([column.heading for column in table.columns], table.rows)


def markdown(table: Table) -> str:
    """Return the table as Markdown, with the meaning of each column below."""
    text = markdown_table([column.heading for column in table.columns], table.rows, align="<>")
    meanings = [f"- {column.heading}: {column.meaning}" for column in table.columns if column.meaning]
    return "\n".join([f"## {table.title}", "", text, "", *meanings])
