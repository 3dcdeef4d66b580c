"""Evaluation and structures -> contact sheet, curves, metrics.json and report.html."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mcrpy_diffusion.data.reading import Reading
from mcrpy_diffusion.evaluation.pairs import Pair
from mcrpy_diffusion.evaluation.results import Evaluation
from mcrpy_diffusion.io.files import make_folder, write_file, write_json
from mcrpy_diffusion.reports import sentences
from mcrpy_diffusion.reports.figures import (
    contact_sheet,
    curve_pictures,
    distance_pictures,
    grain_pictures,
    property_pictures,
    statistics_figure,
)
from mcrpy_diffusion.reports.pictures import data_uri, pair_pictures, structure_pictures
from mcrpy_diffusion.reports.rows import groups
from mcrpy_diffusion.reports.segmentation import write_segmentation
from mcrpy_diffusion.reports.settings_table import sampling_seeds, setting_groups
from mcrpy_diffusion.settings import PixelSize


def write_report(
    folder: str | os.PathLike[str],
    *,
    name: str,
    metrics: Evaluation | Mapping[str, Any],
    original: np.ndarray | None,
    generated: np.ndarray,
    settings: Mapping[str, Any] = MappingProxyType({}),
    seconds: Mapping[str, float] = MappingProxyType({}),
    seeds: Sequence[int] | None = None,
    suffix: str = "",
    pairs: Sequence[Pair] = (),
    readings: Sequence[Reading] = (),
    pixel_size: PixelSize | None = None,
) -> list[Path]:
    """Write contact_sheet.png, statistics.png, metrics.json and, last, report.html, one file that needs no other.

    If grey images were segmented, segmentation.png too.

    Parameters
    ----------
    folder : path
        Created if it does not exist.
    name : str
        Name of the reference.
    metrics : Evaluation
        Result of `evaluate` or `evaluate_against_statistics`; metrics.json is this and `seconds`. The dictionary of
        earlier versions is deprecated.
    original, generated : (N, I, J) or None, (M, I, J)
        Integer phases or grey values in [0, 1]; the first 16 of each are shown.
    settings : mapping
        The resolved settings; nested mappings (one per stage) become groups.
    seconds : mapping
        Stage -> seconds. Both are empty by default.
    seeds : sequence of int, optional
        The seed of each generated structure; by default, consecutive from `seed` of the group `sampling`, if any.
    suffix : str
        Inserted before the extension of each file name.
    pairs : sequence of Pair
        Generated structures and their nearest training structures, see `evaluation.pairs.find_pairs`.
    readings : sequence of Reading
        How the micrographs were read.
    pixel_size : PixelSize, optional
        Adds axes in units of length.

    Returns
    -------
    list of Path
        The report, the contact sheet, the curves and the metrics, and the picture of the segmentation if there is one.

    Raises
    ------
    InputError
        If a dictionary is not that of metrics.json, or the folder cannot be written to.
    """
    evaluation = _evaluation(metrics)
    folder = make_folder(folder)
    files = ("report.html", "contact_sheet.png", "statistics.png", "metrics.json")
    report, sheet, curves, numbers = (folder / f"{Path(n).stem}{suffix}{Path(n).suffix}" for n in files)
    contact_sheet(original, generated, sheet)
    statistics_figure(evaluation, curves, pixel_size=pixel_size)
    segmented = write_segmentation(folder, readings, suffix=suffix)
    write_json(numbers, replace(evaluation, seconds=dict(seconds)).to_dict())
    seeds = sampling_seeds(settings, len(generated)) if seeds is None else seeds
    labels = [f"seed {seed}" for seed in seeds] or [f"structure {i}" for i in range(len(generated))]
    n_phases = evaluation.n_phases
    sheets = [structure_pictures("Generated", generated, n_phases, labels)]
    if original is not None:
        names = [f"original {i}" for i in range(len(original))]
        sheets.insert(0, structure_pictures("Original", original, n_phases, names))
    page = template("report").render(
        title=f"New microstructures like {name}",
        verdict=sentences.verdict(evaluation),
        warnings=sentences.warnings(evaluation),
        summary=sentences.summary(evaluation),
        groups=groups(evaluation),
        held_out=evaluation.n_images.held_out is not None,
        counts=sentences.counts(evaluation),
        missing=sentences.missing_parts(evaluation),
        notes=sentences.notes(evaluation),
        curves=curve_pictures(evaluation, pixel_size=pixel_size),
        grains=grain_pictures(evaluation, pixel_size=pixel_size),
        properties=property_pictures(evaluation),
        distances=distance_pictures(evaluation),
        copying=sentences.copying(evaluation),
        pairs=pair_pictures(pairs, n_phases, labels),
        segmentation=data_uri(segmented[0].read_bytes()) if segmented else None,
        readings=[reading.segmentation for reading in readings if reading.thresholds is not None],
        pixel_size=None if pixel_size is None else str(pixel_size),
        colours=sentences.colours(n_phases),
        sheets=sheets,
        seconds=[(key, f"{value:.1f} s") for key, value in {**seconds, "together": sum(seconds.values())}.items()],
        settings=setting_groups(settings, seeds),
    )
    write_file(report, page)
    return [report, sheet, curves, numbers, *segmented]


def write_structures(folder: str | os.PathLike[str], generated: np.ndarray, *, suffix: str = "") -> Path:
    """Write contact_sheet.png of generated structures (M, I, J) alone; return its path."""
    path = make_folder(folder) / f"contact_sheet{suffix}.png"
    contact_sheet(None, generated, path)
    return path


def template(name: str) -> Any:
    """Return a template of this package's pages, `<name>.html.jinja`."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(f"{name}.html.jinja")


def _evaluation(metrics: Evaluation | Mapping[str, Any]) -> Evaluation:
    if isinstance(metrics, Evaluation):
        return metrics
    warnings.warn("write_report(metrics=<dict>) is deprecated; give an Evaluation", DeprecationWarning, stacklevel=3)
    return Evaluation.from_dict(metrics, name="metrics")
