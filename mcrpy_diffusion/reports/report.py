"""Metrics and structures -> contact sheet, curves, closing table, metrics.json and report.html."""

from __future__ import annotations

import os
import platform
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mcrpy_diffusion.evaluation.copies import Pair
from mcrpy_diffusion.io.files import make_folder, write_atomically, write_json
from mcrpy_diffusion.io.provenance import package_versions
from mcrpy_diffusion.reports.figures import (
    contact_sheet,
    curve_pictures,
    histogram_pictures,
    pair_pictures,
    statistics_figure,
    structure_pictures,
)
from mcrpy_diffusion.runtime.tables import MISSING, number, text_table

FEATURE_GROUP = "Features of a trained network"
PACKAGES = ("torch", "tensorflow", "mcrpy", "numpy", "scipy")
CONSOLE_WIDTH = 100  # characters of a line at most
FAR_FROM_FLOOR = 3  # times the floor: measures beyond are named in the summary
COPYING_Z = -3  # below it the summary speaks of copying; of 1,000 sets of independent real structures one falls below
CURVES = {
    "two_point_correlation": (
        "two-point correlation, eps_S2",
        "How often two pixels a distance r apart are both in the phase",
    ),
    "lineal_path": ("lineal path, eps_L", "How often a straight segment of length r lies wholly in the phase"),
}
SCALARS = {
    "specific_surface": (
        "specific surface",
        "{:+.4f} ({:.4f})",
        "±{:.4f}",
        "Length of the interface of the phase per area, 1/pixel",
    ),
    "number_of_clusters": (
        "clusters per 10,000 pixels",
        "{:+.1f} ({:.1f})",
        "±{:.1f}",
        "Pieces of the phase that hang together by edges of pixels",
    ),
    "euler_number": (
        "Euler number per 10,000 pixels",
        "{:+.1f} ({:.1f})",
        "±{:.1f}",
        "Pieces of the phase minus holes in them: how it is connected",
    ),
}
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
    original: np.ndarray | None,
    generated: np.ndarray,
    settings: Mapping[str, Any] = MappingProxyType({}),
    seconds: Mapping[str, float] = MappingProxyType({}),
    seeds: Sequence[int] | None = None,
    suffix: str = "",
    pairs: Sequence[Pair] = (),
) -> list[Path]:
    """Write contact_sheet.png, statistics.png, metrics.json and, last, report.html, one file that needs no other.

    Parameters
    ----------
    folder : path
        Made where it is not there.
    name : str
        What the structures are like: the reference's name.
    metrics : mapping
        What `evaluate` or `evaluate_against_statistics` returned; metrics.json is this and `seconds`.
    original, generated : (N, I, J) or None, (M, I, J)
        Integer phases or grey values in [0, 1]; the first 16 of each are shown.
    settings : mapping
        The resolved settings; those that are mappings themselves (one per stage) become groups of their own.
    seconds : mapping
        Stage -> seconds. Both are empty by default.
    seeds : sequence of int, optional
        The seed of each generated structure. If None, they follow one another from the `seed` of the group
        `sampling`, where there is one.
    suffix : str
        Put before the extension of each file's name.
    pairs : sequence of Pair
        Generated structures and their nearest training structures, of `evaluate_copies.pairs_of`.

    Returns
    -------
    list of Path
        The report, the contact sheet, the curves and the metrics.
    """
    folder = make_folder(folder)
    files = ("report.html", "contact_sheet.png", "statistics.png", "metrics.json")
    report, sheet, curves, numbers = (folder / f"{Path(n).stem}{suffix}{Path(n).suffix}" for n in files)
    contact_sheet(original, generated, sheet)
    statistics_figure(metrics, curves)
    write_json(numbers, {**metrics, "seconds": dict(seconds)})
    seeds = _seeds(settings, len(generated)) if seeds is None else seeds
    labels = [f"seed {seed}" for seed in seeds] or [f"structure {i}" for i in range(len(generated))]
    sheets = [structure_pictures("Generated", generated, metrics["n_phases"], labels)]
    if original is not None:
        names = [f"original {i}" for i in range(len(original))]
        sheets.insert(0, structure_pictures("Original", original, metrics["n_phases"], names))
    page = template("report").render(
        title=f"New microstructures like {name}",
        summary=_summary(metrics),
        groups=_groups(metrics),
        held_out="held_out" in metrics["n_images"],
        counts=_counts(metrics),
        incomplete=_incomplete(metrics),
        notes=[note for note in (_floor_note(metrics), *_warnings(metrics)) if note],
        curves=curve_pictures(metrics),
        grains=_grain_pictures(metrics),
        distances=_distance_pictures(metrics),
        copying=_copying_text(metrics),
        pairs=pair_pictures(pairs, metrics["n_phases"], labels),
        colours=_colours(metrics["n_phases"]),
        sheets=sheets,
        seconds=[(key, f"{value:.1f} s") for key, value in {**seconds, "together": sum(seconds.values())}.items()],
        settings=setting_groups(settings, seeds),
    )
    write_atomically(report, lambda file: file.write(page.encode()))
    return [report, sheet, curves, numbers]


