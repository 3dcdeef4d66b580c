"""Pictures of structures and of their statistics: PNG files, and data URIs for the report."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from PIL import Image

from mcrpy_diffusion.evaluation.copies import Pair
from mcrpy_diffusion.io.files import write_atomically

MEASURES = {"two_point_correlation": ("S2", "two-point correlation"), "lineal_path": ("L", "lineal path")}
SET_NAMES = {"original": "original", "generated": "generated", "held_out": "held-out part"}
N_COLUMNS = 8
MAX_SHOWN = 16  # structures of each kind on the contact sheet
FRAME_COLOUR = (120, 160, 190)  # neither black nor white: the edges of white regions stay visible

# Okabe and Ito's colours, which colour-blind readers can tell apart; line styles say the same a second time.
LIGHT = {"paper": "#ffffff", "ink": "#1b1f24", "generated": "#0072b2", "original": "#1b1f24", "held_out": "#d55e00"}
DARK = {"paper": "#14171a", "ink": "#e6e8ea", "generated": "#56b4e9", "original": "#e6e8ea", "held_out": "#e69f00"}
LINE_STYLES = {"original": "-", "generated": "--", "held_out": ":"}


def contact_sheet(original: np.ndarray | None, generated: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Draw originals above, where there are any, and generated structures below, as a PNG file.

    Parameters
    ----------
    original, generated : (N, I, J) or None, (M, I, J)
        Integer phases or grey values in [0, 1]; the first `MAX_SHOWN` of each are drawn, phase 0 black and the last
        phase white.
    path : path
        File to write.
    """
    sets = {"Generated": generated} if original is None else {"Original": original, "Generated": generated}
    n_phases = 0 if generated.dtype.kind == "f" else int(max(images.max() for images in sets.values())) + 1
    n_columns = min(max(map(len, sets.values())), N_COLUMNS)
    levels = [_grey_levels(images[:MAX_SHOWN], max(n_phases, 2)) for images in sets.values()]
    sheets = [_mosaic(pixels, n_columns) for pixels in levels]
    heights = [sheet.shape[0] / sheet.shape[1] for sheet in sheets]
    figure = Figure(figsize=(10, 10 * sum(heights) + 0.8), dpi=120, facecolor=LIGHT["paper"], layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(sets), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, sheet, (name, images) in zip(axes, sheets, sets.items()):
        ax.imshow(sheet, interpolation="nearest")
        ax.set_title(f"{name} ({min(len(images), MAX_SHOWN)} of {len(images)})", loc="left", fontsize=12)
        ax.set_axis_off()
    png = _png(figure)
    write_atomically(path, lambda file: file.write(png))


def statistics_figure(metrics: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw S2(r) and L(r), mean and spread of each set, one row per phase, as a PNG file.

    Parameters
    ----------
    metrics : mapping
        What `evaluate` returned.
    path : path
        File to write.
    """
    phases = _phases(metrics)
    size = (10, 3.9 * len(phases))
    figure = Figure(figsize=size, dpi=120, facecolor=LIGHT["paper"], layout="constrained")
    FigureCanvasAgg(figure)
    for row, phase in zip(figure.subplots(len(phases), 2, squeeze=False), phases):
        for ax, measure in zip(row, MEASURES):
            _draw_curves(ax, metrics, phase, measure, LIGHT)
    png = _png(figure)
    write_atomically(path, lambda file: file.write(png))


def _phases(metrics: Mapping[str, Any]) -> list[str]:
    return [key for key in metrics["curves"] if key != "distance"]


def _draw_curves(ax: Axes, metrics: Mapping[str, Any], phase: str, measure: str, colours: Mapping[str, str]) -> None:
    """Draw the curves of one measure and phase: lines are means, bands hold 80 % of the structures."""
    symbol, name = MEASURES[measure]
    distance = metrics["curves"]["distance"]
    for key, curve in metrics["curves"][phase][measure].items():
        label = f"{SET_NAMES[key]} ({metrics['n_images'][key]})"
        ax.plot(distance, curve["mean"], LINE_STYLES[key], color=colours[key], label=label, linewidth=1.8)
        if key != "held_out":
            ax.fill_between(distance, curve["low"], curve["high"], color=colours[key], alpha=0.18, linewidth=0)
    ax.set(xlabel="r in pixels", ylabel=f"{symbol}(r)", xlim=(0, distance[-1]))
    ax.set_ylim(bottom=0)
    title = f"{name.capitalize()}, phase {phase}" if len(_phases(metrics)) > 1 else name.capitalize()
    _dress(ax, title, colours)


def _dress(ax: Axes, title: str, colours: Mapping[str, str]) -> None:
    """Give a diagram its title, colours and legend."""
    ax.set_title(title, loc="left", color=colours["ink"], fontsize=11)
    ax.set_facecolor(colours["paper"])
    ax.tick_params(colors=colours["ink"])
    for part in (ax.xaxis.label, ax.yaxis.label):
        part.set_color(colours["ink"])
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["bottom", "left"]].set_color(colours["ink"])
    ax.legend(frameon=False, labelcolor=colours["ink"], fontsize=9)


def curve_pictures(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Draw each curve for light and for dark screens."""
    low_high = "the bands hold the middle 80 % of the structures"
    pictures = []
    for phase in _phases(metrics):
        for measure, (symbol, name) in MEASURES.items():
            drawn = {}
            for scheme, colours in (("light", LIGHT), ("dark", DARK)):
                figure = Figure(figsize=(5, 3.6), dpi=150, facecolor=colours["paper"], layout="constrained")
                FigureCanvasAgg(figure)
                _draw_curves(figure.subplots(), metrics, phase, measure, colours)
                drawn[scheme] = _data_uri(_png(figure))
            sets = ", ".join(SET_NAMES[key] for key in metrics["curves"][phase][measure])
            value = metrics.get("phases", {}).get(phase, metrics)[measure]["discrepancy_percent"]
            differ = (
                "Their discrepancy is not known" if value is None else f"Generated and original differ by {value:.2g} %"
            )
            alt = f"{symbol} of phase {phase} over the distance r: {sets}. {differ}."
            caption = f"{symbol}(r), {name} of phase {phase}: lines are means over all structures, {low_high}."
            pictures.append({**drawn, "alt": alt, "caption": caption})
    return pictures


def structure_pictures(name: str, images: np.ndarray, n_phases: int, labels: Sequence[str]) -> dict[str, Any]:
    """Return the pictures of a set with labels and alternative texts."""
    shown = _grey_levels(images[:MAX_SHOWN], max(n_phases, 2))
    pictures = []
    for label, pixels, values in zip(labels, shown, images):
        level = f"volume fraction {np.mean(values == 1):.3f}" if n_phases == 2 else f"mean value {values.mean():.3f}"
        height, width = pixels.shape
        alt = f"{name} structure, {label}, {level}"
        data = _data_uri(_grey_png(pixels))
        pictures.append({"data": data, "alt": alt, "label": label, "width": width, "height": height})
    return {"title": f"{name} ({len(pictures)} of {len(images)})", "images": pictures}


def pair_pictures(pairs: Sequence[Pair], n_phases: int, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return pictures of the closest pairs: generated, nearest training structure, and where they differ.

    Parameters
    ----------
    pairs : sequence of Pair
        Those of `evaluate_copies.pairs_of`.
    n_phases : int
        Number of phases, 0 for grey values.
    labels : sequence of str
        The name of each generated structure.

    Returns
    -------
    list of dict
        `label`, `found` and `images`: three of `data`, `alt`, `caption`, `width`, `height`.
    """
    rows = []
    for pair in pairs:
        share = _share_of_difference(pair.distance, n_phases)
        shown = [_grey_levels(each[None], max(n_phases, 2))[0] for each in (pair.generated, pair.training)]
        shown.append(_grey_levels(np.sqrt(pair.local_error)[None], 2)[0])
        label = labels[pair.generated_index]
        alts = [f"Generated structure, {label}", f"Nearest training structure, {pair.found}"]
        alts.append(f"Map of where the two differ: {share}")
        captions = ("generated", "training", "difference")
        images = [
            {"data": _data_uri(_grey_png(p)), "alt": alt, "caption": c, "width": p.shape[1], "height": p.shape[0]}
            for p, alt, c in zip(shown, alts, captions)
        ]
        rows.append({"label": f"{label}: {share}", "found": pair.found, "images": images})
    return rows


def _share_of_difference(distance: float, n_phases: int) -> str:
    return (
        f"mean squared difference {distance:.4f}" if n_phases == 0 else f"{100 * distance:.1f} % of the pixels differ"
    )


def histogram_pictures(
    histogram: Mapping[str, Any], names: Mapping[str, str], *, title: str, x_label: str, alt: str, caption: str
) -> dict[str, str]:
    """Draw a histogram of several sets on common bins for light and for dark screens.

    Parameters
    ----------
    histogram : mapping
        `edges` (n + 1,), and for each key of `names` the shares (n,) in each bin.
    names : mapping
        The legend of each set: the first is drawn filled with a solid line, the second hatched with a dashed one.
    title, x_label, alt, caption : str
        Texts.

    Returns
    -------
    dict
        `light` and `dark`, data URIs; `alt`, `caption`.
    """
    drawn = {}
    for scheme, colours in (("light", LIGHT), ("dark", DARK)):
        figure = Figure(figsize=(5, 3.6), dpi=150, facecolor=colours["paper"], layout="constrained")
        FigureCanvasAgg(figure)
        ax = figure.subplots()
        styles = zip(names.items(), ("original", "generated"), (None, "////"))
        for (key, label), kind, hatch in styles:
            share, edges, colour = 100 * np.array(histogram[key]), histogram["edges"], colours[kind]
            if hatch is None:
                ax.stairs(share, edges, fill=True, color=colour, alpha=0.25, linewidth=0)
            else:
                ax.stairs(share, edges, fill=True, facecolor="none", edgecolor=colour, hatch=hatch, linewidth=0)
            ax.stairs(share, edges, color=colour, linestyle=LINE_STYLES[kind], linewidth=1.8, label=label)
        ax.set(xlabel=x_label, ylabel="share in %")
        _dress(ax, title, colours)
        drawn[scheme] = _data_uri(_png(figure))
    return {**drawn, "alt": alt, "caption": caption}


def _grey_levels(images: np.ndarray, n_phases: int) -> np.ndarray:
    """Return 8-bit grey levels: phase 0 black, the last white; grey values 0 to 1 likewise."""
    top = 1.0 if images.dtype.kind == "f" else n_phases - 1
    return np.rint(np.clip(images / top, 0, 1) * 255).astype(np.uint8)


def _mosaic(pixels: np.ndarray, n_columns: int) -> np.ndarray:
    """Lay images (N, I, J) on rows of `n_columns`, each in a frame: (rows, columns, 3) RGB."""
    n, height, width = pixels.shape
    frame = max(round(0.03 * width), 1)
    row_step, column_step = height + frame, width + frame
    sheet = np.full((-(-n // n_columns) * row_step + frame, n_columns * column_step + frame, 3), 255, dtype=np.uint8)
    for i, image in enumerate(pixels):
        top, left = (i // n_columns) * row_step, (i % n_columns) * column_step
        sheet[top : top + height + 2 * frame, left : left + width + 2 * frame] = FRAME_COLOUR
        sheet[top + frame : top + row_step, left + frame : left + column_step] = image[..., None]
    return sheet


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _grey_png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def study_figure(study: Mapping[str, Any], measures: Mapping[str, str], path: str | os.PathLike[str]) -> None:
    """Draw each measure over the number of sampling steps, one line per sampler, as a PNG file.

    Parameters
    ----------
    study : mapping
        `rows` with `sampler`, `n_steps` and the measures.
    measures : mapping
        Keys of the measures, and what they are called.
    path : path
        File to write.
    """
    samplers = list(dict.fromkeys(row["sampler"] for row in study["rows"]))
    n_columns = min(len(measures), 3)
    n_rows = -(-len(measures) // n_columns)
    figure = Figure(figsize=(4 * n_columns, 3.2 * n_rows), dpi=120, facecolor=LIGHT["paper"], layout="constrained")
    FigureCanvasAgg(figure)
    styles = list(zip(("generated", "held_out", "original"), ("o-", "s--", "^:")))
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for ax, (key, name) in zip(axes, measures.items()):
        for sampler, (colour, style) in zip(samplers, styles):
            rows = [row for row in study["rows"] if row["sampler"] == sampler]
            ax.plot([r["n_steps"] for r in rows], [r[key] for r in rows], style, color=LIGHT[colour], label=sampler)
        ax.set(xscale="log", xlabel="sampling steps", title=name)
        ax.grid(alpha=0.3)
    for ax in axes[len(measures) :]:
        ax.set_axis_off()
    axes[0].legend()
    png = _png(figure)
    write_atomically(path, lambda file: file.write(png))


def benchmark_pictures(results: Mapping[str, Any], path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """Draw the total cost over the number of structures, and how good they are beside it.

    Parameters
    ----------
    results : mapping
        The content of benchmark.json.
    path : path
        PNG file for all; the pictures that are returned are for the page.

    Returns
    -------
    list of dict
        `light`, `dark` (data URIs), `alt`, `caption`: the cost, the statistics and, where it was measured, the Frechet
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
    figure = Figure(figsize=(6 * len(panels), height), dpi=110, facecolor=LIGHT["paper"], layout="constrained")
    FigureCanvasAgg(figure)
    for ax, (draw, _, _) in zip(figure.subplots(1, len(panels)), panels):
        draw(ax, results, LIGHT)
    png = _png(figure)
    write_atomically(path, lambda file: file.write(png))
    pictures = []
    for draw, alt, caption in panels:
        drawn = {}
        for scheme, colours in (("light", LIGHT), ("dark", DARK)):
            figure = Figure(figsize=(6.2, height), dpi=130, facecolor=colours["paper"], layout="constrained")
            FigureCanvasAgg(figure)
            draw(figure.subplots(), results, colours)
            drawn[scheme] = _data_uri(_png(figure))
        pictures.append({**drawn, "alt": alt, "caption": caption})
    return pictures


BENCHMARK_STYLES = (("#0072b2", "-"), ("#d55e00", "--"), ("#009e73", "-."), ("#cc79a7", ":"), ("#e69f00", "-"))
"""Of MCRpy's methods, by Okabe and Ito; diffusion is drawn in the ink of the page, thicker."""


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
    _dress(ax, "Total cost", colours)
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
    shown = [(value, i) for i, value in enumerate(values) if value is not None]
    if shown:
        ax.plot(*zip(*shown), mark, color=colour, label=name, markersize=8)
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
    _dress(ax, title, colours)


def _write_plain_numbers(axis: Axis) -> None:
    """Write 1, 2, 5, 10 ... on a logarithmic axis, or 1, 10, 100 ... on one of many decades."""
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 2000 * low else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def _crossings(results: Mapping[str, Any]) -> str:
    """Say in words where the lines cross."""
    return " ".join(
        f"{sampler} is cheaper than {method} " + ("at no number." if n is None else f"from {n} on.")
        for method, each in results["break_even"].items()
        for sampler, n in each.items()
    )
