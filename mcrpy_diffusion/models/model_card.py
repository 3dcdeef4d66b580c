"""What a model that is passed on says of itself: where it comes from, what was measured, how to sample from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from mcrpy_diffusion.errors import InputError, one_line
from mcrpy_diffusion.models.card_check import (
    KEPT,
    check_dataset,
    check_figures,
    check_half_precision,
    check_plain,
    check_statistics,
)
from mcrpy_diffusion.runtime.tables import MISSING, markdown_table, number

if TYPE_CHECKING:
    from mcrpy_diffusion.models.checkpoint import ModelInfo

MIB = 2**20


@dataclass(frozen=True)
class ModelCard:
    """What goes into the metadata of a model that is passed on, besides its settings.

    Attributes
    ----------
    name, description : str
    source, licence : str
        What the training data come from, and what may be done with the model.
    commands : list of str
        The commands that made it.
    sampling : dict
        `sampler` and `n_sampling_steps` that are taken where none are given.
    dataset : dict
        `seeds`, the rule by which samples have them; `versions`; `n_samples`.
    figures : dict
        Those of metrics.json in `KEPT`, and its `n_images`. Empty where nothing was measured.
    statistics : dict
        `curves` of metrics.json, of the original structures alone: what new ones are compared with. Empty as above.
    half_precision : dict
        `n_images` and `differing_pixels`, the share of the pixels that 16-bit weights change.
    limits : list of str
    """

    name: str
    description: str = ""
    source: str = ""
    licence: str = ""
    commands: list[str] = field(default_factory=list)
    sampling: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)
    half_precision: dict[str, Any] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary that `json.dumps` takes."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelCard:
        """Rebuild from the metadata.

        Raises
        ------
        InputError
            If a key is unknown, the name is missing, or anything in a field is not what `export` writes there.
        """
        if not isinstance(values, dict) or "name" not in values:
            raise InputError("the model's card is not understood: it has no name")
        unknown = sorted(set(values) - {f.name for f in fields(cls)})
        if unknown:
            raise InputError(f"the model's card is not understood: {', '.join(unknown)}")
        card = cls(**values)
        empty = cls("")
        for name in (f.name for f in fields(cls)):
            value = getattr(card, name)
            lines = value if isinstance(value, list) else []
            if type(value) is not type(getattr(empty, name)) or not all(isinstance(line, str) for line in lines):
                raise InputError(f"the model's card has a {name} of type {type(value).__name__}; give another model")
            check_plain(value, name, owner="the model's card")
        card.check_name()
        if card.sampling and set(card.sampling) != {"sampler", "n_sampling_steps"}:
            raise InputError("the model's card recommends more or less than sampler and n_sampling_steps")
        check_dataset(card.dataset)
        check_half_precision(card.half_precision)
        check_figures(card.figures)
        check_statistics(card.statistics, card.figures)
        return card

    def check_name(self) -> None:
        """Raise InputError where the name could not begin the names of files."""
        if not re.fullmatch(r"\w[\w .-]{0,99}", self.name):
            raise InputError(f"the name is {self.name[:100]!r}; allowed are letters, digits, blanks, '.', '-' and '_'")


def pick_figures(metrics: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the figures and the statistics of the original structures that a card keeps of a metrics.json.

    Raises
    ------
    InputError
        If it is not the content of a metrics.json.
    """
    try:
        figures = {k: metrics[k] for k in ("n_images", "extent", "periodic")}
        for measure, kept in KEPT.items():
            figures[measure] = {k: metrics[measure].get(k) for k in kept}
        grains = metrics["grains"]
        if grains and grains.get("diameter"):
            figures["grain_diameter"] = {k: grains["diameter"][k] for k in ("original", "generated")}
        statistics: dict[str, Any] = {}
        if metrics["n_phases"]:
            curves = {"distance": metrics["curves"]["distance"]}
            for phase in metrics["curves"].keys() - curves.keys():
                found = metrics["curves"][phase]
                curves[phase] = {measure: {"original": _rounded(found[measure]["original"])} for measure in found}
            statistics = {"curves": curves}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{one_line(error)} is not in the metrics; give a metrics.json of evaluate") from error
    return json.loads(json.dumps(figures)), json.loads(json.dumps(statistics))


