"""Evaluation of volumes and the volumes -> slices, curves, view in 3D, metrics.json and report.html."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from mcrpy_diffusion.evaluation.volume_results import VolumeEvaluation
from mcrpy_diffusion.io.files import make_folder, write_file, write_json
from mcrpy_diffusion.reports.pictures import data_uri
from mcrpy_diffusion.reports.report import template
from mcrpy_diffusion.reports.sentences import colours
from mcrpy_diffusion.reports.settings_table import sampling_seeds, setting_groups
from mcrpy_diffusion.reports.volume_figures import (
    AXES,
    direction_figure,
    direction_pictures,
    slice_sheet,
    view_3d,
)
from mcrpy_diffusion.reports.volume_rows import (
    PLANE_HEAD,
    SPACE_HEAD,
    in_order,
    is_complement,
    notes,
    plane_rows,
    space_rows,
    summary,
)

NO_VIEW = "The view in 3D could not be drawn; it needs the extra `volumes`: pip install 'mcrpy-diffusion[volumes]'."


def write_volume_report(
    folder: str | os.PathLike[str],
    *,
    name: str,
    evaluation: VolumeEvaluation,
    original: np.ndarray | Mapping[str, np.ndarray],
    generated: np.ndarray,
    true: np.ndarray | None = None,
    settings: Mapping[str, Any] = MappingProxyType({}),
    seconds: Mapping[str, float] = MappingProxyType({}),
    seeds: Sequence[int] | None = None,
    suffix: str = "",
) -> list[Path]:
    """Write slices.png, directions.png, volume.png, metrics.json and, last, report.html, one file that needs no other.

    Parameters
    ----------
    folder : path
        Created if it does not exist.
    name : str
        Name of the reference.
    evaluation : VolumeEvaluation
        metrics.json holds it as `volume`, beside `seconds`.
    original, generated, true
        As for `evaluate_volumes`.
    settings, seconds, seeds, suffix
        As for `reports.report.write_report`.

    Returns
    -------
    list of Path
        The report and the files beside it. volume.png is missing where pyvista (extra `volumes`) is, or cannot draw.

    Raises
    ------
    InputError
        If the folder cannot be written to.
    """
    folder = make_folder(folder)
    files = ("report.html", "slices.png", "directions.png", "volume.png", "metrics.json")
    report, sheet, directions, view, numbers = (folder / f"{Path(n).stem}{suffix}{Path(n).suffix}" for n in files)
    planes = original if isinstance(original, Mapping) else dict.fromkeys(AXES, original)
    n_phases = evaluation.n_phases
    slice_sheet(planes, generated, true, sheet, n_phases=n_phases)
    direction_figure(evaluation, directions)
    shown = {"Generated volume": generated[0]} | ({} if true is None else {"True volume": true[0]})
    views = {title: view_3d(_phases(volume, evaluation), n_phases=n_phases) for title, volume in shown.items()}
    drawn = {title: png for title, png in views.items() if png is not None}
    if drawn:
        write_file(view, drawn["Generated volume"])
    write_json(numbers, {"volume": evaluation.to_dict(), "seconds": dict(seconds)})
    seeds = sampling_seeds(settings, len(generated)) if seeds is None else seeds
    page = template("volume").render(
        title=f"Volumes like {name}",
        summary=summary(evaluation),
        notes=notes(evaluation),
        plane_head=PLANE_HEAD,
        space_head=SPACE_HEAD,
        phases={
            phase: (plane_rows(fit), space_rows(fit, complement=is_complement(phase, evaluation)))
            for phase, fit in in_order(evaluation)
        },
        has_true=true is not None,
        slices=data_uri(sheet.read_bytes()),
        views=[(title, data_uri(png)) for title, png in drawn.items()],
        no_view="" if drawn else NO_VIEW,
        curves=direction_pictures(evaluation),
        colours=colours(n_phases),
        seconds=[(key, f"{value:.1f} s") for key, value in {**seconds, "together": sum(seconds.values())}.items()],
        settings=setting_groups(settings, seeds),
    )
    write_file(report, page)
    return [report, sheet, directions, *([view] if drawn else []), numbers]


def _phases(volume: np.ndarray, evaluation: VolumeEvaluation) -> np.ndarray:
    """Return the phases of a volume of grey values."""
    return volume if evaluation.grey_threshold is None else (volume > evaluation.grey_threshold).astype(np.uint8)
