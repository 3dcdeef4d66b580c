"""Metrics -> Markdown: the paper's tables 2, 3 and 4 with its values beside ours, and further measures.

Table 2: Frechet distance (the paper's is an FID). Table 3: precision and recall. Table 4: discrepancies of S2 and L.
The paper's values are those of DDIM with 150 steps at 64 x 64.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.paper.plan import EXTENTS, STUDY_NAME, sampler_name
from benchmarks.paper.published import PAPER, SAMPLING_STEPS
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import make_folder, write_file
from mcrpy_diffusion.materials.reference_images import MATERIALS
from mcrpy_diffusion.runtime.tables import MISSING, markdown_table, number
from mcrpy_diffusion.settings import SAMPLERS

Metrics = Mapping[str, Any]
TARGETS = {"volume_fraction": 0.005, "grain_size_percent": 3.0, "copying_z": 2.0}
PAPER_SHARE = {"small": 1.0, "paper": 0.5}  # of the paper's discrepancies that a scale aims at
_IN_WORDS = {1.0: "the paper's", 0.5: "half of the paper's"}


def write_tables(folder: Path) -> list[Path]:
    """Write all tables of the metrics in a folder.

    Parameters
    ----------
    folder : path
        The results of one scale and extent.

    Returns
    -------
    list of path
        The files; empty without metrics.
    """
    results = read_metrics(folder)
    if not results:
        return []
    written = []
    for name, make in TABLES.items():
        path = make_folder(folder) / f"{name}.md"
        text = "\n\n".join([make(results), costs(results), commands(results)]) + "\n"
        write_file(path, text)
        written.append(path)
    study = folder / f"{STUDY_NAME}.json"
    if study.exists():
        path, text = folder / "figure_8.md", sampling_steps(json.loads(study.read_text())) + "\n"
        write_file(path, text)
        written.append(path)
    return written


def read_metrics(folder: Path) -> list[Metrics]:
    """The metrics of every material and sampler, in the paper's order, its own sampler first."""
    found = [_read(file) for file in (folder / "metrics").glob("*.json")]
    order = [*SAMPLERS]
    return sorted(
        found, key=lambda m: (MATERIALS.index(m["run"]["material"]), order.index(m["run"]["sampler"]), _steps(m))
    )


def table_2(results: Sequence[Metrics]) -> str:
    """Frechet distances."""
    titles = {n: found["name"] for m in reversed(results) for n, found in m["by_features"].items()}
    networks = _networks(results)
    head = [c for n in networks for c in (f"{titles[n]} [95 %]", "real structures")]

    def row(m: Metrics) -> list[str]:
        return [*_feature_cells(m, networks, ["frechet_distance"], "{:.2f}"), paper(m, "fid", "{:.2f}")]

    text = (
        "Table 2: Frechet distance of generated and held-out structures. *Real structures*: that of the training "
        "set, real ones too, instead of the generated ones, in the number below. A distance by VGG-19 is no FID, and "
        "not on the scale of the paper's."
    )
    return titled(text, results, table(["material", "sampler", *head, "paper: FID"], results, row))


def table_3(results: Sequence[Metrics]) -> str:
    """Precision and recall."""
    networks, measures = _networks(results), ("precision", "recall")
    head = [f"{c} ({n})" if len(networks) > 1 else c for n in networks for c in _pairs(measures)]

    def row(m: Metrics) -> list[str]:
        papers = (paper(m, measure, "{:.3f}") for measure in measures)
        return [*_feature_cells(m, networks, measures, "{:.3f}"), *papers]

    features = " and ".join(networks) or "no features"
    text = (
        f"Table 3: improved precision and recall, k = 3, by {features}; the paper's are by Inception. *Real "
        "structures*: the same of the training set."
    )
    head = ["material", "sampler", *head, "paper: precision", "paper: recall"]
    return titled(text, results, table(head, results, row))


