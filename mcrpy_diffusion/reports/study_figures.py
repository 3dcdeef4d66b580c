"""Figure of a study of the number of sampling steps."""

from __future__ import annotations

import os

from mcrpy_diffusion.evaluation.step_study import HEADINGS, StepStudy
from mcrpy_diffusion.io.files import write_file
from mcrpy_diffusion.reports.diagrams import LIGHT, new_figure, png


def study_figure(study: StepStudy, path: str | os.PathLike[str]) -> None:
    """Draw each measure of all rows over the number of sampling steps, one line per sampler, as a PNG file."""
    measures = study.measured(in_all=True)
    samplers = list(dict.fromkeys(row.sampler for row in study.rows))
    n_columns = min(len(measures), 3)
    n_rows = -(-len(measures) // n_columns)
    figure = new_figure((4 * n_columns, 3.2 * n_rows), dpi=120)
    styles = list(zip(("generated", "held_out", "original"), ("o-", "s--", "^:")))
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for ax, name in zip(axes, measures):
        for sampler, (colour, style) in zip(samplers, styles):
            points = [(row.n_steps, getattr(row, name)) for row in study.rows if row.sampler == sampler]
            ax.plot(*zip(*points), style, color=LIGHT[colour], label=sampler)
        ax.set(xscale="log", xlabel="sampling steps", title=HEADINGS[name])
        ax.grid(alpha=0.3)
    for ax in axes[len(measures) :]:
        ax.set_axis_off()
    axes[0].legend()
    write_file(path, png(figure))
