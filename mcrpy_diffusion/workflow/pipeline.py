"""The whole way of `match` and `reconstruct` with --method diffusion: generate, train, sample, evaluate, report.

Every stage leaves files and goes on from them, so that the same command continues after a stop.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.data.micrograph import read_micrograph
from mcrpy_diffusion.data.split import MicrographSplit
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import make_folder, write_json
from mcrpy_diffusion.io.provenance import check_same
from mcrpy_diffusion.io.untrusted import read_json, reject_symlinks
from mcrpy_diffusion.materials.generate import Reference, generate, recipe, resolve
from mcrpy_diffusion.models import pretrained
from mcrpy_diffusion.models.checkpoint import ModelInfo, read_info
from mcrpy_diffusion.models.model_card import ModelCard
from mcrpy_diffusion.runtime.console import logged_by, say_error
from mcrpy_diffusion.settings import (
    GenerationSettings,
    Preset,
    SamplingSettings,
    TrainingSettings,
    default_sampling,
    preset,
)

log = logging.getLogger("mcrpy_diffusion")

N_HELD_OUT = 1000
N_FRAMES = 10  # of the denoising, in the convergence data
DATASET_FOLDER = "training_data"
N_COMPARED = 64  # MCRpy reconstructions to compare with, where there is a model and a characterization alone
COMPARED_FOLDER = "reconstructions"
QUICK_DESCRIPTORS = {"FFTCorrelations", "VolumeFractions", "Variation"}  # others take minutes for a reconstruction


@dataclass(frozen=True)
class Plan:
    """Everything that a run was asked for, resolved and checked before anything is written."""

    reference: Reference
    generation: GenerationSettings
    training: TrainingSettings
    sampling: SamplingSettings
    folder: Path
    information: str | None = None
    model: Path | None = None
    card: ModelCard | None = None
    n_jobs: int = -1
    logfile_name: str = "logfile"
    logging_level: int = logging.INFO
    ignored: str = ""  # what was given and has no meaning here, in a line
    reconstructs_to_compare: bool = True  # MCRpy makes originals, where a model and a characterization are all there is

    @cached_property
    def split(self) -> MicrographSplit:
        """Training and held-out parts of the micrographs."""
        return MicrographSplit.of(self.reference.images, self.generation)

    @property
    def suffix(self) -> str:
        """What --information adds to names."""
        return "" if self.information is None else f"_{self.information}"

    def path(self, kind: str) -> Path:
        """Path of a result called <name>_<kind><_information>.<extension>."""
        stem, extension = kind.rsplit(".", 1)
        return self.folder / f"{self.reference.name}_{stem}{self.suffix}.{extension}"

    def structure_path(self, i: int) -> Path:
        """Path of structure i; a lone one has no number."""
        number = "" if self.sampling.n_samples == 1 else f"_{i}"
        return self.folder / f"{self.reference.name}_reconstructed{self.suffix}{number}.npy"

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved settings, for the console and the report."""
        card = {} if self.card is None else {f"model's {k}": getattr(self.card, k) for k in ("source", "licence")}
        extent = {k: getattr(self.generation, k) for k in ("extent_x", "extent_y", "periodic")}
        return {
            "reference": [m.path for m in self.reference.micrographs] or self.reference.name,
            "data_folder": str(self.folder),
            "model": None if self.model is None else str(self.model),
            **card,
            "generation": extent if is_alone(self.reference) else recipe(self.generation, self.reference),
            "training": self.training.to_dict(),
            "sampling": self.sampling.to_dict(),
        }


def match(options: Mapping[str, Any]) -> None:
    """New structures like one or several micrographs.

    Parameters
    ----------
    options : mapping
        The options that were given, by the names of the command's: `microstructure_filenames`, `data_folder`,
        `preset`, and any field of the settings of the three stages. `n_sampling_steps` and `seed` as in the settings.
        `ignored` holds the flags of those given that have no meaning here, to be named in a warning.

    Raises
    ------
    InputError
        If anything given cannot be used.
    """
    names = options.get("microstructure_filenames") or []
    if not names:
        raise InputError("no micrograph was given; name at least one with --microstructure_filenames")
    run(make_plan(options, reference_from_micrographs([str(n) for n in names], options)), bool(options.get("dry_run")))