def write_structures(folder: str | os.PathLike[str], generated: np.ndarray, *, suffix: str = "") -> Path:
    """Write contact_sheet.png of structures (M, I, J) that there is nothing to compare with; return its path."""
    path = make_folder(folder) / f"contact_sheet{suffix}.png"
    contact_sheet(None, generated, path)
    return path


def console_table(metrics: Mapping[str, Any], seconds: Mapping[str, float], *, full: bool = False) -> str:
    """Return the closing table of the console.

    Parameters
    ----------
    metrics : mapping
        What `evaluate` returned.
    seconds : mapping
        Stage -> seconds.
    full : bool
        Whether all measures of the report are in it, or the most important ones.

    Returns
    -------
    str
        Lines of at most 100 characters without the last line's end.
    """
    table = [(row["name"], _console_value(row), row["held_out"], row["floor"]) for row in _rows(metrics, full=full)]
    head = ("generated against", "original", "held-out part", "floor")
    lines = text_table(head, table, min_widths=(0, 16, 16, 16)).splitlines()
    for note in (_floor_note(metrics), *_warnings(metrics)):
        lines += textwrap.wrap(note, CONSOLE_WIDTH)
    times = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
    return "\n".join([*lines, _counts(metrics), f"seconds: {times}, together {sum(seconds.values()):.1f}"])


def _console_value(row: Mapping[str, str]) -> str:
    """Return the value; of the measures by features, whose floor says less, with the interval."""
    return f"{row['value']} [{row['interval'].replace(' to ', ', ')}]" if row["bracketed"] else row["value"]


def _rows(metrics: Mapping[str, Any], *, full: bool) -> list[dict[str, str]]:
    """Return the rows of the console's table."""
    groups = _groups(metrics)
    if full:
        return [row for _, rows in groups for row in rows]
    return [*groups[0][1], *(row for name, rows in groups if name == FEATURE_GROUP for row in rows), groups[-1][1][0]]


def _groups(metrics: Mapping[str, Any]) -> list[tuple[str, list[dict[str, str]]]]:
    """Return the rows of the report's table in groups: how much and where first, copies last; of what was measured."""
    basic = [_scalar_row(metrics, "volume_fraction", "volume fraction", "{:+.4f} ({:.4f})", "±{:.4f}", "")]
    fraction = metrics["volume_fraction"]
    basic[0]["meaning"] = (
        f"Share of the pixels that is phase {fraction['phase']}: {fraction['generated']:.4f} in the generated "
        "structures."
    )
    basic += [_curve_row(metrics, measure, *words) for measure, words in CURVES.items()]
    shapes = [_scalar_row(metrics, measure, *words) for measure, words in SCALARS.items() if measure in metrics]
    directed = [measure for measure in CURVES if "directions" in metrics[measure]]
    directions = [_direction_row(metrics, measure) for measure in directed]
    directions += [_anisotropy_row(metrics, measure) for measure in directed]
    groups = {
        "Amount and arrangement": basic,
        FEATURE_GROUP: [_generative_row(metrics[measure], text) for measure, text in _generative(metrics).items()],
        "Interfaces and pieces": [*shapes, *([_chord_row(metrics)] if "chord_length" in metrics else [])],
        "Directions": directions,
        "Grains": _grain_rows(metrics),
        "Copies": [_copy_row(metrics["nearest_training_image"]), _copying_row(metrics["data_copying"])],
    }
    return [(name, rows) for name, rows in groups.items() if rows]


def _row(name: str, value: str, floor: str, meaning: str, **more: str) -> dict[str, str]:
    empty = dict.fromkeys(("interval", "held_out", "count", "bracketed"), "")
    return {**empty, "name": name, "value": value, "floor": floor, "meaning": meaning, **more}


