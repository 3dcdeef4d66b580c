"""A trained model -> a small file to share: 16-bit weights, their provenance and measured quality, and a card."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.errors import InputError, one_line
from mcrpy_diffusion.evaluation.results import Evaluation
from mcrpy_diffusion.evaluation.summary import summarise
from mcrpy_diffusion.io.files import write_file
from mcrpy_diffusion.io.untrusted import open_regular, read_json
from mcrpy_diffusion.materials.recipes import DIRECT, descriptor_settings
from mcrpy_diffusion.materials.sources import Origin, find_origin
from mcrpy_diffusion.models import pretrained
from mcrpy_diffusion.models.card_page import MIB
from mcrpy_diffusion.models.checkpoint import ModelInfo, load_network, read_info, save_model
from mcrpy_diffusion.models.model_card import DatasetFacts, HalfPrecision, ModelCard, RecommendedSampling
from mcrpy_diffusion.runtime import frameworks
from mcrpy_diffusion.settings import PRESETS, RUNTIME_FIELDS, SAMPLERS, GenerationSettings, Settings, preset

if TYPE_CHECKING:
    from torch import Tensor

N_COMPARED = 16  # structures that are drawn with full and with half precision
SUFFIX = ".safetensors"


def export(
    model: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    metrics: str | os.PathLike[str] | None = None,
    dataset: str | os.PathLike[str] | None = None,
    name: str | None = None,
    description: str = "",
    source: str | None = None,
    licence: str | None = None,
    made_by: Sequence[str] | None = None,
    limits: Sequence[str] = (),
    sampler: str | None = None,
    n_steps: int | None = None,
) -> str:
    """Write the weights of a model in half precision, with its settings, provenance and measured quality.

    Entries of an existing card are kept unless given, apart from the name. Its figures and statistics, and the effect
    of half precision, are kept if weights, sampler and steps do not change.

    Parameters
    ----------
    model : path
        As `pretrained.find` takes it.
    out : path
        The file, .safetensors. The card is written beside it with the ending .md.
    metrics : path, optional
        The metrics.json of an evaluation. Its figures go into the card. Its statistics of the original structures allow
        later comparisons without these.
    dataset : path, optional
        The data set that the model was trained on, for its seeds and versions.
    name : str, optional
        That of the file.
    description : str
    source, licence : str, optional
        Origin of the training data, and the licence; by default, those of known micrographs and recipes.
    made_by : sequence of str, optional
        The commands; by default, derived from the settings.
    limits : sequence of str
        Further limits of use.
    sampler, n_steps : optional
        Recommended sampling; by default that of the model's card, else `default_sampling`. Another sampler has its
        own default number of steps, see `settings.SAMPLERS`.

    Returns
    -------
    str
        The files written, the share of pixels that half precision changes, and whether figures of the card were kept.

    Raises
    ------
    InputError
        If a file cannot be used, the source is unknown, a weight is too large for half precision, or the card would
        replace another file.
    """
    out = Path(out)
    if out.suffix != SUFFIX or not out.parent.is_dir():
        raise InputError(f"{out} must end in {SUFFIX} and be in an existing folder")
    frameworks.before_torch()
    path = pretrained.find(model)
    if out.exists() and out.samefile(path):
        raise InputError(f"{out}: --out must not be the model itself, whose weights would be rounded")
    _refuse_other_text(out)
    named = ModelCard(name or out.stem)
    named.check_name()
    network, info = load_network(path)
    old = info.card or named
    origin = _origin(info, source or old.source or None, licence or old.licence or None)
    made = list(made_by) if made_by is not None else old.commands or commands(info, origin.built_in)
    card = ModelCard(
        name=named.name,
        description=description or old.description,
        source=origin.text,
        licence=origin.licence,
        commands=made,
        sampling=_recommended(info, sampler, n_steps),
        dataset=_dataset_facts(dataset, info) if dataset is not None else old.dataset,
        limits=list(dict.fromkeys([*_limits(info), *old.limits, *limits])),
    )
    weights = halved(network.state_dict())
    differing = _reason_to_measure_again(old, card, network.state_dict(), weights)
    message = ""
    if metrics is not None:
        figures, statistics = summarise(_read_metrics(metrics, info))
        card = replace(card, figures=figures, statistics=statistics)
    elif old.figures is not None and not differing:
        card = replace(card, figures=old.figures, statistics=old.statistics)
        message = "the figures of the model's card are kept\n"
    elif old.figures is not None:
        message = f"the figures of the model's card are left out: {differing}; --metrics FILE gives new ones\n"
    info = ModelInfo.from_dict(json.loads(json.dumps(replace(info, card=card).to_dict())))  # as it will be read
    share = differing_pixels(info, network.state_dict(), weights)
    found = HalfPrecision(n_images=N_COMPARED, differing_pixels=share)
    card = replace(card, half_precision=old.half_precision if old.half_precision and not differing else found)
    save_model(out, weights, replace(info, card=card))
    write_file(out.with_suffix(".md"), pretrained.card_text(out))
    size = out.stat().st_size / MIB
    return (
        f"{out}: {size:.2f} MiB; half precision changes {100 * share:.2g} % of the pixels of {N_COMPARED} structures\n"
        f"{message}{out.with_suffix('.md')}"
    )


def halved(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Round weights to 16 bits.

    Raises
    ------
    InputError
        If one is beyond what 16 bits hold, 65504.
    """
    import torch

    made = {name: value.detach().to("cpu", torch.float16) for name, value in weights.items()}
    beyond = [name for name, value in made.items() if not torch.isfinite(value).all()]
    if beyond:
        raise InputError(f"the weights {', '.join(beyond)} are not within +-65504, as half precision allows")
    return made