def reconstruct(options: Mapping[str, Any]) -> None:
    """New structures like an MCRpy characterization, or those of a model alone.

    `options` are as in `match`, with `descriptor_filename`, `model` or both.
    """
    name, model = options.get("descriptor_filename"), options.get("model")
    if not name and model is None:
        raise InputError("no characterization was given; name one with --descriptor_filename, or a model with --model")
    reference = reference_from_characterization(str(name), options) if name else reference_from_model(str(model))
    run(make_plan(options, reference), bool(options.get("dry_run")))


def reference_from_micrographs(names: list[str], options: Mapping[str, Any]) -> Reference:
    """Read the micrographs and check that they fit together."""
    flags = {k: bool(options.get(k, False)) for k in ("grey_values", "use_multiphase")}
    micrographs = tuple(read_micrograph(name, **flags) for name in names)
    phases = {m.n_phases for m in micrographs}
    if len(phases) > 1:
        found = ", ".join(f"{m.path}: {m.n_phases}" for m in micrographs)
        raise InputError(f"the micrographs have different numbers of phases ({found}); allowed is the same in all")
    return Reference(micrographs[0].name, phases.pop(), tuple(m.sha256 for m in micrographs), micrographs)


def reference_from_characterization(name: str, options: Mapping[str, Any]) -> Reference:
    """Read an MCRpy characterization through the allow-list."""
    from mcrpy_diffusion.mcrpy_bridge.pickles import number_of_phases, read_characterization

    characterization = read_characterization(name)
    stem = Path(name).stem.removesuffix("_characterization")
    digest = hashlib.sha256(Path(name).read_bytes()).hexdigest()
    return Reference(stem, number_of_phases(characterization), (digest,), characterization=characterization)


def reference_from_model(given: str) -> Reference:
    """What there is of a reference where a model is given alone: a name and the number of phases."""
    path = pretrained.find(given)
    info = read_info(path)
    return Reference(path.stem if info.card is None else info.card.name, info.n_phases, ())


def make_plan(options: Mapping[str, Any], reference: Reference) -> Plan:
    """Resolve presets and options into settings; nothing is written."""
    model = None if options.get("model") is None else pretrained.find(str(options["model"]))
    info = None if model is None else read_info(model)
    usual = (64, 64) if info is None or not is_alone(reference) else info.extent
    extent = (int(options.get("extent_x", usual[0])), int(options.get("extent_y", usual[1])))
    chosen: Preset = preset(str(options.get("preset", "quick")), extent)

    def fields_of(settings: Any, **renamed: str) -> dict[str, Any]:
        names = {f: renamed.get(f, f) for f in settings.__dataclass_fields__}
        return {f: options[n] for f, n in names.items() if n in options}

    generation = chosen.generation.replace(**fields_of(chosen.generation))
    generation = generation.replace(extent_x=extent[0], extent_y=extent[1])
    if reference.n_phases > 2:
        generation = generation.replace(use_multiphase=True)
    if not is_alone(reference):
        if model is not None and not reference.micrographs and "n_training_samples" not in options:
            generation = generation.replace(n_training_samples=N_COMPARED)
        generation = resolve(generation, reference)
    training_options = fields_of(chosen.training)
    for name in MCRPY_OWN_NAMES:  # MCRpy's options of the same name mean something else
        training_options.pop(name, None)
    training = chosen.training.replace(**training_options)
    if reference.n_phases == 0 and training.prediction == "log_odds":
        training = training.replace(prediction="v")  # grey values have no phases
    sampling_options = fields_of(chosen.sampling)
    sampling_options.pop("batch_size", None)
    if info is not None:
        sampling = info.sampling_settings(**sampling_options)
    else:
        sampling = default_sampling(training).replace(**sampling_options)
    plan = Plan(
        reference=reference,
        generation=generation,
        training=training,
        sampling=sampling,
        folder=Path(str(options.get("data_folder") or "results")),
        information=options.get("information"),
        n_jobs=int(options.get("n_jobs", -1)),
        logfile_name=logfile_name(options),
        logging_level=int(options.get("logging_level", logging.INFO)),
        reconstructs_to_compare="n_training_samples" in options or is_quick(generation),
    )
    if model is not None and info is not None:
        plan = with_model(plan, model, info)
    plan.training.check_extent(generation.extent)
    if sampling.n_sampling_steps > plan.training.n_timesteps:
        allowed = plan.training.n_timesteps
        raise InputError(f"n_sampling_steps is {sampling.n_sampling_steps}; allowed is 1 to {allowed}")
    return replace(plan, ignored=without_meaning(options, plan))


