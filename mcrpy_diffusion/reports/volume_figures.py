"""Figures of an evaluation of volumes: orthogonal slices beside originals, a view in 3D, curves by direction."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec

import numpy as np
from matplotlib.axes import Axes

from mcrpy_diffusion.evaluation.volume_results import DirectionCurves, PhaseVolumeFit, VolumeEvaluation
from mcrpy_diffusion.io.files import write_file
from mcrpy_diffusion.metrics.sections import diagonal_sections, slices
from mcrpy_diffusion.reports.diagrams import LIGHT, diagram, new_figure, png, style_axes
from mcrpy_diffusion.reports.pictures import grey_levels
from mcrpy_diffusion.reports.rows import CURVES

AXES = ("x", "y", "z")
MAX_VOLUMES = 4
"""Volumes whose slices are shown."""

_STYLES = {  # colours of Okabe and Ito that can be seen on both backgrounds
    "x": ("#0072b2", "-"),
    "y": ("#009e73", "--"),
    "z": ("#d55e00", "-."),
    "face_diagonals": ("#cc79a7", "-"),
    "space_diagonals": ("#8c6bb1", "--"),
}


def slice_sheet(
    originals: Mapping[str, np.ndarray],
    generated: np.ndarray,
    true: np.ndarray | None,
    path: str | os.PathLike[str],
    *,
    n_phases: int,
) -> None:
    """Draw the middle slices of volumes across each axis, and a section at 45 degrees, beside originals, as a PNG file.

    Parameters
    ----------
    originals : mapping
        Plane -> (N, A, B); the first one of each is drawn.
    generated : (M, I, J, K)
        The first `MAX_VOLUMES` are drawn.
    true : (V, I, J, K), optional
        The first one is drawn.
    path : path
        File to write.
    n_phases : int
        Number of phases, 0 for grey values.
    """
    volumes = {f"volume {i}": volume for i, volume in enumerate(generated[:MAX_VOLUMES])}
    if true is not None:
        volumes = {"true volume": true[0], **volumes}
    figure = new_figure((2 * (1 + len(volumes)), 8.8), dpi=120)
    axes = figure.subplots(4, 1 + len(volumes), squeeze=False)
    for row, axis, k in zip(axes, AXES, range(3)):
        pictures = {f"original, {axis}": originals[axis][0]}
        pictures |= {f"{name}, {axis}": _middle(slices(volume, axis=k)) for name, volume in volumes.items()}
        for ax, (title, image) in zip(row, pictures.items()):
            _show(ax, image, title, n_phases)
    axes[3, 0].set_axis_off()
    for ax, (name, volume) in zip(axes[3, 1:], volumes.items()):
        section = _middle(diagonal_sections(volume, axes=(0, 1), sign=1, periodic=False))
        _show(ax, section, f"{name}, 45°", n_phases, stretch=2**0.5)
    write_file(path, png(figure))


def _middle(sections: np.ndarray) -> np.ndarray:
    return np.asarray(sections[len(sections) // 2])


def _show(ax: Axes, image: np.ndarray, title: str, n_phases: int, *, stretch: float = 1.0) -> None:
    levels = grey_levels(image[None], max(n_phases, 2))[0]
    ax.imshow(levels, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect=1 / stretch)
    ax.set_title(title, fontsize=8)
    ax.set(xticks=[], yticks=[])


def view_3d(volume: np.ndarray, *, n_phases: int) -> bytes | None:
    """Draw a volume in perspective with pyvista; None where it is missing or cannot draw on this machine.

    Parameters
    ----------
    volume : (I, J, K) integer
        Of two phases, phase 1 is drawn, of more all but phase 0; other voxels are empty.
    n_phases : int

    Returns
    -------
    bytes or None
        A PNG file.
    """
    if sys.modules.get("pyvista", ...) is None or find_spec("pyvista") is None:
        return None
    stream = io.BytesIO()
    np.save(stream, volume, allow_pickle=False)
    command = [sys.executable, "-m", "mcrpy_diffusion.reports.volume_view", str(n_phases)]
    drawn = subprocess.run(command, input=stream.getvalue(), capture_output=True, check=False)
    return drawn.stdout if drawn.returncode == 0 else None


def direction_figure(evaluation: VolumeEvaluation, path: str | os.PathLike[str]) -> None:
    """Draw S2(r) and L(r) by direction, one row per phase, as a PNG file."""
    figure = new_figure((10, 3.9 * len(evaluation.phases)), dpi=120)
    for row, (phase, fit) in zip(figure.subplots(len(evaluation.phases), 2, squeeze=False), evaluation.phases.items()):
        for ax, measure in zip(row, CURVES):
            _draw_directions(ax, phase, fit, measure, LIGHT)
    write_file(path, png(figure))


def direction_pictures(evaluation: VolumeEvaluation) -> list[dict[str, str]]:
    """Draw each curve by direction for light and for dark screens."""
    pictures = []
    for phase, fit in evaluation.phases.items():
        for measure, (symbol, name, _) in CURVES.items():
            pictures.append(
                diagram(
                    partial(_draw_directions, phase=phase, fit=fit, measure=measure),
                    alt=f"{symbol} of phase {phase} over the distance r along the axes and diagonals of the volumes, "
                    "and of the original structures.",
                    caption=f"{symbol}(r), {name} of phase {phase}, by direction. Coloured lines are means over the "
                    "generated volumes, dots over the true volumes. The broad line is the mean of the original "
                    "structures along rows and columns.",
                )
            )
    return pictures


def _draw_directions(ax: Axes, phase: str, fit: PhaseVolumeFit, measure: str, colours: Mapping[str, str]) -> None:
    symbol, name, _ = CURVES[measure]
    by_direction: Mapping[str, DirectionCurves] = getattr(fit.curves, measure)
    originals: Mapping[str, tuple[float, ...]] = getattr(fit.curves, f"original_{measure}")
    for axis, curve in originals.items():
        label = "original" if axis == "x" else None
        ax.plot(range(len(curve)), curve, color=colours["ink"], linewidth=2.6, alpha=0.55, label=label)
    for direction, curves in by_direction.items():
        colour, style = _STYLES[direction]
        r = curves.spacing * np.arange(len(curves.generated))
        ax.plot(r, curves.generated, style, color=colour, linewidth=1.5, label=direction.replace("_", " "))
        if curves.true is not None:
            ax.plot(r, curves.true, ".", color=colour, markersize=3.5)
    ax.set(xlabel="r in voxels", ylabel=f"{symbol}(r)", xlim=(0, max(len(c) for c in originals.values()) - 1))
    ax.set_ylim(bottom=0)
    style_axes(ax, f"{name.capitalize()}, phase {phase}", colours)
