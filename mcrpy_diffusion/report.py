"""Metrics and structures -> contact sheet, curves, closing table, metrics.json and report.html."""

from __future__ import annotations

import os
import platform
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from mcrpy_diffusion.checkpoint import package_versions
from mcrpy_diffusion.figures import contact_sheet, curve_pictures, statistics_figure, structure_pictures
from mcrpy_diffusion.files import make_folder, write_atomically, write_json

TEMPLATE = Path(__file__).with_name("report.html.jinja")
PACKAGES = ("torch", "tensorflow", "mcrpy", "numpy", "scipy")
MISSING = "–"
CONSOLE_WIDTH = 100  # characters of a line at most
GENERATIVE = {
    "frechet_distance": "Distance between the distributions of the features of both sets, 0 if they are equal (eq. "
    "18). It is larger for fewer images, also between real ones: compare it with its floor.",
    "precision": "Share of the generated structures that lie among the real ones, by their features (eq. 19): 1 means "
    "that each looks like a real one.",
    "recall": "Share of the real structures that lie among the generated ones (eq. 20): 1 means that all their variety "
    "is there.",
    "density": "How densely real structures surround the generated ones: 1 for equal distributions; unlike precision, "
    "lone outliers among the real ones hardly raise it.",
    "coverage": "Share of the real structures that have a generated one nearby; about 0.9 for equal distributions and "
    "numbers of structures.",
}


def write_report(
    folder: str | os.PathLike[str],
    *,
    name: str,
    metrics: Mapping[str, Any],
    original: np.ndarray,
    generated: np.ndarray,
    settings: Mapping[str, Any],
    seconds: Mapping[str, float],
    seeds: Sequence[int] | None = None,
    suffix: str = "",
) -> list[Path]:
    """Write contact_sheet.png, statistics.png, metrics.json and, last, report.html, one file that needs no other.

    Parameters
    ----------
    folder : path
        Made where it is not there.
    name : str
        What the structures are like: the reference's name.
    metrics : mapping
        What `evaluate` returned; metrics.json is this and `seconds`.
    original, generated : (N, I, J), (M, I, J)
        Integer phases or grey values in [0, 1]; the first 16 of each are shown.
    settings : mapping
        The resolved settings; those that are mappings themselves (one per stage) become groups of their own.
    seconds : mapping
        Stage -> seconds.
    seeds : sequence of int, optional
        The seed of each generated structure. If None, they follow one another from the `seed` of the group
        `sampling`, where there is one.
    suffix : str
        Put before the extension of each file's name.

    Returns
    -------
    list of Path
        The report, the contact sheet, the curves and the metrics.
    """
    folder = make_folder(folder)
    names = ("report.html", "contact_sheet.png", "statistics.png", "metrics.json")
    report, sheet, curves, numbers = (folder / f"{Path(n).stem}{suffix}{Path(n).suffix}" for n in names)
    contact_sheet(original, generated, sheet)
    statistics_figure(metrics, curves)
    write_json(numbers, {**metrics, "seconds": dict(seconds)})
    seeds = _seeds(settings, len(generated)) if seeds is None else seeds
    labels = [f"seed {seed}" for seed in seeds] or [f"structure {i}" for i in range(len(generated))]
    page = _template().render(
        title=f"New microstructures like {name}",
        summary=_summary(metrics),
        rows=_rows(metrics),
        counts=_counts(metrics),
        incomplete=_incomplete(metrics),
        notes=[note for note in (_floor_note(metrics), *_warnings(metrics)) if note],
        curves=curve_pictures(metrics),
        colours=_colours(metrics["n_phases"]),
        sheets=[
            structure_pictures(
                "Original", original, metrics["n_phases"], [f"original {i}" for i in range(len(original))]
            ),
            structure_pictures("Generated", generated, metrics["n_phases"], labels),
        ],
        seconds=[(key, f"{value:.1f} s") for key, value in {**seconds, "together": sum(seconds.values())}.items()],
        settings=_setting_groups(settings, seeds),
    )
    write_atomically(report, lambda file: file.write(page.encode()))
    return [report, sheet, curves, numbers]