def is_quick(settings: GenerationSettings) -> bool:
    """Whether MCRpy reconstructs from these descriptors in seconds."""
    return QUICK_DESCRIPTORS >= set(settings.descriptor_types)


MCRPY_OWN_NAMES = ("batch_size", "learning_rate")
OF_RECONSTRUCTIONS = ("descriptor_weights", "optimizer_type", "loss_type", "max_iter")
OF_TRAINING = ("n_training_samples", "n_training_steps")
OF_REFERENCES = ("descriptor_types", "limit_to", "isotropic", "use_multiphase")
OF_CHARACTERIZING = ("grey_values", "use_multigrid_descriptor")


def logfile_name(options: Mapping[str, Any]) -> str:
    """Name of the log file without extension; with `logfile_date` as MCRpy makes it."""
    name = str(options.get("logfile_name", "logfile"))
    return f"{name}-{time.asctime().replace(' ', '-').replace(':', '-')}" if options.get("logfile_date") else name


def without_meaning(options: Mapping[str, Any], plan: Plan) -> str:
    """Say in one line which of the options given have no meaning, and why; nothing where all have."""
    groups: dict[str, list[str]] = {"used with --method descriptor only": list(options.get("ignored") or [])}

    def add(names: tuple[str, ...], why: str) -> None:
        groups.setdefault(why, []).extend(flag(name) for name in names if name in options)

    of_descriptors = plan.generation.training_data == "descriptors"
    if plan.model is not None and plan.reference.characterization is None:
        add(OF_RECONSTRUCTIONS, "a model was given, so that MCRpy reconstructs nothing")
    elif not of_descriptors:
        add(OF_RECONSTRUCTIONS, "the training data are crops, so that MCRpy reconstructs nothing")
    if plan.model is not None:
        add(
            OF_TRAINING if plan.reference.characterization is None else OF_TRAINING[1:],
            "a model was given, so that none is trained",
        )
        if "periodic" in options and bool(options["periodic"]) != plan.generation.periodic:
            add(("periodic",), "the model decides it")
    elif "periodic" in options and not of_descriptors and options["periodic"]:
        add(("periodic",), "crops are not periodic")
    if is_alone(plan.reference):
        add((*OF_CHARACTERIZING, *OF_REFERENCES), "there is a model alone")
    if plan.reference.characterization is not None:
        add(OF_CHARACTERIZING, "settled when the characterization was made")
    said = [f"{', '.join(flags)}: {why}" for why, flags in groups.items() if flags]
    return f"{'; '.join(said)}; ignored" if said else ""


def flag(name: str) -> str:
    """What the command line calls a setting."""
    return {"periodic": "--non_periodic", "use_multigrid_descriptor": "--no_multigrid_descriptor"}.get(
        name, f"--{name}"
    )