def markdown(info: ModelInfo, *, file_name: str, n_bytes: int, n_weights: int) -> str:
    """Return the model card: all of it follows from the metadata and the size of the file.

    Raises
    ------
    InputError
        If the model has no card.
    """
    card = info.card
    if card is None:
        raise InputError(f"{file_name} has no card; mcrpy_diffusion export writes one")
    kind = f"{info.n_phases} phases" if info.n_phases else "grey values"
    edges = "periodic" if info.periodic else "not periodic"
    settings = info.settings
    facts = {
        "structures": f"{kind}, {info.extent[0]} x {info.extent[1]} pixels, {edges}",
        "file": f"{file_name}, {n_bytes / MIB:.2f} MiB, {n_weights:,} weights of 16 bits",
        "training": f"{info.step} steps of {settings.batch_size} images, seed {settings.seed}, "
        f"{info.training_seconds:.0f} s",
        "prediction": f"{settings.prediction}, {settings.schedule} schedule, {settings.n_timesteps} time steps",
        "sampling": "{sampler}, {n_sampling_steps} steps".format(**card.sampling) if card.sampling else MISSING,
        "source": card.source,
        "licence": card.licence,
    }
    parts = [
        f"# {card.name}",
        card.description,
        markdown_table(("", ""), facts.items()),
        "## Figures",
        _figures_text(card),
        _half_precision_text(card.half_precision),
        "## Training data",
        _data_text(info, card),
        "## Made by",
        "```sh\n" + "\n".join(card.commands) + "\n```" if card.commands else "Not recorded.",
        "Versions: " + (_listed(info.versions) or "not recorded") + ".",
        "## Limits",
        "\n".join(f"- {limit}" for limit in card.limits),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _figures_text(card: ModelCard) -> str:
    """The table of what was measured, with the floor and the numbers of structures."""
    if not card.figures:
        return "Not measured."
    figures, counts = card.figures, card.figures["n_images"]
    fraction = figures["volume_fraction"]
    head = ("measure", "against the original", "against the held-out part", "floor")
    rows: list[tuple[str, ...]] = [
        (
            f"volume fraction of phase {fraction['phase']}",
            f"{fraction['difference']:+.4f} ({fraction['original']:.4f})",
            number(fraction["held_out_difference"], "{:+.4f}"),
            number(fraction["floor"], "±{:.4f}"),
        )
    ]
    for measure, name in (("two_point_correlation", "eps_S2"), ("lineal_path", "eps_L")):
        values = figures[measure]
        keys = ("discrepancy_percent", "held_out_discrepancy_percent", "floor_percent")
        rows.append((name, *(number(values[key], "{:.2f} %") for key in keys)))
    for measure in ("frechet_distance", "precision", "recall", "density", "coverage"):
        values = figures[measure]
        if values["value"] is not None:
            rows.append((values["name"], f"{values['value']:.3f}", MISSING, number(values["floor"], "{:.3f}")))
    if "grain_diameter" in figures:
        grains = figures["grain_diameter"]
        rows.append(("mean grain diameter", f"{grains['generated']:.2f} ({grains['original']:.2f})", MISSING, MISSING))
    nearest = figures["nearest_training_image"]
    if nearest["minimum_mse"] is not None:
        unseen = nearest["held_out_minimum_mse"]
        rows.append(
            ("minimum pixel MSE to training", f"{nearest['minimum_mse']:.4f}", MISSING, number(unseen, "{:.4f}"))
        )
    if figures["data_copying"]["z"] is not None:
        rows.append(("data copying, z", f"{figures['data_copying']['z']:+.1f}", MISSING, "0 ± 2"))
    numbers = ", ".join(
        f"{counts[k]} {k.replace('_', '-')}" for k in ("generated", "original", "held_out") if k in counts
    )
    extent = " x ".join(map(str, figures["extent"]))
    note = f"{numbers} structures of {extent} pixels. The floor is what as many real structures get."
    return f"{markdown_table(head, rows)}\n\n{note}"


def _half_precision_text(found: Mapping[str, Any]) -> str:
    if not found:
        return ""
    share, n = f"{100 * found['differing_pixels']:.2g} %", found["n_images"]
    return f"16-bit weights change {share} of the pixels of {n} structures drawn from the same seeds."


def _data_text(info: ModelInfo, card: ModelCard) -> str:
    """The recipe of the training data, in full."""
    recipe = {k: v for k, v in info.provenance.items() if k != "reference_sha256" and v is not None}
    lines = [f"Recipe: {_listed(recipe)}." if recipe else "The recipe is not recorded."]
    hashes = info.provenance.get("reference_sha256") or []
    if hashes:
        lines.append(f"SHA-256 of the reference's phases: {', '.join(hashes)}.")
    if card.dataset.get("n_samples"):
        lines.append(f"Structures: {card.dataset['n_samples']}.")
    if card.dataset.get("seeds"):
        lines.append(f"Seeds: {card.dataset['seeds']}.")
    if card.dataset.get("versions"):
        lines.append(f"Made with: {_listed(card.dataset['versions'])}.")
    return "\n\n".join(lines)


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {_plain(v)}" for k, v in values.items())


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(_plain, value)) + "]"
    return str(value)


def _rounded(curve: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    return {name: [round(float(v), 7) for v in values] for name, values in curve.items()}