def table_4(results: Sequence[Metrics]) -> str:
    """Discrepancies of S2 and L."""
    measures = {"two_point_correlation": ("eps_S2 %", "eps_s2"), "lineal_path": ("eps_L %", "eps_l")}
    head = [c for title, _ in measures.values() for c in (f"{title} [95 %]", "floor", "training set", "paper")]

    def row(m: Metrics) -> list[str]:
        cells = []
        for measure, (_, key) in measures.items():
            found = m[measure]
            cells.append(with_interval(found, "discrepancy_percent", "interval_percent", "{:.2f}"))
            cells += [number(found[k], "{:.2f}") for k in ("floor_percent", "original_to_training_percent")]
            cells.append(paper(m, key, "{:.2f}"))
        return [*cells, reached(m)]

    text = (
        "Table 4: discrepancy of the two-point correlation S2 and of the lineal path L between generated and held-out "
        "structures, eq. (23). *Floor*: that of two sets of held-out structures in these numbers, drawn at random; "
        "*training set*: that of the training set. *Target*: at most "
        f"{_IN_WORDS[PAPER_SHARE[results[0]['run']['scale']]]} in both."
    )
    return titled(text, results, table(["material", "sampler", *head, "target"], results, row))


def further(results: Sequence[Metrics]) -> str:
    """Volume fraction, grain size and copies."""
    head = ["original", "difference [95 %]", "floor", "grain size, pixels (original)", "copies: z", "exact", "target"]

    def row(m: Metrics) -> list[str]:
        fraction, grains = m["volume_fraction"], m["grains"] and m["grains"]["diameter"]
        cells = [
            number(fraction["original"], "{:.4f}"),
            with_interval(fraction, "difference", "interval", "{:+.4f}"),
            number(fraction["floor"], "{:.4f}"),
        ]
        if grains:
            cells.append("{generated:.2f} ± {generated_std:.2f} ({original:.2f} ± {original_std:.2f})".format(**grains))
        else:
            cells.append(MISSING)
        nearest = m["nearest_training_image"]
        return [*cells, number(m["data_copying"]["z"], "{:+.1f}"), number(nearest["n_exact_copies"], "{}"), met(m)]

    text = (
        "Volume fraction of phase 1, equivalent grain diameter (mean ± standard deviation, the paper's figure 5) and "
        "data copying: z of the test of Meehan et al. against the held-out set, below 0 where generated structures lie "
        "nearer to the training set than real ones. *Target*: volume fraction within "
        f"{TARGETS['volume_fraction']}, mean grain size within {TARGETS['grain_size_percent']:g} %, z within "
        f"±{TARGETS['copying_z']:g}."
    )
    return titled(text, results, table(["material", "sampler", *head], results, row))


def summary(results: Sequence[Metrics]) -> str:
    """The main measures, a row per material: of the paper's sampler if it was measured, else of the first one."""
    own = list({m["run"]["material"]: m for m in reversed(results)}.values())[::-1]
    head = [
        "volume fraction, difference",
        "eps_S2 %",
        "eps_L %",
        "Frechet distance",
        "precision",
        "recall",
        "copies: z",
    ]

    def row(m: Metrics) -> list[str]:
        found = next(iter(m["by_features"].values()), {})

        def of(measure: str, style: str) -> str:
            each = found.get(measure, {})
            return f"{number(each.get('value'), style)} / {number(each.get('floor'), style)}"

        curves = [
            f"{number(m[c]['discrepancy_percent'], '{:.2f}')} / {number(m[c]['floor_percent'], '{:.2f}')}"
            f" / {paper(m, key, '{:.2f}')}"
            for c, key in (("two_point_correlation", "eps_s2"), ("lineal_path", "eps_l"))
        ]
        fraction = f"{number(m['volume_fraction']['difference'], '{:+.4f}')}"
        features = [of("frechet_distance", "{:.2f}"), of("precision", "{:.2f}"), of("recall", "{:.2f}")]
        return [fraction, *curves, *features, number(m["data_copying"]["z"], "{:+.1f}")]

    text = (
        "In each cell of eps: ours / floor / the paper's; of the last measures but one: ours / that of real "
        f"structures, by {next(iter(own[0]['by_features']), 'no features')}."
    )
    return titled(text, own, table(["material", "sampler", *head], own, row))