def run(plan: Plan, dry_run: bool = False) -> None:
    """Walk the whole way, each stage from where it was."""
    if plan.ignored:
        say_error(f"warning: {plan.ignored}")
    print(describe(plan), flush=True)
    if dry_run:
        return
    make_folder(plan.folder)
    with log_file(plan):
        log.info("settings: %s", json.dumps(plan.to_dict()))
        if plan.ignored:
            log.warning("%s", plan.ignored)
        log_environment()
        model_path = obtain_model(plan)
        structures = sample(plan, model_path)
        evaluate(plan, model_path, structures)


def describe(plan: Plan) -> str:
    """The resolved settings, readable."""
    generation, training, sampling = plan.generation, plan.training, plan.sampling
    lines = [
        f"MCRpy-diffusion: {sampling.n_samples} structures of {generation.extent_x} x {generation.extent_y} pixels"
    ]
    for m in plan.reference.micrographs:
        phases = f"{m.n_phases} phases" if m.n_phases else "grey values"
        threshold = "" if m.threshold is None else f", thresholded at {m.threshold:g} (Otsu)"
        lines.append(f"  reference      {m.path}: {m.phases.shape[0]} x {m.phases.shape[1]}, {phases}{threshold}")
    if plan.reference.characterization is not None:
        lines.append(f"  reference      {plan.reference.name}: an MCRpy characterization")
    if plan.model is not None:
        lines.append(f"  model          {plan.model}")
        lines += [] if plan.card is None else [f"  licence        {plan.card.licence}; {plan.card.source}"]
        if plan.reference.characterization is not None and plan.reconstructs_to_compare:
            lines.append(f"  compared with  {generation.n_training_samples} MCRpy reconstructions")
    else:
        kind = {"crops": "random crops of the micrograph, not periodic", "descriptors": "MCRpy reconstructions"}
        lines.append(f"  training data  {generation.n_training_samples} {kind[generation.training_data]}")
        lines.append(f"  training       {training.n_training_steps} steps of {training.batch_size} images")
    lines.append(f"  sampling       {sampling.sampler}, {sampling.n_sampling_steps} steps, seeds from {sampling.seed}")
    lines.append(f"  results        {plan.folder}")
    return "\n".join(lines)


def is_alone(reference: Reference) -> bool:
    """Whether there is nothing that structures could be like but a model."""
    return not reference.micrographs and reference.characterization is None


def with_model(plan: Plan, model: Path, info: ModelInfo) -> Plan:
    """The plan with a model that is there: its settings instead of those to train with."""
    if info.n_phases != plan.reference.n_phases:
        raise InputError(
            f"{model} makes {info.n_phases} phases, the reference has {plan.reference.n_phases}; "
            "allowed is the same number"
        )
    generation = plan.generation.replace(periodic=info.periodic)
    return replace(plan, model=model, training=info.settings, generation=generation, card=info.card)


def obtain_model(plan: Plan) -> Path:
    """The model given, the one that is there, or a newly trained one."""
    from mcrpy_diffusion.training.train import MODEL_NAME, identity, read_dataset, train

    if plan.model is not None:
        return plan.model
    provenance = recipe(plan.generation, plan.reference)
    model_path = plan.folder / MODEL_NAME
    if model_path.exists():
        wanted = ModelInfo(
            settings=plan.training,
            n_phases=plan.reference.n_phases,
            extent=plan.generation.extent,
            periodic=plan.generation.periodic,
            isotropic=plan.generation.isotropic,
            provenance=provenance,
        )
        check_same(identity(read_info(model_path)), identity(wanted), model_path)
        say(plan, f"{model_path} is finished and fits: sampling at once")
        return model_path
    with stage(plan, "training data"):
        dataset = generate_in(plan, DATASET_FOLDER)
    with stage(plan, "training"):
        return train(read_dataset(dataset), plan.training, plan.folder)


