"""Studies of one model: its quality over the number of sampling steps, and its likelihood of real structures."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.step_study import HEADINGS, StepFloors, StepRow, StepStudy
from mcrpy_diffusion.io.files import make_folder, write_json
from mcrpy_diffusion.runtime.progress import Progress
from mcrpy_diffusion.runtime.tables import number, text_table
from mcrpy_diffusion.settings import SAMPLERS, SamplingSettings

if TYPE_CHECKING:
    from mcrpy_diffusion.metrics.image_features import FeatureNetwork
    from mcrpy_diffusion.models.model import Model

N_CROPS = 1000
N_LIKELIHOOD_IMAGES = 16


def originals_for(model: Model, structures: Sequence[np.ndarray], *, seed: int = 0) -> np.ndarray:
    """Real structures (N, I, J) of the model's extent: those given, or random crops of larger ones.

    Raises
    ------
    InputError
        If one is smaller than the model's extent.
    """
    from mcrpy_diffusion.data.crops import random_crops

    if all(structure.shape == model.info.extent for structure in structures):
        return np.stack(structures)
    return random_crops(structures, N_CROPS, extent=model.info.extent, seed=seed)


def step_study(
    model: Model,
    structures: Sequence[np.ndarray],
    out: str | os.PathLike[str],
    *,
    n_steps: Sequence[int],
    samplers: Sequence[str] = ("ddim", "dpm_solver"),
    n_samples: int = 256,
    features: FeatureNetwork | None = None,
    seed: int = 0,
) -> str:
    """Measure structures of a model for each sampler and number of steps, as in figure 8 of the paper.

    Parameters
    ----------
    model : Model
    structures : sequence of (A, B)
        Real ones to compare with, see `originals_for`.
    out : path
        Folder for sampling_steps.json, sampling_steps.png and the structures of each case. After a stop, the same
        call completes them.
    n_steps : sequence of int
    samplers : sequence of str
    n_samples : int
        Structures of each case; the seeds are the same in all.
    features : FeatureNetwork, optional
        For the Frechet distance, precision and recall.
    seed : int

    Returns
    -------
    str
        The table.

    Raises
    ------
    InputError
        If a sampler is unknown, a number of steps is out of range, or a structure is too small.
    """
    from mcrpy_diffusion.evaluation.evaluate import evaluate
    from mcrpy_diffusion.evaluation.features import feature_values
    from mcrpy_diffusion.metrics.image_features import image_features
    from mcrpy_diffusion.models.structure_folder import StructureFolder, sample_to_folder
    from mcrpy_diffusion.reports.study_figures import study_figure

    unknown = sorted(set(samplers) - set(SAMPLERS))
    if unknown:
        raise InputError(f"samplers must be among {', '.join(SAMPLERS)}, got {', '.join(unknown)}")
    original = originals_for(model, structures, seed=seed)
    n_phases, extent = model.info.n_phases, model.info.extent
    out = make_folder(out)
    original_features = None if features is None else image_features(features, original, n_phases=n_phases)
    rows = []
    for sampler in samplers:
        for steps in n_steps:
            settings = SamplingSettings(n_samples=n_samples, sampler=sampler, n_sampling_steps=steps, seed=seed)
            folder = out / f"{sampler}_{steps}"
            files = StructureFolder.by_seed(folder, range(seed, seed + n_samples), extent, n_phases)
            started, n_missing = time.monotonic(), len(files.missing())
            sample_to_folder(model, settings, folder)
            seconds = (time.monotonic() - started) / n_missing if n_missing else None
            generated = files.read()
            evaluation = evaluate(original, generated, n_phases=n_phases, periodic=model.info.periodic)
            measures: dict[str, float | None] = {}
            if features is not None and original_features is not None:
                generated_features = image_features(features, generated, n_phases=n_phases)
                measures, _ = feature_values(original_features, generated_features)
            rows.append(
                StepRow(
                    sampler=sampler,
                    n_steps=steps,
                    seconds_per_structure=seconds,
                    eps_s2_percent=evaluation.two_point_correlation.discrepancy_percent,
                    eps_l_percent=evaluation.lineal_path.discrepancy_percent,
                    volume_fraction_error=evaluation.volume_fraction.difference,
                    **{name: measures.get(name) for name in ("frechet_distance", "precision", "recall")},
                )
            )
    study = StepStudy(
        n_original=len(original),
        n_generated=n_samples,
        features=None if features is None else features.name,
        floor=StepFloors.of(evaluation),
        rows=tuple(rows),
    )
    write_json(out / "sampling_steps.json", study.to_dict())
    study_figure(study, out / "sampling_steps.png")
    return study_table(study)


def study_table(study: StepStudy) -> str:
    """Return a table with a line per sampler and number of steps."""
    measured = [name for name in study.measured() if name != "seconds_per_structure"]
    rows = [
        [
            row.sampler,
            str(row.n_steps),
            *(number(getattr(row, name), "{:.4g}") for name in measured),
            number(row.seconds_per_structure, "{:.2f}"),
        ]
        for row in study.rows
    ]
    table = text_table(["sampler", "steps", *(HEADINGS[name] for name in measured), "s each"], rows)
    floors = [f"{HEADINGS[name]} {value:.2g}" for name, value in vars(study.floor).items() if value is not None]
    counts = f"{study.n_generated} generated, {study.n_original} original structures in each line"
    return f"{table}\n{counts}" + (f"; floor: {', '.join(floors)}" if floors else "")


def likelihood(
    model: Model,
    structures: Sequence[np.ndarray],
    out: str | os.PathLike[str],
    *,
    n_images: int = N_LIKELIHOOD_IMAGES,
    n_terms: int | None = None,
    seed: int = 0,
) -> str:
    """Compute the bound of the negative log likelihood of real structures, eqs. (7)-(10), in bits per dimension.

    Parameters
    ----------
    model : Model
    structures : sequence of (A, B)
        Real ones, see `originals_for`.
    out : path
        Folder for likelihood.json: `bits_per_dimension`, its `standard_error` over the images, and the means of
        `prior`, `decoder` and, if all were computed, the `terms` at `times`.
    n_images : int
        Number of structures, at most as many as are given.
    n_terms : int, optional
        Number of time steps: t = 0, and others that are drawn for each image (`systematic_times`). The result is then
        an estimate without bias. By default all T, which costs T network evaluations per image.
    seed : int

    Returns
    -------
    str
        One line.

    Raises
    ------
    InputError
        If a number is out of range.
    """
    import torch

    from mcrpy_diffusion.data.phase_encoding import encode, volume_fractions
    from mcrpy_diffusion.diffusion.likelihood import systematic_times, variational_bound

    total = model.schedule.num_timesteps
    if n_images < 1 or not (n_terms is None or 2 <= n_terms <= total):
        raise InputError(f"n_images must be at least 1 and n_terms between 2 and {total}, got {n_images} and {n_terms}")
    images = originals_for(model, structures, seed=seed)[:n_images]
    x_0 = encode(torch.from_numpy(images), model.info.n_phases).to(model.device)
    fractions = None
    if model.info.conditions:
        fractions = torch.from_numpy(volume_fractions(images, model.info.n_phases))
    times = None
    if n_terms is not None and n_terms < total:
        start = torch.rand(1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        offsets = (torch.arange(len(images)) + start) / len(images)  # together, the images cover the times evenly
        times = systematic_times(total, n_terms - 1, offsets)
    with Progress(total if n_terms is None else n_terms, "likelihood", unit="term") as bar:
        bound = variational_bound(
            model.denoiser(fractions, precision="float32", clip=False, self_cond_mode="two_pass"),
            x_0,
            model.schedule,
            generator=[torch.Generator().manual_seed(seed + i) for i in range(len(images))],
            times=times,
            callback=lambda done: bar.update(1),
        )
    bits = bound.total.double()
    error = float(bits.std() / len(bits) ** 0.5) if len(bits) > 1 else None
    result: dict[str, Any] = {
        "bits_per_dimension": float(bits.mean()),
        "standard_error": error,
        "n_images": len(images),
        "exact": times is None,
        "prior": float(bound.prior.mean()),
        "decoder": float(bound.decoder.mean()),
        "n_terms": 1 + bound.terms.shape[1],
        "times": None,
        "terms": None,
    }
    if times is None:
        terms = torch.cat([bound.decoder[:, None], bound.terms], dim=1)
        result |= {"times": list(range(total)), "terms": terms.double().mean(0).tolist()}
    path = make_folder(out) / "likelihood.json"
    write_json(path, result)
    spread = "" if error is None else f" +- {error:.4f}"
    bound_text = f"{'at most' if times is None else 'about'} {result['bits_per_dimension']:.4f}{spread}"
    kind = "all" if times is None else f"{result['n_terms']} of"
    return (
        f"negative log likelihood: {bound_text} bits per dimension ({len(images)} structures, {kind} {total} terms; "
        f"prior {result['prior']:.2g}, decoder {result['decoder']:.2g})\n  {path}"
    )
