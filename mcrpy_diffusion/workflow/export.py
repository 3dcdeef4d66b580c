"""A trained model -> a small file to pass on: 16-bit weights, with where they come from and what was measured, and a
card."""

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
    """Write the weights of a model in half precision, its settings, where it comes from and what was measured.

    A model that has a card already keeps what that says and nothing is given for, apart from the name. Its figures, the
    statistics beside them and the effect of half precision are kept where weights, sampler and steps stay as they were.

    Parameters
    ----------
    model : path
        As `pretrained.find` takes it.
    out : path
        The file, .safetensors. The card is written beside it with the ending .md.
    metrics : path, optional
        The metrics.json of an evaluation: its figures go into the card, and its statistics of the original structures
        are what structures of the model are compared with where there is nothing else.
    dataset : path, optional
        The data set that the model was trained on, for its seeds and versions.
    name : str, optional
        That of the file.
    description : str
    source, licence : str, optional
        What the training data come from and the licence; worked out for micrographs and recipes that are known.
    made_by : sequence of str, optional
        The commands; worked out from the settings.
    limits : sequence of str
        What else a user should know.
    sampler, n_steps : optional
        What samples shall be drawn with; what the model's card recommends, without one see `default_sampling`. Another
        sampler has its own default number of steps, see `settings.SAMPLERS`.

    Returns
    -------
    str
        What was written, how many pixels half precision changes, and whether figures of the model's card were kept.

    Raises
    ------
    InputError
        If a file cannot be used, the source is not known, a weight is too large for half precision, or the card would
        replace a file that is none.
    """
    out = Path(out)
    if out.suffix != SUFFIX or not out.parent.is_dir():
        raise InputError(f"{out}: cannot be written; give a name that ends in {SUFFIX}, in a folder that is there")
    frameworks.before_torch()
    path = pretrained.find(model)
    if out.exists() and out.samefile(path):
        raise InputError(f"{out}: the model itself, whose weights would be rounded; give another --out")
    _refuse_other_text(out)
    ModelCard(name or out.stem).check_name()
    network, info = load_network(path)
    old = info.card or ModelCard(name or out.stem)
    origin = _origin(info, source or old.source or None, licence or old.licence or None)
    made = list(made_by) if made_by is not None else old.commands or commands(info, origin.built_in)
    card = ModelCard(
        name=name or out.stem,
        description=description or old.description,
        source=origin.text,
        licence=origin.licence,
        commands=made,
        sampling=_recommended(info, sampler, n_steps),
        dataset=_dataset_facts(dataset, info) if dataset is not None else old.dataset,
        limits=list(dict.fromkeys([*_limits(info), *old.limits, *limits])),
    )
    weights = halved(network.state_dict())
    differing = _what_differs(old, card, network.state_dict(), weights)
    said = ""
    if metrics is not None:
        figures, statistics = summarise(_read_metrics(metrics, info))
        card = replace(card, figures=figures, statistics=statistics)
    elif old.figures is not None and not differing:
        card = replace(card, figures=old.figures, statistics=old.statistics)
        said = "the figures of the model's card are kept\n"
    elif old.figures is not None:
        said = f"the figures of the model's card are left out: {differing}; --metrics FILE gives new ones\n"
    info = ModelInfo.from_dict(json.loads(json.dumps(replace(info, card=card).to_dict())))  # as it will be read
    share = differing_pixels(info, network.state_dict(), weights)
    found = HalfPrecision(n_images=N_COMPARED, differing_pixels=share)
    card = replace(card, half_precision=old.half_precision if old.half_precision and not differing else found)
    save_model(out, weights, replace(info, card=card))
    write_file(out.with_suffix(".md"), pretrained.card_text(out))
    size = out.stat().st_size / MIB
    return (
        f"{out}: {size:.2f} MiB; half precision changes {100 * share:.2g} % of the pixels of {N_COMPARED} structures\n"
        f"{said}{out.with_suffix('.md')}"
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
    """Work out the commands that make the training data and the model from their settings.

    Parameters
    ----------
    info : ModelInfo
    built_in : str, optional
        The material whose built-in reference image was used.
    """
    return [*_generate_command(info.provenance, built_in), _train_command(info)]


def _train_command(info: ModelInfo) -> str:
    usual = {name: preset(name, info.extent).training for name in PRESETS}
    options = {name: _options(info.settings, of_preset) for name, of_preset in usual.items()}
    name = min(PRESETS, key=lambda each: len(options[each]))
    return shlex.join(
        ["mcrpy_diffusion", "train", "--dataset", "DATA", "--out", "RUN", "--preset", name, *options[name]]
    )


def _generate_command(recipe: Mapping[str, Any], built_in: str | None) -> list[str]:
    """The command that makes the training data; none where their recipe is not understood."""
    kind = recipe.get("training_data")
    settings = DIRECT.get(str(recipe.get("material")), GenerationSettings) if kind == "recipe" else GenerationSettings
    own = {f.name for f in fields(settings)}
    general = {f.name for f in fields(GenerationSettings)} - own
    if kind not in ("recipe", "crops", "descriptors") or recipe.get("n_training_samples") is None:
        return []
    given = settings.from_dict({k: v for k, v in recipe.items() if k in own})
    usual, start, words = settings(), ["--micrograph", "MICROGRAPH"], []
    if len(recipe.get("reference_sha256") or ()) > 1:
        start = ["--images", "IMAGES"] if kind == "crops" else ["--micrograph", "MICROGRAPHS"]
    if kind == "recipe":
        start = ["--material", str(recipe["material"])]
    elif built_in is not None:
        start, usual = ["--material", built_in], descriptor_settings(built_in, {}, paper_recipe=False)
    for name in sorted(general & {"n_training_samples", "seed"}):
        words += [f"--{name}", str(recipe.get(name, 0))]
    words += ["--isotropic"] if "isotropic" in general and recipe.get("isotropic") else []
    return [shlex.join(["mcrpy_diffusion", "generate", *start, *words, *_options(given, usual), "--out", "DATA"])]


def _options(given: Settings, usual: Settings) -> list[str]:
    """The command-line options of settings that differ from the usual ones; what changes no result is left out."""
    words: list[str] = []
    for f in fields(given):
        value = getattr(given, f.name)
        if value == getattr(usual, f.name) or value is None or f.name in RUNTIME_FIELDS:
            continue
        if isinstance(value, bool):
            words.append(f"--{f.name}" if value else f"--no-{f.name}")
        else:
            words += [f"--{f.name}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return words


def _refuse_other_text(out: Path) -> None:
    """Raise InputError where the place of the card is taken by anything but the card of the model that is at `out`."""
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
        raise InputError(f"{place}: there already, and not the card of {out.name}; give another --out, or move it")


def _what_differs(old: ModelCard, new: ModelCard, exact: Mapping[str, Tensor], rounded: Mapping[str, Tensor]) -> str:
    """Say why figures that were measured for one card may not hold for another; nothing where they do."""
    if old.sampling != new.sampling:
        before, now = (
            f"{s.sampler}, {s.n_sampling_steps} steps" if s else "no sampler" for s in (old.sampling, new.sampling)
        )
        return f"they hold for {before}, this card recommends {now}"
    is_same = all((value == rounded[name]).all() for name, value in exact.items())
    return "" if is_same else "16 bits round the weights that they hold for"


def _recommended(info: ModelInfo, sampler: str | None, n_steps: int | None) -> RecommendedSampling:
    """The sampler and its number of steps that a card recommends; unless given, those of the model as it is."""
    usual = info.sampling_settings()
    if sampler is None or sampler == usual.sampler:
        chosen, steps = usual.sampler, usual.n_sampling_steps
    else:
        steps = SAMPLERS[sampler].n_sampling_steps if sampler in SAMPLERS else usual.n_sampling_steps
        chosen, steps = sampler, min(steps, info.settings.n_timesteps)
    return RecommendedSampling(chosen, steps if n_steps is None else n_steps)


def _origin(info: ModelInfo, source: str | None, licence: str | None) -> Origin:
    if source is not None and licence is not None:
        return Origin(source, licence)
    known = find_origin(info.provenance)
    if known is None:
        raise InputError(
            "what the model was trained on is no micrograph or recipe that this package knows; give --source and "
            "--licence"
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
    """What follows from the settings."""
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