def generate_in(plan: Plan, name: str) -> Path:
    """The complete data set of a plan, in a sub-folder of its results."""
    log_path = plan.folder / f"{plan.logfile_name}_mcrpy.log"
    return generate(plan.generation, plan.reference, plan.folder / name, n_jobs=plan.n_jobs, log_path=log_path)


def sample(plan: Plan, model_path: Path) -> np.ndarray:
    """Make the structures that are missing and return all, shape (n, I, J)."""
    from mcrpy_diffusion.models.model import load_model
    from mcrpy_diffusion.models.structure_folder import StructureFolder

    settings, extent = plan.sampling, plan.generation.extent
    provenance = {k: v for k, v in settings.to_dict().items() if k not in ("n_samples", "batch_size")}
    provenance |= {"extent": list(extent), "model_sha256": hashlib.sha256(model_path.read_bytes()).hexdigest()}
    files = {settings.seed + i: plan.structure_path(i) for i in range(settings.n_samples)}
    structures = StructureFolder(files, extent, plan.reference.n_phases)

    def batches(seeds: Sequence[int]) -> Iterator[tuple[Sequence[int], np.ndarray]]:
        with stage(plan, "sampling"):
            yield from load_model(model_path).batches(seeds, settings, extent)

    advice = "give another --data_folder or --information"
    structures.complete(batches, plan.path("sampling.json"), provenance, advice=advice)
    return structures.read()


def evaluate(plan: Plan, model_path: Path, structures: np.ndarray) -> None:
    """Compare with the original, write figures, tables and what MCRpy opens, and print the closing table."""
    from mcrpy_diffusion.evaluation import evaluate as evaluation
    from mcrpy_diffusion.evaluation.copies import pairs_of
    from mcrpy_diffusion.reports import report

    generation, reference = plan.generation, plan.reference
    training = micrographs = metrics = None
    with stage(plan, "evaluation"):
        folder = plan.folder / DATASET_FOLDER
        if plan.model is None and (folder / "dataset.json").exists():
            training = Dataset.open(folder).load()
        crops = generation.training_data == "crops"
        original = original_structures(plan, training)
        if original is not None:
            micrographs = list(plan.split.training) if crops else None
            metrics = evaluation.evaluate(
                original,
                structures,
                n_phases=reference.n_phases,
                periodic=generation.periodic and not crops,
                training=training,
                held_out=plan.split.held_out_crops(N_HELD_OUT),
                micrographs=micrographs,
            )
        elif is_alone(reference) and plan.card is not None and plan.card.statistics:
            metrics = evaluation.evaluate_against_statistics(
                structures, plan.card.figures, plan.card.statistics, n_phases=reference.n_phases
            )
    with stage(plan, "MCRpy files"):
        write_mcrpy_files(plan, model_path)
    if metrics is None:
        sheet = report.write_structures(plan.folder, structures, suffix=plan.suffix)
        advice = "" if is_alone(reference) else "; --n_training_samples N makes MCRpy reconstructions for it"
        reason = f"there is no original to compare with, and the model carries no statistics of one{advice}"
        say(plan, f"not evaluated: {reason}")
        print(f"  {plan.structure_path(0)}\n  {model_path}\n  {sheet}")
        return
    seconds = read_timings(plan)
    written = report.write_report(
        plan.folder,
        name=reference.name,
        suffix=plan.suffix,
        metrics=metrics,
        original=original,
        generated=structures,
        settings=plan.to_dict(),
        seconds=seconds,
        pairs=pairs_of(metrics, structures, training=training, micrographs=micrographs),
    )
    print(report.console_table(metrics, seconds))
    for path in [plan.structure_path(0), model_path, *written]:
        print(f"  {path}")


def original_structures(plan: Plan, training: np.ndarray | None) -> np.ndarray | None:
    """What the generated structures are measured against, shape (N, I, J); None if a model alone is there."""
    generation, reference = plan.generation, plan.reference
    if generation.training_data == "crops" and reference.micrographs:
        return plan.split.training_crops() if training is None else training
    if reference.micrographs:
        return np.stack(reference.images)
    if training is not None:
        return training
    if is_alone(reference):
        return None
    if plan.model is None:
        raise InputError("there is nothing to compare with: no micrograph, and the training data are gone")
    return Dataset.open(generate_in(plan, COMPARED_FOLDER)).load() if plan.reconstructs_to_compare else None


