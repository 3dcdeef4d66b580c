"""Metrics and structures -> figures 2 to 10 of the paper, as PNG files below 200 kB.

2: original and generated structures. 3: two-point correlation. 4: lineal path. 5: grain-size distribution of the alloy.
6: generated structures beside the nearest training structures. 7: where those two differ. 8: quality over the number of
sampling steps. 9 and 10: structures and curves at 256 x 256.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.paper.make import draw_set, read_set
from benchmarks.paper.plan import STUDY_NAME, Plan
from benchmarks.paper.tables import read_metrics
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.pairs import find_pairs
from mcrpy_diffusion.evaluation.results import Evaluation
from mcrpy_diffusion.evaluation.step_study import StepStudy
from mcrpy_diffusion.io.files import make_folder, write_file
from mcrpy_diffusion.reports.diagrams import LIGHT, LINE_STYLES
from mcrpy_diffusion.reports.study_figures import study_figure

MAX_BYTES = 200_000
N_SHOWN = {64: 5, 256: 2}  # structures of each kind and material
N_PAIRS = 3
CURVES = {"two_point_correlation": ("S2(r)", 3), "lineal_path": ("L(r)", 4)}
Metrics = Mapping[str, Any]


def write_figures(plan: Plan) -> list[Path]:
    """Draw all figures that have metrics; structures are read from the working folder and left out if missing.

    Returns
    -------
    list of path
        The files.
    """
    own = plan.samplers[0].sampler
    shown = [m for m in read_metrics(plan.out) if m["run"]["sampler"] == own and m["run"]["material"] in plan.materials]
    if not shown:
        return []
    make_folder(plan.out)
    large = plan.extent > 64
    written = [structures_figure(plan, shown, plan.out / f"figure_{9 if large else 2}.png")]
    if large:
        written.append(curves_figure(shown, list(CURVES), plan.out / "figure_10.png"))
        return [path for path in written if path is not None]
    for measure, (_, n) in CURVES.items():
        written.append(curves_figure(shown, [measure], plan.out / f"figure_{n}.png"))
    with_grains = [m for m in shown if m["grains"] and m["grains"]["diameter"]]
    if with_grains:
        written.append(grains_figure(with_grains[0], plan.out / "figure_5.png"))
    written += pairs_figures(plan, shown, plan.out)
    study = plan.out / f"{STUDY_NAME}.json"
    if study.exists():
        written.append(steps_figure(json.loads(study.read_text()), plan.out / "figure_8.png"))
    return [path for path in written if path is not None]


def structures_figure(plan: Plan, results: Sequence[Metrics], path: Path) -> Path | None:
    """Originals (held out) on the left, generated structures on the right, a row per material."""
    rows = {}
    for m in results:
        material = m["run"]["material"]
        try:
            original, generated = read_set(plan, material, "held_out"), generated_of(plan, material)
        except InputError:
            continue
        n = N_SHOWN[plan.extent]
        rows[material] = [*original[:n], *generated[:n]]
    if not rows:
        return None
    figure, axes = _figure(len(rows), 2 * N_SHOWN[plan.extent], 1.25 if plan.extent == 64 else 2.5)
    for row, (material, images) in zip(axes, rows.items()):
        for k, (ax, image) in enumerate(zip(row, images)):
            _show(ax, image)
            if k == 0:
                ax.set_ylabel(material)
            if ax in axes[0]:
                ax.set_title("original" if k < len(images) // 2 else "generated", fontsize=9)
        for ax in row[len(images) :]:
            ax.set_axis_off()
    return save(figure, path)


def curves_figure(results: Sequence[Metrics], measures: Sequence[str], path: Path) -> Path:
    """Curves over the distance r, a panel per material and measure: lines are means, bands hold 80 % of structures."""
    panels = [(measure, m) for measure in measures for m in results]
    n_columns = min(len(panels), 3)
    figure, axes = _figure(-(-len(panels) // n_columns), n_columns, 3.2, height=2.7)
    for ax, (measure, m) in zip(axes.flat, panels):
        r, found = m["curves"]["distance"], m[measure]
        for kind in ("original", "generated"):
            curve = m["curves"]["1"][measure][kind]
            label = f"{kind} ({m['n_images'][kind]})"
            ax.plot(r, curve["mean"], LINE_STYLES[kind], color=LIGHT[kind], label=label, linewidth=1.5)
            ax.fill_between(r, curve["low"], curve["high"], color=LIGHT[kind], alpha=0.15, linewidth=0)
        eps, floor = found["discrepancy_percent"], found["floor_percent"]
        title = "" if eps is None else f": eps {eps:.2f} % (floor {floor:.2f} %)"
        ax.set_title(m["run"]["material"] + title, fontsize=9, loc="left")
        ax.set(xlim=(0, r[-1]), xlabel="r in pixels", ylabel=CURVES[measure][0])
        ax.set_ylim(bottom=0)
        ax.spines[["top", "right"]].set_visible(False)
    axes.flat[0].legend(frameon=False, fontsize=8)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    return save(figure, path)


def grains_figure(m: Metrics, path: Path) -> Path:
    """Distribution of the equivalent grain diameters."""
    figure, axes = _figure(1, 1, 5, height=3.4)
    ax, found = axes[0, 0], m["grains"]["diameter"]
    for kind in ("original", "generated"):
        share = 100 * np.array(found["histogram"][kind])
        label = f"{kind}: {found[kind]:.2f} ± {found[f'{kind}_std']:.2f} ({m['grains']['n_grains'][kind]} grains)"
        ax.stairs(share, found["histogram"]["edges"], fill=kind == "original", alpha=0.25, color=LIGHT[kind])
        ax.stairs(share, found["histogram"]["edges"], color=LIGHT[kind], linestyle=LINE_STYLES[kind], label=label)
    ax.set(xlabel="equivalent grain diameter in pixels", ylabel="share in %", title=m["run"]["material"])
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=8)
    return save(figure, path)


def pairs_figures(plan: Plan, results: Sequence[Metrics], out: Path) -> list[Path]:
    """The closest generated structures beside their nearest training structures, and where they differ."""
    rows: dict[str, list[Any]] = {}
    for m in results:
        material = m["run"]["material"]
        try:
            training, generated = read_set(plan, material, "training"), generated_of(plan, material)
        except InputError:
            continue
        if m["n_images"]["generated"] > len(generated):  # the closest structures may be missing
            continue
        matches = Evaluation.from_dict(m).nearest_training_image.closest_pairs[:N_PAIRS]
        rows[material] = find_pairs(matches, generated, training=training)
    if not any(rows.values()):
        return []
    parts: dict[str, list[tuple[str, Callable[[Any], np.ndarray]]]] = {
        "figure_6.png": [("generated", lambda p: p.generated), ("nearest", lambda p: p.training)],
        "figure_7.png": [("difference", lambda p: p.local_error)],
    }
    written = []
    for name, shown in parts.items():
        figure, axes = _figure(len(rows), N_PAIRS * len(shown), 1.25 if len(shown) > 1 else 1.5)
        for row, (material, pairs) in zip(axes, rows.items()):
            places = [(pair, title, part) for pair in pairs for title, part in shown]
            for ax, (pair, title, part) in zip(row, places):
                _show(ax, part(pair))
                ax.set_title(title if title == "generated" else f"{title}: {100 * pair.distance:.3g} %", fontsize=8)
            for ax in row[len(places) :]:
                ax.set_axis_off()
            row[0].set_ylabel(material)
        written.append(save(figure, out / name))
    return written


def steps_figure(study: Metrics, path: Path) -> Path:
    """Each measure over the number of sampling steps, a line per sampler: the package's own picture, in 64 colours."""
    study_figure(StepStudy.from_dict(study), path)
    small = in_few_colours(path.read_bytes())
    write_file(path, small)
    return path