def differing_pixels(info: ModelInfo, exact: Mapping[str, Tensor], rounded: Mapping[str, Tensor]) -> float:
    """Share of the pixels that differ between structures of the same seeds, drawn with two sets of weights."""
    from mcrpy_diffusion.models.checkpoint import build_network
    from mcrpy_diffusion.models.model import Model

    drawn = []
    for weights in (exact, rounded):
        network = build_network(info)
        network.load_state_dict({name: value.float() for name, value in weights.items()})
        drawn.append(Model(network, info).sample(N_COMPARED))
    differ = drawn[0] != drawn[1] if info.n_phases else np.abs(drawn[0] - drawn[1]) > 0.5 / 255
    return float(differ.mean())


def commands(info: ModelInfo, built_in: str | None = None) -> list[str]:
    """Derive the commands that make the training data and the model from their settings.

    Parameters
    ----------
    info : ModelInfo
    built_in : str, optional
        The material whose built-in reference image was used.
    """
    return [*_generate_command(info.provenance, built_in), _train_command(info)]


def _train_command(info: ModelInfo) -> str:
    options = {name: _options(info.settings, preset(name, info.extent).training) for name in PRESETS}
    name = min(PRESETS, key=lambda each: len(options[each]))
    return shlex.join(
        ["mcrpy_diffusion", "train", "--dataset", "DATA", "--out", "RUN", "--preset", name, *options[name]]
    )


def _generate_command(recipe: Mapping[str, Any], built_in: str | None) -> list[str]:
    """The command that makes the training data; none for an unknown recipe."""
    kind = recipe.get("training_data")
    settings = DIRECT.get(str(recipe.get("material")), GenerationSettings) if kind == "recipe" else GenerationSettings
    own = {f.name for f in fields(settings)}
    general = {f.name for f in fields(GenerationSettings)} - own
    if kind not in ("recipe", "crops", "descriptors") or recipe.get("n_training_samples") is None:
        return []
    given = settings.from_dict({k: v for k, v in recipe.items() if k in own})
    default, start, words = settings(), ["--micrograph", "MICROGRAPH"], []
    if len(recipe.get("reference_sha256") or ()) > 1:
        start = ["--images", "IMAGES"] if kind == "crops" else ["--micrograph", "MICROGRAPHS"]
    if kind == "recipe":
        start = ["--material", str(recipe["material"])]
    elif built_in is not None:
        start, default = ["--material", built_in], descriptor_settings(built_in, {}, paper_recipe=False)
    for name in sorted(general & {"n_training_samples", "seed"}):
        words += [f"--{name}", str(recipe.get(name, 0))]
    words += ["--isotropic"] if "isotropic" in general and recipe.get("isotropic") else []
    return [shlex.join(["mcrpy_diffusion", "generate", *start, *words, *_options(given, default), "--out", "DATA"])]