TABLES: dict[str, Callable[[Sequence[Metrics]], str]] = {
    "table_2": table_2,
    "table_3": table_3,
    "table_4": table_4,
    "further": further,
    "summary": summary,
}


def sampling_steps(study: Metrics) -> str:
    """The values of figure 8."""
    run, floor = study["run"], study["floor"]
    measures = {"frechet_distance": "{:.2f}", "precision": "{:.3f}", "recall": "{:.3f}", "eps_s2_percent": "{:.2f}"}
    measures |= {"eps_l_percent": "{:.2f}", "volume_fraction_error": "{:+.4f}", "seconds_per_structure": "{:.3f}"}
    rows = [
        [sampler_name(row["sampler"], row["n_steps"]), *(number(row[name], style) for name, style in measures.items())]
        for row in study["rows"]
    ]
    head = ["sampler", f"Frechet distance ({study['features'] or 'not measured'})", "precision", "recall", "eps_S2 %"]
    text = (
        f"Figure 8 in numbers: {run['material']}, {study['n_generated']} generated against {study['n_original']} "
        f"held-out structures in each row; floor: eps_S2 {number(floor['eps_s2_percent'], '{:.2f}')} %, eps_L "
        f"{number(floor['eps_l_percent'], '{:.2f}')} %. Scale `{run['scale']}`, {run['training_steps']} training "
        f"steps of {run['batch_size']}, {run['evaluation_hardware']}. The paper: {SAMPLING_STEPS}."
    )
    return f"{text}\n\n{markdown_table([*head, 'eps_L %', 'volume fraction, difference', 's a structure'], rows)}"


def costs(results: Sequence[Metrics]) -> str:
    """Cost of each result: structures, training steps, seconds, hardware."""
    head = ["material", "sampler", "training set", "generated", "held out", "steps x batch", "changed"]
    head += ["data s", "training s", "sampling s", "evaluation s"]
    rows = []
    for m in results:
        run, counts = m["run"], m["n_images"]
        data = [run["data_seconds"].get(kind) for kind in ("training", "held_out")]
        seconds = [None if None in data else sum(data), run["training_seconds"], run["sampling_seconds"]]
        rows.append(
            [
                f"{run['material']} ({run['source']})",
                sampler_name(run["sampler"], run["sampling_steps"]),
                *(str(counts.get(name, MISSING)) for name in ("training", "generated", "held_out")),
                f"{run['training_steps']} x {run['batch_size']}",
                "; ".join(run["changes"]) or "nothing",
                *(number(each, "{:.0f}") for each in [*seconds, run["evaluation_seconds"]]),
            ]
        )
    places = {
        "training": _distinct(m["run"]["training_hardware"] for m in results),
        "sampling": _distinct(m["run"]["sampling_hardware"] for m in results),
        "evaluation": _distinct(m["run"]["evaluation_hardware"] for m in results),
    }
    scale = _distinct(m["run"]["scale"] for m in results)
    where = "; ".join(f"{name} on {place}" for name, place in places.items())
    return f"Scale `{scale}`; {where}. *Changed*: against the preset.\n\n{markdown_table(head, rows)}"


def commands(results: Sequence[Metrics]) -> str:
    """The commands that made the rows, each with its materials."""
    materials: dict[str, dict[str, None]] = {}
    for m in results:
        materials.setdefault(m["run"]["command"], {})[m["run"]["material"]] = None
    every = EXTENTS[results[0]["extent"][0]]
    lines = [
        command if set(names) == set(every) else " ".join([command, "--materials", *names])
        for command, names in materials.items()
    ]
    return "\n".join(["```sh", *lines, "```"])


