"""Figures of a benchmark: costs, statistics and Frechet distance of each method."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator

from mcrpy_diffusion.io.files import write_file
from mcrpy_diffusion.reports.diagrams import LIGHT, diagram, new_figure, png, style_axes


def benchmark_pictures(results: Mapping[str, Any], path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """Draw the total cost over the number of structures, and the quality of each method.

    Parameters
    ----------
    results : mapping
        The content of benchmark.json.
    path : path
        PNG file of all; the returned pictures are for the page.

    Returns
    -------
    list of dict
        `light`, `dark` (data URIs), `alt`, `caption`: the cost, the statistics and, if measured, the Frechet
        distance.
    """
    panels = [
        (
            _draw_cost,
            f"Total cost over the number of structures, a line for each method. {_crossings(results)}",
            "Data and training, as far as known, and start counted. Circles: diffusion is cheaper from there on.",
        ),
        (
            _draw_discrepancies,
            "eps_S2 and eps_L of each method in percent, as in the table.",
            "Distance of the statistics from the real ones, smaller is better. Dashed: what as many real crops of the "
            "part that was seen get.",
        ),
    ]
    if any(row["quality"]["frechet_distance"] is not None for row in _with(results, "quality")):
        caption = "Distance of the distributions of VGG-19's features. Dashed, as before."
        panels.append((_draw_frechet, "Frechet distance of each method, as in the table.", caption))
    height = 3 + 0.3 * len(results["methods"])
    figure = new_figure((6 * len(panels), height), dpi=110)
    for ax, (draw, _, _) in zip(figure.subplots(1, len(panels)), panels):
        draw(ax, results, colours=LIGHT)
    write_file(path, png(figure))
    return [
        diagram(partial(draw, results=results), alt=alt, caption=caption, size=(6.2, height), dpi=130)
        for draw, alt, caption in panels
    ]


BENCHMARK_STYLES = (("#0072b2", "-"), ("#d55e00", "--"), ("#009e73", "-."), ("#cc79a7", ":"), ("#e69f00", "-"))
"""Styles of MCRpy's methods, in colours of Okabe and Ito; diffusion has a thicker line in the colour of the text."""


def _with(results: Mapping[str, Any], part: str) -> list[Mapping[str, Any]]:
    return [row for row in results["methods"] if row[part] is not None]


def _draw_cost(ax: Axes, results: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    """Draw fixed + n each of every method, and where diffusion becomes cheaper."""
    rows = _with(results, "cost")
    points = [n for each in results["break_even"].values() for n in each.values() if n is not None]
    last = 10 ** np.ceil(np.log10(max([100, *(row["n"] for row in rows), *(3 * n for n in points)])))
    n = np.unique(np.round(np.geomspace(1, last, 200)))
    styles, inks = iter(BENCHMARK_STYLES), iter(("-", "--"))
    for row in rows:
        colour, style = (colours["ink"], next(inks)) if row["is_diffusion"] else next(styles)
        fixed, each = row["cost"]["fixed"], row["cost"]["each"]
        width = 2.6 if row["is_diffusion"] else 1.6
        ax.plot(n, fixed + n * each, style, color=colour, linewidth=width, label=row["title"])
        for point in results["break_even"].get(row["method"], {}).values():
            if point is not None:
                ax.plot(point, fixed + point * each, "o", color=colour, markersize=7)
    clock = "processor seconds" if results["clock"] == "cpu" else "seconds"
    ax.set(xscale="log", yscale="log", xlabel="number of structures", ylabel=f"{clock} in all", xlim=(1, last))
    for axis in (ax.xaxis, ax.yaxis):
        _write_plain_numbers(axis)
    ax.grid(alpha=0.25)
    style_axes(ax, "Total cost", colours)
    ax.legend(frameon=False, labelcolor=colours["ink"], fontsize=8)


def _draw_discrepancies(ax: Axes, results: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    """Draw eps_S2 and eps_L of every method."""
    side = "held_out" if results["has_held_out"] else "seen"
    for key, name, mark, ink in (
        ("eps_s2_percent", "eps_S2", "o", "generated"),
        ("eps_l_percent", "eps_L", "s", "held_out"),
    ):
        values = [row["quality"][key][side] for row in _with(results, "quality")]
        floors = [floor[key][side] for floor in results["floors"].values()]
        _draw_marks(ax, values, floors, mark, colours[ink], name)
    unseen = "the part that none saw" if results["has_held_out"] else "the reference"
    _name_rows(ax, results, colours, f"Statistics, against {unseen}", "discrepancy in %")


def _draw_frechet(ax: Axes, results: Mapping[str, Any], colours: Mapping[str, str]) -> None:
    """Draw the Frechet distance of every method."""
    values = [row["quality"]["frechet_distance"] for row in _with(results, "quality")]
    floors = [floor["frechet_distance"] for floor in results["floors"].values()]
    _draw_marks(ax, values, floors, "D", colours["generated"], "Frechet distance")
    _name_rows(ax, results, colours, "Features, against crops of the same", "Frechet distance (VGG-19)")


def _draw_marks(
    ax: Axes, values: Sequence[float | None], floors: Sequence[float | None], mark: str, colour: str, name: str
) -> None:
    """Draw a value in each row, and the floors across all."""
    points = [(value, i) for i, value in enumerate(values) if value is not None]
    if points:
        ax.plot(*zip(*points), mark, color=colour, label=name, markersize=8)
    for floor in floors:
        if floor is not None:
            ax.axvline(floor, color=colour, linestyle="--", linewidth=1.2)


def _name_rows(ax: Axes, results: Mapping[str, Any], colours: Mapping[str, str], title: str, x_label: str) -> None:
    """Write the methods beside their rows, the first on top."""
    rows = _with(results, "quality")
    ax.set_yticks(range(len(rows)), [f"{row['method']} ({row['n']})" for row in rows])
    ax.set(ylim=(len(rows) - 0.5, -0.5), xscale="log", xlabel=x_label)
    _write_plain_numbers(ax.xaxis)
    ax.grid(axis="x", alpha=0.25)
    style_axes(ax, title, colours)


def _write_plain_numbers(axis: Axis) -> None:
    """Write 1, 2, 5, 10 ... on a logarithmic axis, or 1, 10, 100 ... on one of many decades."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 2000 * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def _crossings(results: Mapping[str, Any]) -> str:
    """Describe where the lines cross."""
    return " ".join(
        f"{sampler} is cheaper than {method} " + ("at no number." if n is None else f"from {n} on.")
        for method, each in results["break_even"].items()
        for sampler, n in each.items()
    )
