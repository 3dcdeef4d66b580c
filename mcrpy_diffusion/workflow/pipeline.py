"""`match` and `reconstruct` with --method diffusion: generate, train, sample, evaluate, report.

Every stage leaves files and continues from them, so that the same command completes a run that was stopped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.results import RequestedFigure
from mcrpy_diffusion.io.files import make_folder
from mcrpy_diffusion.io.provenance import check_same
from mcrpy_diffusion.io.structure_files import Exports
from mcrpy_diffusion.materials.generate import generate
from mcrpy_diffusion.materials.reference import (
    Reference,
    reference_from_characterization,
    reference_from_micrographs,
)
from mcrpy_diffusion.materials.resolve import recipe
from mcrpy_diffusion.models import pretrained
from mcrpy_diffusion.models.checkpoint import ModelInfo, read_info
from mcrpy_diffusion.runtime.console import say_error
from mcrpy_diffusion.workflow.match_plan import Plan, make_plan
from mcrpy_diffusion.workflow.mcrpy_files import write_mcrpy_files
from mcrpy_diffusion.workflow.run_log import log, log_environment, log_file, read_timings, say, stage

N_HELD_OUT = 1000
N_UNSTEERED = 16  # structures that show what steering changes
DATASET_FOLDER = "training_data"
COMPARED_FOLDER = "reconstructions"


def match(options: Mapping[str, Any]) -> None:
    """New structures like one or several micrographs.

    Parameters
    ----------
    options : mapping
        The options that were given, by the names of the command's: `microstructure_filenames`, `data_folder`,
        `preset`, and any field of the settings of the three stages. `n_sampling_steps` and `seed` as in the settings.
        `ignored` holds the flags that were given and have no effect, to be named in a warning.

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
    if name:
        names, limit_to = options.get("descriptor_types") or (), options.get("limit_to")
        reference = reference_from_characterization(str(name), names=names, limit_to=limit_to)
    else:
        reference = reference_from_model(str(model))
    run(make_plan(options, reference), bool(options.get("dry_run")))


def reference_from_model(given: str) -> Reference:
    """Name and number of phases, where only a model was given."""
    path = pretrained.find(given)
    info = read_info(path)
    return Reference(path.stem if info.card is None else info.card.name, info.n_phases, ())


def run(plan: Plan, dry_run: bool = False) -> None:
    """Run all stages, each from where it was stopped."""
    plan.announce()
    if dry_run:
        return
    make_folder(plan.folder)
    with log_file(plan):
        log.info("settings: %s", json.dumps(plan.to_dict()))
        if plan.ignored:
            log.warning("%s", plan.ignored)
        log_environment()
        model_path = obtain_model(plan)
        if advice := plan.request.advice(read_info(model_path)):
            log.warning("%s", advice)
            say_error(f"warning: {advice}")
        structures = sample(plan, model_path)
        evaluate(plan, model_path, structures)


def obtain_model(plan: Plan) -> Path:
    """The model that was given or trained before, or a newly trained one."""
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
        say(f"{model_path} is finished and was made with these settings: sampling at once")
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
    """Make the structures that are missing and return all, shape (n, I, J) or (n, I, J, K)."""
    from mcrpy_diffusion.models.model import load_model
    from mcrpy_diffusion.models.structure_folder import StructureFolder, sampling_provenance

    settings = plan.sampling
    provenance = sampling_provenance(settings, plan.shape, plan.request)
    provenance["model_sha256"] = hashlib.sha256(model_path.read_bytes()).hexdigest()
    files = {settings.seed + i: plan.structure_path(i) for i in range(settings.n_samples)}
    size = read_info(model_path).pixel_size
    if size is not None:
        provenance["pixel_size"] = size.to_dict()
    exports = Exports(plan.formats, None if size is None else size.metres)
    structures = StructureFolder(files, plan.shape, plan.reference.n_phases, exports)

    def batches(seeds: Sequence[int]) -> Iterator[tuple[Sequence[int], np.ndarray]]:
        with stage(plan, "sampling"):
            yield from structures.batches(load_model(model_path), settings, plan.request, provenance)(seeds)

    advice = "give another --data_folder or --information"
    structures.complete(batches, plan.path("sampling.json"), provenance, advice=advice)
    return structures.read()