def table(head: Sequence[str], results: Sequence[Metrics], row: Callable[[Metrics], list[str]]) -> str:
    """A row per material and sampler."""
    rows = [
        [m["run"]["material"], sampler_name(m["run"]["sampler"], m["run"]["sampling_steps"]), *row(m)] for m in results
    ]
    return markdown_table(head, rows)


def titled(text: str, results: Sequence[Metrics], body: str) -> str:
    """A table under its text, with extent and counts."""
    extent = " x ".join(map(str, results[0]["extent"]))
    generated, originals = (_distinct(str(m["n_images"][kind]) for m in results) for kind in ("generated", "original"))
    return f"{text} {extent} pixels; {generated} generated, {originals} held-out originals.\n\n{body}"


def with_interval(found: Metrics, value: str, interval: str, style: str) -> str:
    """A number with its interval, if it has one."""
    ends = found.get(interval)
    text = number(found.get(value), style)
    return text if ends is None else f"{text} [{style.format(ends[0])}, {style.format(ends[1])}]"


def paper(m: Metrics, key: str, style: str) -> str:
    """The paper's value, by DDIM at 64 x 64; none for other extents."""
    if m["extent"] != [64, 64]:
        return MISSING
    return style.format(getattr(PAPER[m["run"]["material"]], key))


def reached(m: Metrics) -> str:
    """Whether both discrepancies reach the scale's target."""
    if m["extent"] != [64, 64]:
        return MISSING
    own, share = PAPER[m["run"]["material"]], PAPER_SHARE[m["run"]["scale"]]
    found = {"two_point_correlation": own.eps_s2, "lineal_path": own.eps_l}
    values = {measure: m[measure]["discrepancy_percent"] for measure in found}
    missed = [_SHORT[k] for k, v in values.items() if v is None or v > share * found[k]]
    return f"missed: {', '.join(missed)}" if missed else "reached"


def met(m: Metrics) -> str:
    """Whether volume fraction, grain size and copying reach their targets."""
    if m["extent"] != [64, 64]:
        return MISSING
    missed = []
    if abs(m["volume_fraction"]["difference"]) > TARGETS["volume_fraction"]:
        missed.append("volume fraction")
    grains = m["grains"] and m["grains"]["diameter"]
    if grains and 100 * abs(grains["difference"]) > TARGETS["grain_size_percent"] * grains["original"]:
        missed.append("grain size")
    z = m["data_copying"]["z"]
    if z is None or abs(z) > TARGETS["copying_z"]:
        missed.append("z")
    return f"missed: {', '.join(missed)}" if missed else "reached"


_SHORT = {"two_point_correlation": "S2", "lineal_path": "L"}


def _networks(results: Sequence[Metrics]) -> list[str]:
    return list(dict.fromkeys(name for m in results for name in m["by_features"]))


def _feature_cells(m: Metrics, networks: Sequence[str], measures: Sequence[str], style: str) -> Iterator[str]:
    """Yield each measure by each network with its interval, and the one between sets of real structures."""
    for name in networks:
        for measure in measures:
            found = m["by_features"].get(name, {}).get(measure, {})
            yield with_interval(found, "value", "interval", style)
            yield number(found.get("floor"), style)


def _pairs(measures: Sequence[str]) -> list[str]:
    return [column for measure in measures for column in (f"{measure} [95 %]", "real structures")]


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except ValueError:
        raise InputError(f"{file} must be JSON of metrics; delete it, and evaluate again") from None


def _steps(m: Metrics) -> int:
    return int(m["run"]["sampling_steps"])


def _distinct(values: Iterable[str | None]) -> str:
    return " or ".join(dict.fromkeys(value or "unknown" for value in values))