def _scalar_row(
    metrics: Mapping[str, Any], measure: str, name: str, pattern: str, floor: str, meaning: str
) -> dict[str, str]:
    """A number per structure: the difference of the means, and the real mean."""
    values = metrics[measure]
    signed = pattern.split(" ")[0]
    return _row(
        _with_phase(name, metrics, measure),
        _difference(values["difference"], values["original"], pattern),
        number(values["floor"], floor),
        f"{meaning}.",
        interval=_interval(values["interval"], signed),
        held_out=_difference(values["held_out_difference"], values.get("held_out"), pattern),
        count=_count(values),
    )


def _curve_row(metrics: Mapping[str, Any], measure: str, name: str, meaning: str) -> dict[str, str]:
    """A curve per structure: eq. (23)."""
    values = metrics[measure]
    interval = values["interval_percent"]
    return _row(
        _with_phase(name, metrics, measure),
        _percent(values["discrepancy_percent"]),
        _percent(values["floor_percent"]),
        f"{meaning}: area between the two curves over the area under the real one.",
        interval=_interval(interval, "{:.1f}" if interval and max(interval) >= 1 else "{:.2f}", " %"),
        held_out=_percent(values["held_out_discrepancy_percent"]),
        count=_count(values),
    )


def _chord_row(metrics: Mapping[str, Any]) -> dict[str, str]:
    values = metrics["chord_length"]
    row = _curve_row(metrics, "chord_length", "chord lengths, eps", "How many chords of each length cross the phase")
    made, real = (number(values[f"{name}_mean_length"], "{:.2f}") for name in ("generated", "original"))
    row["meaning"] += f" Mean chord: {made} pixels, in the original {real}."
    return row


def _direction_row(metrics: Mapping[str, Any], measure: str) -> dict[str, str]:
    """The direction that fits worst."""
    directions = metrics[measure]["directions"]
    worst = max(directions, key=lambda name: directions[name]["discrepancy_percent"] or 0.0)
    symbol = CURVES[measure][0].split("_")[-1]
    each = ", ".join(f"{name} {_percent(values['discrepancy_percent'])}" for name, values in directions.items())
    row = _curve_row({**metrics, measure: metrics[measure] | directions[worst]}, measure, "", "")
    row["name"] = _with_phase(f"{symbol} {worst}, the worst direction", metrics, measure)
    row["meaning"] = f"eps_{symbol} of one direction alone: {each}."
    return row


def _anisotropy_row(metrics: Mapping[str, Any], measure: str) -> dict[str, str]:
    values, symbol = metrics[measure]["anisotropy_percent"], CURVES[measure][0].split("_")[-1]

    def against(name: str) -> str:
        made, real = values["generated"], values.get(name)
        return MISSING if made is None or real is None else f"{made - real:+.1f} ({real:.1f} %)"

    return _row(
        _with_phase(f"anisotropy of {symbol}", metrics, measure),
        against("original"),
        number(values["floor"], "±{:.1f}"),
        f"How far {symbol} differs between two directions at most. Chance alone makes it larger for fewer structures.",
        held_out=against("held_out"),
        count=_count(metrics[measure]),
    )


