"""The card of a model in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.summary import Figures
from mcrpy_diffusion.models.checkpoint import ModelInfo
from mcrpy_diffusion.models.model_card import DatasetFacts, HalfPrecision, ModelCard
from mcrpy_diffusion.runtime.tables import MISSING, markdown_table, number

MIB = 2**20


def markdown(info: ModelInfo, *, file_name: str, n_bytes: int, n_weights: int) -> str:
    """Return the card of a model from its metadata and the size of its file.

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
        "sampling": f"{card.sampling.sampler}, {card.sampling.n_sampling_steps} steps" if card.sampling else MISSING,
        "source": card.source,
        "licence": card.licence,
    }
    parts = [
        f"# {card.name}",
        card.description,
        markdown_table(("", ""), facts.items()),
        "## Figures",
        _figures_text(card.figures),
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


def _figures_text(figures: Figures | None) -> str:
    """Return the table of measures with the floor and the numbers of structures."""
    if figures is None:
        return "Not measured."
    head = ("measure", "against the original", "against the held-out part", "floor")
    n = figures.n_images
    sets = {"generated": n.generated, "original": n.original, "held-out": n.held_out}
    numbers = ", ".join(f"{count} {name}" for name, count in sets.items() if count is not None)
    extent = " x ".join(map(str, figures.extent))
    note = f"{numbers} structures of {extent} pixels. The floor is what as many real structures get."
    return f"{markdown_table(head, _figure_rows(figures))}\n\n{note}"


def _figure_rows(figures: Figures) -> Iterator[tuple[str, str, str, str]]:
    fraction = figures.volume_fraction
    yield (
        f"volume fraction of phase {fraction.phase}",
        f"{fraction.difference:+.4f} ({fraction.original:.4f})",
        number(fraction.held_out_difference, "{:+.4f}"),
        number(fraction.floor, "±{:.4f}"),
    )
    for curve, name in ((figures.two_point_correlation, "eps_S2"), (figures.lineal_path, "eps_L")):
        values = (curve.discrepancy_percent, curve.held_out_discrepancy_percent, curve.floor_percent)
        against, unseen, floor = (number(value, "{:.2f} %") for value in values)
        yield name, against, unseen, floor
    for measure in (figures.frechet_distance, figures.precision, figures.recall, figures.density, figures.coverage):
        if measure.value is not None:
            yield str(measure.name), f"{measure.value:.3f}", MISSING, number(measure.floor, "{:.3f}")
    if figures.grain_diameter is not None:
        grains = figures.grain_diameter
        yield "mean grain diameter", f"{grains.generated:.2f} ({grains.original:.2f})", MISSING, MISSING
    nearest = figures.nearest_training_image
    if nearest.minimum_mse is not None:
        unseen = number(nearest.held_out_minimum_mse, "{:.4f}")
        yield "minimum pixel MSE to training", f"{nearest.minimum_mse:.4f}", MISSING, unseen
    if figures.data_copying.z is not None:
        yield "data copying, z", f"{figures.data_copying.z:+.1f}", MISSING, "0 ± 2"


def _half_precision_text(found: HalfPrecision | None) -> str:
    if found is None:
        return ""
    share = f"{100 * found.differing_pixels:.2g} %"
    return f"16-bit weights change {share} of the pixels of {found.n_images} structures drawn from the same seeds."


def _data_text(info: ModelInfo, card: ModelCard) -> str:
    """Return the recipe of the training data."""
    recipe = {k: v for k, v in info.provenance.items() if k != "reference_sha256" and v is not None}
    lines = [f"Recipe: {_listed(recipe)}." if recipe else "The recipe is not recorded."]
    hashes = info.provenance.get("reference_sha256") or []
    if hashes:
        lines.append(f"SHA-256 of the reference's phases: {', '.join(hashes)}.")
    facts = card.dataset or DatasetFacts()
    if facts.n_samples:
        lines.append(f"Structures: {facts.n_samples}.")
    if facts.seeds:
        lines.append(f"Seeds: {facts.seeds}.")
    if facts.versions:
        lines.append(f"Made with: {_listed(facts.versions)}.")
    return "\n\n".join(lines)


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {_plain(v)}" for k, v in values.items())


def _plain(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(_plain, value)) + "]"
    return str(value)
