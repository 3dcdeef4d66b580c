"""Figures of an evaluation: contact sheet and statistics as PNG files, diagrams for the report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from mcrpy_diffusion.evaluation.results import Evaluation, GrainCounts, GrainProperty, PropertyComparison, Spread
from mcrpy_diffusion.io.files import write_file
from mcrpy_diffusion.reports.diagrams import LIGHT, LINE_STYLES, add_length_axis, diagram, new_figure, png, style_axes
from mcrpy_diffusion.reports.pictures import MAX_SHOWN, grey_levels
from mcrpy_diffusion.reports.rows import CURVES
from mcrpy_diffusion.settings import PixelSize

SET_NAMES = {"original": "original", "generated": "generated", "held_out": "held-out part"}
N_COLUMNS = 8
FRAME_COLOUR = (120, 160, 190)  # neither black nor white: the edges of white regions stay visible


def contact_sheet(original: np.ndarray | None, generated: np.ndarray, path: str | os.PathLike[str]) -> None:
    """Draw originals, if any, above generated structures, as a PNG file.

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
    levels = [grey_levels(images[:MAX_SHOWN], max(n_phases, 2)) for images in sets.values()]
    sheets = [_mosaic(pixels, n_columns) for pixels in levels]
    heights = [sheet.shape[0] / sheet.shape[1] for sheet in sheets]
    figure = new_figure((10, 10 * sum(heights) + 0.8), dpi=120)
    axes = figure.subplots(len(sets), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ax, sheet, (name, images) in zip(axes, sheets, sets.items()):
        ax.imshow(sheet, interpolation="nearest")
        ax.set_title(f"{name} ({min(len(images), MAX_SHOWN)} of {len(images)})", loc="left", fontsize=12)
        ax.set_axis_off()
    write_file(path, png(figure))


def statistics_figure(
    evaluation: Evaluation, path: str | os.PathLike[str], *, pixel_size: PixelSize | None = None
) -> None:
    """Draw S2(r) and L(r), mean and spread of each set, one row per phase, as a PNG file."""
    phases = list(evaluation.curves.phases)
    figure = new_figure((10, 3.9 * len(phases)), dpi=120)
    for row, phase in zip(figure.subplots(len(phases), 2, squeeze=False), phases):
        for ax, measure in zip(row, CURVES):
            _draw_curves(ax, evaluation, phase, measure, LIGHT, pixel_size)
    write_file(path, png(figure))


def curve_pictures(evaluation: Evaluation, *, pixel_size: PixelSize | None = None) -> list[dict[str, str]]:
    """Draw each curve for light and for dark screens."""
    pictures = []
    for phase in evaluation.curves.phases:
        comparison = evaluation if evaluation.phases is None else evaluation.phases[phase]
        for measure, (symbol, name, _) in CURVES.items():
            value = getattr(comparison, measure).discrepancy_percent
            differ = "unknown" if value is None else f"{value:.2g} %"
            sets = ", ".join(SET_NAMES[key] for key in _curves(evaluation, phase, measure))
            pictures.append(
                diagram(
                    partial(_draw_curves, evaluation=evaluation, phase=phase, measure=measure, pixel_size=pixel_size),
                    alt=f"{symbol} of phase {phase} over the distance r: {sets}. Discrepancy of generated and original "
                    f"structures: {differ}.",
                    caption=f"{symbol}(r), {name} of phase {phase}: lines are means over all structures, bands "
                    "contain the middle 80 % of the structures.",
                )
            )
    return pictures


def _curves(evaluation: Evaluation, phase: str, measure: str) -> dict[str, Spread]:
    """Return the curves of each set that has any."""
    return {k: v for k, v in vars(getattr(evaluation.curves.phases[phase], measure)).items() if v is not None}


def _draw_curves(
    ax: Axes,
    evaluation: Evaluation,
    phase: str,
    measure: str,
    colours: Mapping[str, str],
    pixel_size: PixelSize | None = None,
) -> None:
    """Draw the curves of one measure and phase: lines are means, bands contain 80 % of the structures."""
    symbol, name, _ = CURVES[measure]
    distance = evaluation.curves.distance
    for key, curve in _curves(evaluation, phase, measure).items():
        label = f"{SET_NAMES[key]} ({getattr(evaluation.n_images, key)})"
        ax.plot(distance, curve.mean, LINE_STYLES[key], color=colours[key], label=label, linewidth=1.8)
        if key != "held_out":
            ax.fill_between(distance, curve.low, curve.high, color=colours[key], alpha=0.18, linewidth=0)
    ax.set(xlabel="r in pixels", ylabel=f"{symbol}(r)", xlim=(0, distance[-1]))
    ax.set_ylim(bottom=0)
    several = len(evaluation.curves.phases) > 1
    style_axes(ax, f"{name.capitalize()}, phase {phase}" if several else name.capitalize(), colours)
    if pixel_size is not None:
        add_length_axis(ax, "r", pixel_size, colours)


def distance_pictures(evaluation: Evaluation) -> dict[str, str] | None:
    """Draw the distances of generated and of unseen real structures to the training structures, if there are any."""
    test = evaluation.data_copying
    if test.histogram is None or test.n_images is None:
        return None
    histogram, n = test.histogram, test.n_images
    sets = {f"real unseen ({n.real})": histogram.real, f"generated ({n.generated})": histogram.generated}
    x_label = "share of differing pixels" if evaluation.n_phases else "mean squared difference"
    return diagram(
        partial(
            _draw_histogram,
            edges=histogram.edges,
            sets=sets,
            title="Distance to the nearest training structure",
            x_label=x_label,
        ),
        alt=f"Histograms of the distance to the nearest training structure. Median of the generated structures "
        f"{test.median_mse:.3f}, of unseen real ones {test.real_median_mse:.3f}.",
        caption="Copies would form a peak of their own on the left.",
    )


def grain_pictures(evaluation: Evaluation, *, pixel_size: PixelSize | None = None) -> list[dict[str, str]]:
    """Draw the distributions of the grains' diameters and aspect ratios."""
    grains = evaluation.grains
    if grains is None:
        return []
    n = grains.n_grains
    properties = (
        (grains.diameter, "equivalent diameter", " in pixels", pixel_size),
        (grains.aspect_ratio, "aspect ratio", "", None),
    )
    return [_grain_picture(found, name, unit, n, size) for found, name, unit, size in properties if found is not None]


def _grain_picture(
    found: GrainProperty, name: str, unit: str, n: GrainCounts, pixel_size: PixelSize | None
) -> dict[str, str]:
    means = (
        f"original {found.original:.2f} ± {found.original_std:.2f}, "
        f"generated {found.generated:.2f} ± {found.generated_std:.2f}"
    )
    sets = {
        f"original ({n.original})": found.histogram.original,
        f"generated ({n.generated})": found.histogram.generated,
    }
    return diagram(
        partial(
            _draw_histogram,
            edges=found.histogram.edges,
            sets=sets,
            title=f"Grains: {name}",
            x_label=f"{name}{unit}",
            pixel_size=pixel_size,
        ),
        alt=f"Histograms of the {name} of the grains{unit}: {means}.",
        caption=f"Mean and standard deviation{unit}: {means}.",
    )


def property_pictures(evaluation: Evaluation) -> list[dict[str, str]]:
    """Draw the distributions of the properties of each phase."""
    pictures = []
    for phase, found in (evaluation.properties or {}).items():
        each = {"conductivity": found.conductivity, "tortuosity factor": found.tortuosity_factor}
        pictures += [_property_picture(v, f"{name}, phase {phase}") for name, v in each.items() if v is not None]
    return pictures


def _property_picture(found: PropertyComparison, name: str) -> dict[str, str]:
    n, histogram = found.n_images, found.histogram
    sets = {f"original ({n.original})": histogram.original, f"generated ({n.generated})": histogram.generated}
    means = (
        f"original {found.original:.4g} ± {found.original_std:.2g}, "
        f"generated {found.generated:.4g} ± {found.generated_std:.2g}"
    )
    return diagram(
        partial(_draw_histogram, edges=histogram.edges, sets=sets, title=name.capitalize(), x_label=name),
        alt=f"Histograms of the {name} of the structures: {means}.",
        caption=f"Mean and standard deviation: {means}.",
    )


def _draw_histogram(
    ax: Axes,
    edges: Sequence[float],
    sets: Mapping[str, Sequence[float]],
    title: str,
    x_label: str,
    colours: Mapping[str, str],
    pixel_size: PixelSize | None = None,
) -> None:
    """Draw the shares (n,) of two sets between edges (n + 1,): the first one filled, the second one hatched."""
    for (label, shares), kind, hatch in zip(sets.items(), ("original", "generated"), (None, "////")):
        percent, colour = 100 * np.array(shares), colours[kind]
        if hatch is None:
            ax.stairs(percent, edges, fill=True, color=colour, alpha=0.25, linewidth=0)
        else:
            ax.stairs(percent, edges, fill=True, facecolor="none", edgecolor=colour, hatch=hatch, linewidth=0)
        ax.stairs(percent, edges, color=colour, linestyle=LINE_STYLES[kind], linewidth=1.8, label=label)
    ax.set(xlabel=x_label, ylabel="share in %")
    style_axes(ax, title, colours)
    if pixel_size is not None:
        add_length_axis(ax, "", pixel_size, colours)


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