def console_table(metrics: Mapping[str, Any], seconds: Mapping[str, float]) -> str:
    """Return the closing table of the console.

    Parameters
    ----------
    metrics : mapping
        What `evaluate` returned.
    seconds : mapping
        Stage -> seconds.

    Returns
    -------
    str
        Lines of at most 100 characters without the last line's end.
    """
    table = [(row["name"], row["value"], row["held_out"], row["floor"]) for row in _rows(metrics)]
    head = ("generated against", "original", "held-out part", "floor")
    first, *others = (max(map(len, column)) for column in zip(head, *table))
    b, c, d = (max(width, 16) for width in others)
    lines = [f"{row[0]:<{first}}  {row[1]:>{b}}  {row[2]:>{c}}  {row[3]:>{d}}".rstrip() for row in [head, *table]]
    lines.insert(1, "-" * max(map(len, lines)))
    for note in (_floor_note(metrics), *_warnings(metrics)):
        lines += textwrap.wrap(note, CONSOLE_WIDTH)
    times = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    return "\n".join([*lines, _counts(metrics), f"seconds: {times}, together {sum(seconds.values()):.1f}"])


def _rows(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the rows of the table: volume fraction, S2, L, nearest training image."""
    fraction = metrics["volume_fraction"]
    rows = [
        {
            "name": _with_phase("volume fraction", metrics, "volume_fraction"),
            "value": _difference(fraction["difference"], fraction["original"]),
            "held_out": _difference(fraction["held_out_difference"], fraction.get("held_out")),
            "floor": _number(fraction["floor"], "±{:.4f}"),
            "meaning": f"Share of the pixels that is phase {fraction['phase']}: {fraction['generated']:.4f} in the "
            "generated structures. Shown is the difference, and the real share.",
        }
    ]
    for measure, (name, meaning) in {
        "two_point_correlation": (
            "two-point correlation, eps_S2",
            "How often two pixels a distance r apart are both in the phase",
        ),
        "lineal_path": ("lineal path, eps_L", "How often a straight segment of length r lies wholly in the phase"),
    }.items():
        values = metrics[measure]
        rows.append(
            {
                "name": _with_phase(name, metrics, measure),
                "value": _percent(values["discrepancy_percent"]),
                "held_out": _percent(values["held_out_discrepancy_percent"]),
                "floor": _percent(values["floor_percent"]),
                "meaning": f"{meaning}: area between the two curves over the area under the real one.",
            }
        )
    rows += [_generative_row(metrics[measure], meaning) for measure, meaning in _generative(metrics).items()]
    return [*rows, _copy_row(metrics["nearest_training_image"])]


def _generative(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return the measures by features that were asked for, and what they mean."""
    return {measure: text for measure, text in GENERATIVE.items() if metrics[measure]["features"] is not None}


def _generative_row(values: Mapping[str, Any], meaning: str) -> dict[str, str]:
    value, interval = _figure(values["value"]), values["interval"]
    reason = f" Not all is measured: {values['reason']}." if values["reason"] else ""
    return {
        "name": values["name"],
        "value": f"{value} [{_figure(interval[0])}, {_figure(interval[1])}]" if interval else value,
        "held_out": _figure(values["held_out_value"]),
        "floor": _figure(values["floor"]),
        "meaning": f"{meaning}{' In brackets the 95 % interval.' if interval else ''}{reason}",
    }


def _floor_note(metrics: Mapping[str, Any]) -> str:
    """Say between what the floors by features are, and what the generated structures get in such numbers."""
    measured = [metrics[m] for m in _generative(metrics) if metrics[m]["floor"] is not None]
    if not measured:
        return ""
    first, second = measured[0]["floor_n_images"]
    text = f"floors by features: between disjoint sets of {first} and {second} real structures"
    if [first, second] == list(measured[0]["n_images"].values()):
        return f"{text}."
    figures = ", ".join(f"{values['name']} {_figure(values['value_at_floor_counts'])}" for values in measured)
    return f"{text}; of {first} real and {second} generated ones: {figures}."


def _warnings(metrics: Mapping[str, Any]) -> list[str]:
    return [f"warning: {text}." for text in metrics["warnings"]]


def _copy_row(nearest: Mapping[str, Any]) -> dict[str, str]:
    where = f", compared with {nearest['compared_with']}" if nearest["compared_with"] else ""
    real = nearest["held_out_minimum_mse"]
    unseen = f", of real unseen structures {real:.4f}" if real is not None else ""
    return {
        "name": "minimum pixel MSE to training",
        "value": _number(nearest["minimum_mse"], "{:.4f}"),
        "held_out": "",
        "floor": _number(real, "{:.4f}"),
        "meaning": "Share of the pixels in which the generated structure that is nearest to a training image differs "
        f"from it{where}. 0 is a copy; of independent structures it is {nearest['independent_mse']:.3f}{unseen}.",
    }


def _with_phase(name: str, metrics: Mapping[str, Any], measure: str) -> str:
    return f"{name}, phase {metrics[measure]['phase']}" if "phases" in metrics else name


def _summary(metrics: Mapping[str, Any]) -> str:
    """Say the result in two or three sentences."""
    fraction, s2, lineal = (metrics[m] for m in ("volume_fraction", "two_point_correlation", "lineal_path"))
    n = metrics["n_images"]["generated"]
    text = (
        f"{n} generated structure{'s' if n != 1 else ''}. "
        f"The volume fraction is {fraction['generated']:.4f} (original {fraction['original']:.4f}). "
        f"The two-point correlation differs from the original's by {_percent(s2['discrepancy_percent'])}, "
        f"the lineal path by {_percent(lineal['discrepancy_percent'])}"
    )
    if s2["floor_percent"] is not None and lineal["floor_percent"] is not None:
        floors = f"{_percent(s2['floor_percent'])} and {_percent(lineal['floor_percent'])}"
        text = f"{text}; as many real structures show {floors}"
    distance = metrics["frechet_distance"]
    if distance["value_at_floor_counts"] is None:
        return f"{text}."
    real, made = _figure(distance["floor"]), _figure(distance["value_at_floor_counts"])
    return f"{text}. The {distance['name']} is {made}; between real structures in the same numbers it is {real}."


def _counts(metrics: Mapping[str, Any]) -> str:
    """Say how many images are behind the figures."""
    n = metrics["n_images"]
    names = {"generated": "generated", "original": "original", "held_out": "held-out", "training": "training"}
    parts = ", ".join(f"{n[key]} {name}" for key, name in names.items() if key in n)
    extent = " x ".join(map(str, metrics["extent"]))
    drawn = f"; floor: mean of {metrics['n_floor_draws']} draws" if n["original"] > 1 else ""
    return f"{parts} structures of {extent} pixels{drawn}."


def _incomplete(metrics: Mapping[str, Any]) -> str:
    """Say why some cells of the table are empty; an empty text if none is."""
    reasons = []
    if "held_out" not in metrics["n_images"]:
        reasons.append("no part of the original was held out")
    if metrics["n_images"]["original"] < 2:
        reasons.append("one original alone has no floor")
    if metrics["nearest_training_image"]["minimum_mse"] is None:
        reasons.append("no training images were given")
    return ", ".join(reasons) + "." if reasons else ""


def _colours(n_phases: int) -> str:
    if n_phases == 0:
        return "Grey values from black (0) to white (1)."
    if n_phases == 2:
        return "Phase 0 is black, phase 1 white."
    return f"Phase 0 is black, phase {n_phases - 1} white, those between are grey."


def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def _number(value: float | None, pattern: str) -> str:
    return MISSING if value is None else pattern.format(value)


def _percent(value: float | None) -> str:
    return _number(value, "{:.1f} %" if value is None or value >= 1 else "{:.2f} %")


def _figure(value: float | None) -> str:
    return _number(value, "{:.3f}" if value is None or value < 10 else "{:.2f}" if value < 100 else "{:.0f}")


def _difference(difference: float | None, real: float | None) -> str:
    return MISSING if difference is None or real is None else f"{difference:+.4f} ({real:.4f})"


def _seeds(settings: Mapping[str, Any], n: int) -> Sequence[int]:
    """Return the seeds that follow one another from the sampling's seed; none where it is not known."""
    sampling = settings.get("sampling")
    if not isinstance(sampling, Mapping) or "seed" not in sampling:
        return []
    return range(sampling["seed"], sampling["seed"] + n)


def _setting_groups(settings: Mapping[str, Any], seeds: Sequence[int]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the settings in groups, then the seeds, then the versions: (name, [(key, value)])."""
    versions = {"python": platform.python_version()} | package_versions(*PACKAGES)
    groups: dict[str, Mapping[str, Any]] = {"run": {k: v for k, v in settings.items() if not isinstance(v, Mapping)}}
    groups |= {k: v for k, v in settings.items() if isinstance(v, Mapping)}
    groups |= {"seeds": {"seeds of the structures": _ranges(seeds)} if len(seeds) else {}, "versions": versions}
    return [(name, [(k, _plain(v)) for k, v in values.items()]) for name, values in groups.items() if values]


def _plain(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_plain(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _ranges(seeds: Sequence[int]) -> str:
    """Write seeds briefly: 0 to 15, 20."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