def write_mcrpy_files(plan: Plan, model_path: Path) -> None:
    """Characterization and convergence data, as `mcrpy.load` and `mcrpy_view` read them."""
    from mcrpy_diffusion.mcrpy_bridge import results
    from mcrpy_diffusion.training.train import read_history

    if plan.reference.micrographs:
        middle = "" if plan.information is None else f"{plan.information}_"
        path = plan.folder / f"{plan.reference.name}_{middle}characterization.pickle"
        results.save_characterization(plan.reference.images[0], plan.generation, path)
    history = read_history(plan.folder) if plan.model is None else []
    frames = denoising_frames(plan, model_path, start=history[-1][0] if history else 0)
    results.save_convergence_data(plan.path("convergence_data.pickle"), history, frames, plan.generation)


def denoising_frames(plan: Plan, model_path: Path, start: int) -> list[tuple[int, float, np.ndarray]]:
    """[(iteration, mean squared change to the final image, predicted x_0 in [0, 1])] of the first structure."""
    from mcrpy_diffusion.models.model import load_model

    predicted: list[np.ndarray] = []
    model = load_model(model_path, device="cpu")
    for _ in model.batches(
        [plan.sampling.seed],
        plan.sampling,
        plan.generation.extent,
        lambda state: predicted.append((state["x_0"][0].numpy().transpose(1, 2, 0) + 1) / 2),
    ):
        pass
    chosen = sorted({round(i) for i in np.linspace(0, len(predicted) - 1, N_FRAMES)})
    final = predicted[-1]
    spacing = max(1, start // 50)  # so that the points stand apart beside the training curve
    errors = [float(np.mean((predicted[i] - final) ** 2)) for i in chosen]
    return [(start + k * spacing, error, predicted[i]) for k, (i, error) in enumerate(zip(chosen, errors))]


@contextlib.contextmanager
def stage(plan: Plan, name: str) -> Iterator[None]:
    """Log a stage and add its seconds to those of earlier runs of the same folder."""
    log.info("%s: start", name)
    started = time.monotonic()
    try:
        yield
    finally:
        seconds = read_timings(plan)
        seconds[name] = round(seconds.get(name, 0.0) + time.monotonic() - started, 1)
        with contextlib.suppress(OSError):
            write_json(plan.folder / f"{plan.reference.name}_seconds{plan.suffix}.json", seconds)
        log.info("%s: %.1f s in all", name, seconds[name])


def read_timings(plan: Plan) -> dict[str, float]:
    """Seconds per stage so far."""
    path = plan.folder / f"{plan.reference.name}_seconds{plan.suffix}.json"
    try:
        seconds = {str(k): float(v) for k, v in read_json(path).items()}
        return {k: v for k, v in seconds.items() if math.isfinite(v)}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError):
        return {}


def say(plan: Plan, line: str) -> None:
    """Print a line and log it."""
    print(line, flush=True)
    log.info("%s", line)


def log_environment() -> None:
    """Log what was settled for MCRpy, where it was imported before the log was opened; later it does so itself."""
    if "mcrpy" in sys.modules:
        from mcrpy_diffusion.mcrpy_bridge.environment import notes

        for line in notes():
            log.info("%s", line)


@contextlib.contextmanager
def log_file(plan: Plan) -> Iterator[None]:
    """Send the log of this package to <data_folder>/<logfile_name>.log."""
    path = plan.folder / f"{plan.logfile_name}.log"
    reject_symlinks(path)
    with logged_by(logging.FileHandler(path), "%(asctime)s on %(levelname)s: %(message)s", log, plan.logging_level):
        yield
