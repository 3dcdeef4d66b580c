"""A picture of how grey images became phases: image, histogram with the thresholds, phases."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from mcrpy_diffusion.data.reading import Reading
from mcrpy_diffusion.data.segmentation import Histogram
from mcrpy_diffusion.io.files import make_folder, write_file
from mcrpy_diffusion.reports.diagrams import LIGHT, new_figure, png, style_axes

MAX_ROWS = 6
"""Sources that are shown, one a row."""
MAX_SIDE = 512
"""Rows and columns of an image that are shown."""
MAX_BARS = 256


def segmentation_png(readings: Sequence[Reading], *, dpi: int = 110) -> bytes | None:
    """Draw the segmentation of each source, a row each; None if no source was segmented.

    Parameters
    ----------
    readings : sequence of Reading
        How micrographs were read; the first `MAX_ROWS` with thresholds are drawn.
    dpi : int
        Pixels per inch; the picture is 12 inches wide.

    Returns
    -------
    bytes or None
        A PNG file.
    """
    chosen = [reading for reading in readings if reading.thresholds is not None][:MAX_ROWS]
    if not chosen:
        return None
    figure = new_figure((12, 4.2 * len(chosen)), dpi=dpi)
    for row, reading in zip(figure.subplots(len(chosen), 3, squeeze=False), chosen, strict=True):
        _draw(row, reading)
    return png(figure)


def write_segmentation(folder: str | os.PathLike[str], readings: Sequence[Reading], *, suffix: str = "") -> list[Path]:
    """Write segmentation.png of sources that were segmented; return its path, or nothing if none was."""
    picture = segmentation_png(readings)
    if picture is None:
        return []
    path = make_folder(folder) / f"segmentation{suffix}.png"
    write_file(path, picture)
    return [path]


def _draw(row: np.ndarray, reading: Reading) -> None:
    """Draw one source into three axes."""
    thresholds, example = reading.thresholds, reading.example
    assert thresholds is not None
    assert example is not None
    image, bars, phases = row
    part = np.s_[:MAX_SIDE, :MAX_SIDE]
    values = thresholds.histogram.values
    shown = {"cmap": "gray", "interpolation": "nearest"}
    image.imshow(example.grey[part].astype(np.float64), vmin=values[0], vmax=values[-1], **shown)
    rows, columns = example.grey.shape
    cut = f", upper left {min(rows, MAX_SIDE)} x {min(columns, MAX_SIDE)}" if max(rows, columns) > MAX_SIDE else ""
    image.set_title(f"{Path(example.name).name[:40]}{cut}", loc="left", fontsize=11)
    _draw_histogram(bars, thresholds.histogram)
    for k, threshold in enumerate(thresholds.values):
        label = f"{reading.method}: {', '.join(f'{value:.5g}' for value in thresholds.values)}" if k == 0 else None
        bars.axvline(threshold, color=LIGHT["held_out"], linewidth=1.8, label=label)
    bars.set(xlabel="grey value", ylabel="share in %", xlim=(values[0], values[-1]))
    style_axes(bars, "Histogram of all images, with the threshold" + "s" * (len(thresholds.values) > 1), LIGHT)
    phases.imshow(example.phases[part], vmin=0, vmax=len(thresholds.values), **shown)
    shares = ", ".join(f"{100 * share:.3g}" for share in reading.fractions)
    phases.set_title(f"Phases from black to white: {shares} %", loc="left", fontsize=11)
    image.set_axis_off()
    phases.set_axis_off()


def _draw_histogram(axes: Axes, histogram: Histogram) -> None:
    """Draw the shares of all pixels, with several bins in a bar where there are many."""
    n = len(histogram.counts)
    together = -(-n // MAX_BARS)
    counts = np.pad(histogram.counts, (0, -n % together)).reshape(-1, together).sum(axis=1)
    edges = histogram.low + histogram.width * (together * np.arange(len(counts) + 1) - 0.5 * histogram.exact)
    axes.stairs(100 * counts / counts.sum(), edges, fill=True, color=LIGHT["generated"])
