"""The results of a benchmark -> benchmark.json, tables, plot and page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.benchmark.machine import describe_all
from mcrpy_diffusion.benchmark.plan import Plan
from mcrpy_diffusion.benchmark.tables import cost_table, markdown, plain, quality_table, seconds
from mcrpy_diffusion.io.files import write_file, write_json
from mcrpy_diffusion.reports.benchmark_figures import benchmark_pictures
from mcrpy_diffusion.reports.pictures import structure_pictures
from mcrpy_diffusion.reports.report import template
from mcrpy_diffusion.reports.settings_table import setting_groups

N_SHOWN = 8  # structures of each method


def console_tables(results: Mapping[str, Any]) -> str:
    """Return both tables and what to know before believing them."""
    tables = [plain(cost_table(results)), plain(quality_table(results))]
    return "\n\n".join(
        [*tables, "\n".join([*(f"note: {note}" for note in results["notes"]), describe_all(results["measured_on"])])]
    )


def write_page(plan: Plan, results: Mapping[str, Any]) -> list[Path]:
    """Write benchmark.json, benchmark.md, benchmark.png and, last, benchmark.html, one file that needs no other.

    Returns
    -------
    list of Path
        These files.
    """
    page, numbers, table, plot = (plan.folder / f"benchmark.{kind}" for kind in ("html", "json", "md", "png"))
    write_json(numbers, results)
    both = (cost_table(results), quality_table(results))
    notes = [_sentence(note) for note in results["notes"]]
    text = "\n\n".join([f"# {title(results)}", *map(markdown, both), *notes, describe_all(results["measured_on"])])
    write_file(table, text + "\n")
    pictures = benchmark_pictures(results, plot)
    html = template("benchmark").render(
        title=title(results),
        summary=summary(results),
        tables=both,
        notes=notes,
        machine=describe_all(results["measured_on"]),
        pictures=pictures,
        sheets=_sheets(plan, results),
        settings=setting_groups(results["settings"], []),
    )
    write_file(page, html)
    return [page, numbers, table, plot]


def title(results: Mapping[str, Any]) -> str:
    """What the page is called."""
    extent = " x ".join(map(str, results["extent"]))
    return f"MCRpy and diffusion on {results['reference']}, {extent} pixels"


def summary(results: Mapping[str, Any]) -> str:
    """Say the result in two or three sentences."""
    names = {row["method"]: row["title"] for row in results["methods"]}
    sentences = [_parts(results)]
    for row in results["methods"]:
        if row["is_diffusion"] and row["cost"] is not None:
            cost = row["cost"]
            sentences.append(
                f"{row['title']} takes {seconds(cost['each'])} s a structure after {seconds(cost['fixed'])} s."
            )
    for method, each in results["break_even"].items():
        cheaper = [
            f"{names[sampler]} is cheaper " + ("at no number of structures" if n is None else f"from {n} structures on")
            for sampler, n in each.items()
        ]
        if cheaper:
            sentences.append(f"Against {names[method]}: {', '.join(cheaper)}.")
    return " ".join(sentences)


def _parts(results: Mapping[str, Any]) -> str:
    if not results["has_held_out"]:
        return "All methods used the whole reference, and are compared with it."
    seen, held = (" x ".join(map(str, results[part])) for part in ("training_part", "held_out_part"))
    return f"All methods used {seen} pixels of the micrograph; {held} were held out to compare with."


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:]}."


def _sheets(plan: Plan, results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a few structures of each method, and of the micrograph."""
    from mcrpy_diffusion.benchmark.quality import RealSets

    n_phases = results["n_phases"]
    real = RealSets.independent_crops(plan)[:N_SHOWN]
    sets: dict[str, np.ndarray] = {"Real": real}
    for row in results["methods"]:
        made = plan.structures(row["method"])
        if made is not None:
            sets[row["title"]] = made
    sheets = []
    for name, images in sets.items():
        labels = [f"crop {i}" if name == "Real" else f"seed {plan.settings.seed + i}" for i in range(N_SHOWN)]
        shown = structure_pictures(name, images[:N_SHOWN], n_phases, labels)
        sheets.append({**shown, "title": f"{name} ({len(shown['images'])} of {len(images)})"})
    return sheets