def evaluate(plan: Plan, model_path: Path, structures: np.ndarray) -> None:
    """Compare with the original, write figures, tables and what MCRpy opens, and print the closing table."""
    from mcrpy_diffusion.evaluation.against_statistics import evaluate_against_statistics
    from mcrpy_diffusion.evaluation.evaluate import evaluate as compare
    from mcrpy_diffusion.evaluation.pairs import find_pairs
    from mcrpy_diffusion.reports.console import console_table
    from mcrpy_diffusion.reports.report import write_report, write_structures
    from mcrpy_diffusion.reports.segmentation import write_segmentation

    generation, reference = plan.generation, plan.reference
    if plan.n_slices > 1:
        from mcrpy_diffusion.workflow.volume_evaluation import evaluate_volumes

        evaluate_volumes(plan, model_path, structures, reference.images or None)
        return
    training = micrographs = evaluation = None
    with stage(plan, "evaluation"):
        folder = plan.folder / DATASET_FOLDER
        if plan.model is None and (folder / "dataset.json").exists():
            training = Dataset.open(folder).load()
        crops = generation.training_data == "crops"
        original = original_structures(plan, training)
        if original is not None:
            micrographs = list(plan.split.training) if crops else None
            evaluation = compare(
                original,
                structures,
                n_phases=reference.n_phases,
                periodic=generation.periodic and not crops,
                training=training,
                held_out=plan.split.held_out_crops(N_HELD_OUT),
                micrographs=micrographs,
                held_out_micrographs=plan.split.held_out,
            )
        elif reference.is_model_only and (card := plan.card) is not None and card.figures and card.statistics:
            evaluation = evaluate_against_statistics(
                structures, card.figures, card.statistics, n_phases=reference.n_phases
            )
    requested = requested_figures(plan, model_path, structures)
    with stage(plan, "MCRpy files"):
        write_mcrpy_files(plan, model_path)
    if evaluation is not None:
        evaluation = replace(evaluation, requested=requested or None)
    if evaluation is None:
        sheet = write_structures(plan.folder, structures, suffix=plan.suffix)
        write_segmentation(plan.folder, reference.readings, suffix=plan.suffix)
        advice = "" if reference.is_model_only else "; --n_training_samples N makes MCRpy reconstructions for it"
        reason = f"there is no original to compare with, and the model carries no statistics of one{advice}"
        say(f"not evaluated: {reason}")
        print(f"  {plan.structure_path(0)}\n  {model_path}\n  {sheet}")
        return
    seconds = read_timings(plan)
    written = write_report(
        plan.folder,
        name=reference.name,
        suffix=plan.suffix,
        metrics=evaluation,
        original=original,
        generated=structures,
        settings=plan.to_dict(),
        seconds=seconds,
        pairs=find_pairs(
            evaluation.nearest_training_image.closest_pairs, structures, training=training, micrographs=micrographs
        ),
        readings=reference.readings,
        pixel_size=plan.pixel_size,
    )
    print(console_table(evaluation, seconds))
    for path in [plan.structure_path(0), model_path, *written]:
        print(f"  {path}")


def requested_figures(plan: Plan, model_path: Path, structures: np.ndarray) -> tuple[RequestedFigure, ...]:
    """What was asked for, and what the structures and some of the same seeds without steering have."""
    from mcrpy_diffusion.models.model import load_model

    unsteered = None
    if plan.request.targets:
        with stage(plan, "structures without steering"):
            seeds = range(plan.sampling.seed, plan.sampling.seed + min(len(structures), N_UNSTEERED))
            plain = replace(plan.request, targets=())
            batches = load_model(model_path).batches(seeds, plan.sampling, plan.generation.extent, request=plain)
            unsteered = np.concatenate([each for _, each in batches])
    return plan.request.figures(structures, plan.reference.n_phases, unsteered)


def original_structures(plan: Plan, training: np.ndarray | None) -> np.ndarray | None:
    """What the generated structures are compared with, shape (N, I, J); None where there is nothing."""
    generation, reference = plan.generation, plan.reference
    if generation.training_data == "crops" and reference.micrographs:
        return plan.split.training_crops() if training is None else training
    if reference.micrographs:
        return np.stack(reference.images)
    if training is not None:
        return training
    if reference.is_model_only:
        return None
    if plan.model is None:
        raise InputError("there is nothing to compare with: no micrograph, and the training data were deleted")
    return Dataset.open(generate_in(plan, COMPARED_FOLDER)).load() if plan.reconstructs_to_compare else None