def _options(given: Settings, default: Settings) -> list[str]:
    """The command-line options of settings that differ from the defaults and affect results."""
    words: list[str] = []
    for f in fields(given):
        value = getattr(given, f.name)
        if value == getattr(default, f.name) or value is None or f.name in RUNTIME_FIELDS:
            continue
        if isinstance(value, bool):
            words.append(f"--{f.name}" if value else f"--no-{f.name}")
        else:
            words += [f"--{f.name}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return words


def _refuse_other_text(out: Path) -> None:
    """Raise InputError if the file of the card exists and is not the card of the model in `out`."""
    place = out.with_suffix(".md")
    if not os.path.lexists(place):
        return
    try:
        card = read_info(out).card
        with open_regular(place) as file:
            head = file.readline(1000).decode().rstrip()
    except (InputError, OSError, ValueError):
        card, head = None, ""
    if card is None or head != f"# {card.name}":
        raise InputError(f"{place}: exists and is not the card of {out.name}; give another --out, or move it")


def _reason_to_measure_again(
    old: ModelCard, new: ModelCard, exact: Mapping[str, Tensor], rounded: Mapping[str, Tensor]
) -> str:
    """Return why the figures of one card may not hold for another; an empty text if they do."""
    if old.sampling != new.sampling:
        before, now = (
            f"{s.sampler}, {s.n_sampling_steps} steps" if s else "no sampler" for s in (old.sampling, new.sampling)
        )
        return f"they hold for {before}, this card recommends {now}"
    is_same = all((value == rounded[name]).all() for name, value in exact.items())
    return "" if is_same else "the weights change by rounding to 16 bits"


def _recommended(info: ModelInfo, sampler: str | None, n_steps: int | None) -> RecommendedSampling:
    """The sampler and its number of steps for the card; by default, those of the model."""
    current = info.sampling_settings()
    if sampler is None or sampler == current.sampler:
        chosen, steps = current.sampler, current.n_sampling_steps
    else:
        steps = SAMPLERS[sampler].n_sampling_steps if sampler in SAMPLERS else current.n_sampling_steps
        chosen, steps = sampler, min(steps, info.settings.n_timesteps)
    return RecommendedSampling(chosen, steps if n_steps is None else n_steps)


def _origin(info: ModelInfo, source: str | None, licence: str | None) -> Origin:
    if source is not None and licence is not None:
        return Origin(source, licence)
    known = find_origin(info.provenance)
    if known is None:
        raise InputError(
            "the training data are of no micrograph or recipe that this package knows; give --source and --licence"
        )
    return Origin(source or known.text, licence or known.licence)


def _read_metrics(path: str | os.PathLike[str], info: ModelInfo) -> Evaluation:
    try:
        metrics = read_json(path)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable metrics.json ({one_line(error, max_length=100)})") from error
    evaluation = Evaluation.from_dict(metrics, name=f"{path}:")
    if evaluation.n_phases != info.n_phases:
        raise InputError(f"{path}: n_phases must be {info.n_phases}, that of the model, got {evaluation.n_phases}")
    return evaluation


def _dataset_facts(folder: str | os.PathLike[str], info: ModelInfo) -> DatasetFacts:
    dataset = Dataset.open(folder)
    if dataset.info["recipe"] != info.provenance:
        raise InputError(f"{folder}: not the data set that the model was trained on (another recipe); give that one")
    return DatasetFacts(dataset.info.get("seeds", ""), dataset.info.get("versions", {}), dataset.n_accepted)


def _limits(info: ModelInfo) -> list[str]:
    """Limits that follow from the settings. Cards have these texts; other ones would be added beside them."""
    limits = [
        f"Two dimensions; extents that are multiples of {info.settings.stride} pixels, and one pixel size, that of the "
        "training data.",
        f"The figures hold for {info.extent[0]} x {info.extent[1]} pixels; other extents were not measured.",
    ]
    kind = info.provenance.get("training_data")
    if kind == "descriptors":
        names = ", ".join(info.provenance.get("descriptor_types") or ())
        limits.append(
            f"Trained on MCRpy's reconstructions: what its descriptors ({names}) do not hold, the structures do not "
            "have either."
        )
    elif kind == "crops":
        limits.append(
            "Trained on crops: what varies over larger distances than the micrograph is wide, it has not seen."
        )
    return limits
