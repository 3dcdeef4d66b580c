"""Colours and axes of all diagrams, in both colour schemes of a page."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mcrpy_diffusion.reports.pictures import data_uri
from mcrpy_diffusion.settings import PixelSize

# colours of Okabe and Ito, which colour-blind readers can distinguish; line styles differ as well
LIGHT = {"paper": "#ffffff", "ink": "#1b1f24", "generated": "#0072b2", "original": "#1b1f24", "held_out": "#d55e00"}
DARK = {"paper": "#14171a", "ink": "#e6e8ea", "generated": "#56b4e9", "original": "#e6e8ea", "held_out": "#e69f00"}
LINE_STYLES = {"original": "-", "generated": "--", "held_out": ":"}


def new_figure(size: tuple[float, float], *, dpi: int, colours: Mapping[str, str] = LIGHT) -> Figure:
    """Return an empty figure of a size in inches."""
    figure = Figure(figsize=size, dpi=dpi, facecolor=colours["paper"], layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """Return a figure as a PNG file."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def diagram(
    draw: Callable[..., None], *, alt: str, caption: str, size: tuple[float, float] = (5, 3.6), dpi: int = 150
) -> dict[str, str]:
    """Draw a diagram for light and for dark screens.

    Parameters
    ----------
    draw : callable
        Called with axes and the keyword `colours`.
    alt, caption : str
        Alternative text and caption.
    size : (float, float)
        Inches.
    dpi : int
        Pixels per inch.

    Returns
    -------
    dict
        `light` and `dark`, data URIs; `alt`, `caption`.
    """
    sources: dict[str, str] = {}
    position = None
    for scheme, colours in (("light", LIGHT), ("dark", DARK)):
        figure = new_figure(size, dpi=dpi, colours=colours)
        ax = figure.subplots()
        draw(ax, colours=colours)
        if position is not None:  # both have the same layout; finding it takes longer than drawing
            figure.set_layout_engine("none")
            ax.set_position(position)
        sources[scheme] = data_uri(png(figure))
        position = ax.get_position()
    return {**sources, "alt": alt, "caption": caption}


def style_axes(ax: Axes, title: str, colours: Mapping[str, str]) -> None:
    """Give a diagram its title, colours and legend."""
    ax.set_title(title, loc="left", color=colours["ink"], fontsize=11)
    ax.set_facecolor(colours["paper"])
    ax.tick_params(colors=colours["ink"])
    for part in (ax.xaxis.label, ax.yaxis.label):
        part.set_color(colours["ink"])
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["bottom", "left"]].set_color(colours["ink"])
    ax.legend(frameon=False, labelcolor=colours["ink"], fontsize=9)


def add_length_axis(ax: Axes, quantity: str, pixel_size: PixelSize, colours: Mapping[str, str]) -> None:
    """Add an axis in a unit of length above a diagram whose own axis is in pixels."""
    unit, per_pixel = pixel_size.unit_for(ax.get_xlim()[1] / 2)
    upper = ax.secondary_xaxis(
        "top", functions=(lambda x: np.multiply(x, per_pixel), lambda x: np.divide(x, per_pixel))
    )
    upper.set_xlabel(f"{quantity} in {unit}".strip(), color=colours["ink"])
    upper.tick_params(colors=colours["ink"])
    upper.spines["top"].set_color(colours["ink"])