def _grain_rows(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Mean and distribution of the grains' diameters and aspect ratios, where they were measured."""
    grains = metrics["grains"]
    rows: list[dict[str, str]] = []
    if grains is None:
        return rows
    count = "{generated} / {original} grains".format(**grains["n_grains"])
    if grains["reason"]:
        return [_row("grains", MISSING, MISSING, f"Not measured: {grains['reason']}.", count=count)]
    for measure, name, unit in (("diameter", "grain diameter", " pixels"), ("aspect_ratio", "grain aspect ratio", "")):
        values = grains[measure]
        if values is None:
            continue
        spread = " and ".join(f"{values[k]:.2f} ± {values[f'{k}_std']:.2f} ({k})" for k in ("generated", "original"))
        distances = {
            "Wasserstein": ("wasserstein", unit, "Mean distance by which values have to be moved to turn one "
            "distribution into the other"),
            "Kolmogorov-Smirnov": ("kolmogorov_smirnov", "", "Largest difference of the cumulative distributions, 0 "
            "to 1"),
        }  # fmt: skip
        for title, (key, of, meaning) in distances.items():
            rows.append(
                _row(
                    f"{name}, {title}",
                    f"{_figure(values[key])}{of}",
                    _figure(values[f"{key}_floor"]),
                    f"{meaning}. Mean and standard deviation: {spread}.",
                    held_out=_figure(values[f"held_out_{key}"]) if f"held_out_{key}" in values else "",
                    count=count,
                )
            )
    return rows


def _copying_row(copying: Mapping[str, Any]) -> dict[str, str]:
    """The data-copying test."""
    meaning = (
        "Whether generated structures lie nearer to the training structures than real unseen ones do: about 0 if they "
        "do not, far below 0 for copies (and for structures with less of a phase), far above 0 for structures unlike "
        "real ones."
    )
    if copying["z"] is None:
        return _row("data copying, z", MISSING, MISSING, f"{meaning} Not measured: {copying['reason']}.")
    n = copying["n_images"]
    overlap = " These overlap, so that z scatters by more than 1." if copying["overlapping"] else ""
    return _row(
        "data copying, z",
        f"{copying['z']:+.1f}",
        "0 ± 2",
        f"{meaning} Unseen: {copying['compared_with']}.{overlap}",
        count=f"{n['generated']} / {n['real']}",
    )


def _count(values: Mapping[str, Any]) -> str:
    return f"{values['n_images']['generated']} / {values['n_images']['original']}"


def _interval(interval: Sequence[float] | None, pattern: str, unit: str = "") -> str:
    return f"{pattern.format(interval[0])} to {pattern.format(interval[1])}{unit}" if interval else ""


def _generative(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return the measures by features that were asked for, and what they mean."""
    return {measure: text for measure, text in GENERATIVE.items() if metrics[measure]["features"] is not None}


def _generative_row(values: Mapping[str, Any], meaning: str) -> dict[str, str]:
    value, interval = _figure(values["value"]), values["interval"]
    reason = f" Not all is measured: {values['reason']}." if values["reason"] else ""
    return _row(
        values["name"],
        value,
        _figure(values["floor"]),
        f"{meaning}{reason}",
        interval=f"{_figure(interval[0])} to {_figure(interval[1])}" if interval else "",
        held_out=_figure(values["held_out_value"]),
        count=_count(values) if values["n_images"] else "",
        bracketed="yes" if interval else "",
    )


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
    n = nearest["n_images"]
    return _row(
        "minimum pixel MSE to training",
        number(nearest["minimum_mse"], "{:.4f}"),
        number(real, "{:.4f}"),
        "Share of the pixels in which the generated structure that is nearest to a training image differs "
        f"from it{where}. 0 is a copy; of independent structures it is {nearest['independent_mse']:.3f}{unseen}.",
        count=f"{n['generated']} / {n['training']}",
    )


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
    if distance["value_at_floor_counts"] is not None:
        real, made = _figure(distance["floor"]), _figure(distance["value_at_floor_counts"])
        text = f"{text}. The {distance['name']} is {made}; between real structures in the same numbers it is {real}"
    return f"{text}.{_far_from_floor(metrics)}{_copied(metrics)}"


def _far_from_floor(metrics: Mapping[str, Any]) -> str:
    """Name the measures that are farther off than real structures are."""
    found, known = [], False
    for measure, name in {
        "volume_fraction": "volume fraction",
        **{measure: words[0].split(",")[0] for measure, words in CURVES.items()},
        **{measure: words[0] for measure, words in SCALARS.items()},
        "chord_length": "chord lengths",
    }.items():
        if measure not in metrics:
            continue
        values = metrics[measure]
        off = values["discrepancy_percent"] if "floor_percent" in values else values["difference"]
        floor = values["floor_percent"] if "floor_percent" in values else values["floor"]
        if off is None or floor is None:
            continue
        known = True
        if abs(off) > FAR_FROM_FLOOR * floor:
            found.append(f"{name} ({abs(off) / floor:.1f})" if floor > 0 else name)
    if not known:
        return ""
    if not found:
        return f" Every measure is within {FAR_FROM_FLOOR} times its floor, as those of real structures mostly are."
    return f" Farther from the original than real structures are, in times of the floor: {', '.join(found)}."


def _copied(metrics: Mapping[str, Any]) -> str:
    """Say whether there are copies among the structures."""
    nearest, z = metrics["nearest_training_image"], metrics["data_copying"]["z"]
    text = ""
    if n := nearest["n_exact_copies"]:
        verb = "is an exact copy" if n == 1 else "are exact copies"
        text += f" {n} of the generated structures {verb} of what was trained on."
    if z is not None and z < COPYING_Z:
        text += f" They lie nearer to the training structures than real unseen ones do (z = {z:.1f}), as copies do"
        fraction = metrics["volume_fraction"]
        if fraction["floor"] is not None and abs(fraction["difference"]) > FAR_FROM_FLOOR * fraction["floor"]:
            text += "; so do structures with less of a phase, and their volume fraction is off"
        text += "."
    return text


def _copying_text(metrics: Mapping[str, Any]) -> str:
    """Say what the closest pairs and the distances show."""
    nearest, copying = metrics["nearest_training_image"], metrics["data_copying"]
    if nearest["minimum_mse"] is None:
        return "Copies were not looked for: no training structures were given."
    text = (
        f"Each generated structure was compared with {nearest['compared_with']}. Structures that have nothing to do "
        f"with each other differ by {nearest['independent_mse']:.3f} in the mean."
    )
    if copying["z"] is None:
        return f"{text} There is no test of the distances: {copying['reason']}."
    n, expected = copying["n_nearer_than_any_real"], copying["expected_nearer"]
    overlap = (
        " Crops overlap, so that both figures scatter more than they would otherwise." if copying["overlapping"] else ""
    )
    return (
        f"{text} Nearest training structure, median: {copying['median_mse']:.4f} from a generated structure, "
        f"{copying['real_median_mse']:.4f} from an unseen real one ({copying['compared_with']}); "
        f"{n} generated ones lie nearer than any of {copying['n_images']['real']} real ones, where {expected:.1f} are "
        f"expected. z = {copying['z']:+.1f}: Mann-Whitney test of the two, after Meehan et al.{overlap}"
    )


def _distance_pictures(metrics: Mapping[str, Any]) -> dict[str, str] | None:
    """Draw how near generated and unseen real structures come to the training structures."""
    copying = metrics["data_copying"]
    if copying["histogram"] is None:
        return None
    n = copying["n_images"]
    return histogram_pictures(
        copying["histogram"],
        {"real": f"real unseen ({n['real']})", "generated": f"generated ({n['generated']})"},
        title="Distance to the nearest training structure",
        x_label="share of pixels that differ" if metrics["n_phases"] else "mean squared difference",
        alt=f"Histograms of the distance to the nearest training structure. Median of the generated structures "
        f"{copying['median_mse']:.3f}, of real unseen ones {copying['real_median_mse']:.3f}.",
        caption="Copies would stand apart on the left.",
    )


def _grain_pictures(metrics: Mapping[str, Any]) -> list[dict[str, str]]:
    """Draw the distributions of the grains' diameters and aspect ratios."""
    grains, pictures = metrics["grains"], []
    for measure, name, unit in (
        ("diameter", "equivalent diameter", " in pixels"),
        ("aspect_ratio", "aspect ratio", ""),
    ):
        if grains is None or grains[measure] is None:
            continue
        values = grains[measure]
        means = ", ".join(f"{k} {values[k]:.2f} ± {values[f'{k}_std']:.2f}" for k in ("original", "generated"))
        pictures.append(
            histogram_pictures(
                values["histogram"],
                {name: f"{name} ({grains['n_grains'][name]})" for name in ("original", "generated")},
                title=f"Grains: {name}",
                x_label=f"{name}{unit}",
                alt=f"Histograms of the {name} of the grains{unit}: {means}.",
                caption=f"Mean and standard deviation{unit}: {means}.",
            )
        )
    return pictures


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


def template(name: str) -> Any:
    """Return a template of this package's pages, `<name>.html.jinja`."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(f"{name}.html.jinja")


def _percent(value: float | None) -> str:
    return number(value, "{:.1f} %" if value is None or value >= 1 else "{:.2f} %")


def _figure(value: float | None) -> str:
    return number(value, "{:.3f}" if value is None or value < 10 else "{:.2f}" if value < 100 else "{:.0f}")


def _difference(difference: float | None, real: float | None, pattern: str) -> str:
    return MISSING if difference is None or real is None else pattern.format(difference, real)


def _seeds(settings: Mapping[str, Any], n: int) -> Sequence[int]:
    """Return the seeds that follow one another from the sampling's seed; none where it is not known."""
    sampling = settings.get("sampling")
    if not isinstance(sampling, Mapping) or "seed" not in sampling:
        return []
    return range(sampling["seed"], sampling["seed"] + n)


def setting_groups(settings: Mapping[str, Any], seeds: Sequence[int]) -> list[tuple[str, list[tuple[str, str]]]]:
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