def generated_of(plan: Plan, material: str) -> np.ndarray:
    """Return the structures of the first sampler of the plan."""
    return draw_set(plan, material, plan.samplers[0])


def save(figure: Figure, path: Path) -> Path:
    """Write a figure in 64 colours, at a resolution that keeps it below `MAX_BYTES`."""
    for dpi in (130, 110, 90, 75, 60, 45):
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
        small = in_few_colours(stream.getvalue())
        if len(small) <= MAX_BYTES:
            break
    write_file(path, small)
    return path


def in_few_colours(png: bytes) -> bytes:
    """The same picture in 64 colours, about a third of the size."""
    small = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(64).save(small, format="PNG", optimize=True)
    return small.getvalue()


def _figure(n_rows: int, n_columns: int, width: float, height: float | None = None) -> tuple[Figure, np.ndarray]:
    size = (width * n_columns + 0.4, (height or width) * n_rows + 0.3)
    figure = Figure(figsize=size, facecolor=LIGHT["paper"], layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(n_rows, n_columns, squeeze=False)


def _show(ax: Axes, image: np.ndarray) -> None:
    ax.imshow(image, cmap="gray", vmin=0, vmax=max(float(image.max()), 1), interpolation="nearest")
    ax.set(xticks=[], yticks=[])
