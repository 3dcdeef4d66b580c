"""What a benchmark was asked for, resolved and checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.data.split import MicrographSplit
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials.generate import recipe, resolve
from mcrpy_diffusion.materials.reference import Reference, reference_from_micrographs
from mcrpy_diffusion.models import pretrained
from mcrpy_diffusion.models.structure_folder import StructureFolder
from mcrpy_diffusion.settings import (
    SAMPLERS,
    BenchmarkSettings,
    GenerationSettings,
    SamplingSettings,
    Settings,
    TrainingSettings,
    preset,
)

MODEL_TASK = "model"
FAST_SAMPLER, FAST_STEPS = "dpm_solver", 20  # where nothing else than the paper's sampler is recommended


@dataclass(frozen=True)
class Method:
    """A way to make structures: by MCRpy with these descriptors, or by sampling a model."""

    title: str
    descriptor_types: tuple[str, ...] = ()
    optimizer_type: str = "LBFGSB"
    loss_type: str = "MSE"
    accelerated: bool = False

    @property
    def is_diffusion(self) -> bool:
        """Whether it samples the model."""
        return not self.descriptor_types


METHODS = {
    "s2_lbfgsb": Method("MCRpy: S2, L-BFGS-B", ("FFTCorrelations",)),
    "s2_accelerated": Method("the same, accelerated", ("FFTCorrelations",), accelerated=True),
    "s2_tnc": Method("MCRpy: S2, TNC, RMS", ("Correlations",), "TNC", "RMS"),
    "gram": Method("MCRpy: Gram matrices, L-BFGS-B", ("GramMatrices",)),
    "lineal_path_s2": Method("MCRpy: lineal path and S2, L-BFGS-B", ("LinealPathFunction", "FFTCorrelations")),
    "diffusion_ddim": Method("diffusion"),
    "diffusion_fast": Method("diffusion"),
}


@dataclass(frozen=True)
class Plan:
    """Everything a benchmark was asked for, resolved and checked before anything is written."""

    settings: BenchmarkSettings
    reference: Reference
    generation: GenerationSettings
    training: TrainingSettings
    model: Path | None
    model_note: str
    fast_sampler: str
    n_fast_steps: int
    folder: Path
    n_jobs: int
    has_use_for_preset: bool = True  # a given model may recommend all that a preset would decide
    ignored: str = ""  # what was given and has no meaning here, in a line

    @property
    def samples_a_model(self) -> bool:
        """Whether any of the methods does."""
        return any(METHODS[method].is_diffusion for method in self.settings.methods)

    @cached_property
    def split(self) -> MicrographSplit:
        """The part that all methods see, and the part that none of them sees."""
        return MicrographSplit.of(self.reference.images, self.generation)

    @property
    def training_part(self) -> np.ndarray:
        """What all methods see, (A, B)."""
        return self.split.training[0]

    @property
    def held_out_part(self) -> np.ndarray | None:
        """What none of them sees, (C, D); None where nothing is held out."""
        return self.split.held_out[0] if self.has_held_out else None

    @property
    def has_held_out(self) -> bool:
        """Whether a part is held out."""
        return self.split.is_complete

    @property
    def why_nothing_is_held_out(self) -> str:
        """Why no part is held out, and what follows; nothing where one is."""
        if self.has_held_out:
            return ""
        asked = self.settings.held_out_fraction == 0
        why = "nothing is held out, as asked" if asked else "the micrograph is too small to hold a part of it out"
        learns = self.model is None and self.samples_a_model
        also = "; the model learns from MCRpy's reconstructions, as crops want a held-out part" if learns else ""
        return f"{why}: all methods see the whole of it, and are compared with the reference itself{also}"

    @property
    def model_path(self) -> Path:
        """The model that was given, or the one that is trained."""
        return self.folder / MODEL_TASK / "model.safetensors" if self.model is None else self.model

    @property
    def fast(self) -> dict[str, Any]:
        """The sampler of diffusion_fast and its steps."""
        return {"fast_sampler": self.fast_sampler, "n_fast_steps": self.n_fast_steps}

    def record(self, task: str) -> Path:
        """Where it is written what a task cost."""
        return self.folder / f"{task}.jsonl"

    def structures(self, method: str) -> np.ndarray | None:
        """The structures of a method that are there, up to those asked for: (n, I, J) uint8, or None."""
        seeds = range(self.settings.seed, self.settings.seed + self.settings.number_of(method))
        files = StructureFolder.by_seed(self.folder / method, seeds, self.settings.extent, self.reference.n_phases)
        present = files.present()
        return files.read(present) if present else None

    def sampling(self, method: str) -> SamplingSettings:
        """How a method of the diffusion model samples."""
        is_fast = method == "diffusion_fast"
        return SamplingSettings(
            n_samples=self.settings.number_of(method),
            sampler=self.fast_sampler if is_fast else "ddim",
            n_sampling_steps=self.n_fast_steps if is_fast else self.settings.n_ddim_steps,
            seed=self.settings.seed,
        )

    def title(self, method: str) -> str:
        """What a method is called, with its sampler and steps."""
        if not METHODS[method].is_diffusion:
            return METHODS[method].title
        sampling = self.sampling(method)
        return f"{METHODS[method].title}: {SAMPLERS[sampling.sampler].title}, {sampling.n_sampling_steps} steps"

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved settings, for the console and the report."""
        return {
            "reference": self.reference.micrographs[0].path,
            "out": str(self.folder),
            "model": None if self.model is None else str(self.model),
            "benchmark": self.settings.to_dict() | self.fast | {"n_jobs": self.n_jobs},
            "generation": recipe(self.generation, self.reference) if self.model is None else {},
            "training": self.training.to_dict(),
        }


def make_plan(options: Mapping[str, Any]) -> Plan:
    """Resolve presets and options into settings; nothing is written."""
    options = {k: v for k, v in options.items() if v is not None}
    settings = BenchmarkSettings().replace(
        **{k: options[k] for k in BenchmarkSettings.__dataclass_fields__ if k in options}
    )
    reference = reference_from_micrographs([str(options["reference"])], {"use_multiphase": settings.use_multiphase})
    chosen = preset(str(options.get("preset", "quick")), settings.extent)
    shared = ("extent_x", "extent_y", "held_out_fraction", "n_training_samples", "isotropic", "seed")
    generation = chosen.generation.replace(**{name: getattr(settings, name) for name in shared})
    generation = resolve(generation.replace(use_multiphase=settings.use_multiphase), reference)
    half = min(settings.extent) // 2
    if settings.limit_to is not None and settings.limit_to > half:
        raise InputError(f"limit_to is {settings.limit_to}; allowed is 1 to {half}, half of the smaller extent")
    own = _chosen(options, TrainingSettings)
    own.pop("seed", None)  # the benchmark's
    training = chosen.training.replace(**own, seed=settings.seed)
    fast_sampler, n_fast_steps = fast_sampling(chosen.sampling)
    plan = Plan(
        settings=settings,
        reference=reference,
        generation=generation,
        training=training,
        model=None,
        model_note="",
        fast_sampler=fast_sampler,
        n_fast_steps=settings.n_fast_steps or n_fast_steps,
        folder=Path(str(options["out"])),
        n_jobs=int(options.get("n_jobs", 1)),
    )
    if plan.n_jobs < 1:
        raise InputError(f"n_jobs is {plan.n_jobs}; allowed is a whole number of at least 1")
    if "model" in options:
        if own:
            raise InputError(f"--model was given with --{', --'.join(sorted(own))}; allowed is one of both")
        plan = with_model(plan, pretrained.find(str(options["model"])), chosen.sampling)
    if plan.samples_a_model:
        plan.training.check_extent(settings.extent)
        most = max(plan.sampling(m).n_sampling_steps for m in settings.methods if METHODS[m].is_diffusion)
        if most > plan.training.n_timesteps:
            raise InputError(f"sampling takes {most} steps; this model allows 1 to {plan.training.n_timesteps}")
    return replace(plan, ignored=without_meaning(options, plan))


def unused(plan: Plan) -> dict[str, str]:
    """Options, and keys of made_by.json, that decide nothing with these methods and this model, and why."""
    methods, why = plan.settings.methods, dict[str, str]()
    if not plan.samples_a_model:
        names = ("model", "preset", "n_training_samples", "n_ddim_steps", "n_fast_steps", "fast_sampler", "training")
        own = (f.name for f in fields(TrainingSettings) if f.name != "seed")  # the benchmark's
        why |= dict.fromkeys((*names, *own), "none of the methods samples a model")
    else:
        if plan.model is not None:
            of_training = ["n_training_samples", *([] if plan.has_use_for_preset else ["preset"])]
            why |= dict.fromkeys(of_training, "a model was given, so that none is trained")
        if "diffusion_ddim" not in methods:
            why["n_ddim_steps"] = "diffusion_ddim is not among the methods"
        if "diffusion_fast" not in methods:
            why |= dict.fromkeys(("n_fast_steps", "fast_sampler"), "diffusion_fast is not among the methods")
    if all(METHODS[method].is_diffusion for method in methods):
        why |= dict.fromkeys(("limit_to", "max_iter"), "none of the methods is MCRpy's")
    elif all(METHODS[method].is_diffusion or method == "gram" for method in methods):
        why["limit_to"] = "Gram matrices have none"
    return why


def without_meaning(options: Mapping[str, Any], plan: Plan) -> str:
    """Say in one line which of the options given have no meaning, and why; nothing where all have."""
    groups: dict[str, list[str]] = {}
    for name, why in unused(plan).items():
        if name in options:
            groups.setdefault(why, []).append(f"--{name}")
    for method in plan.settings.n_samples_of:
        if method not in plan.settings.methods:
            groups.setdefault("not among the methods", []).append(f"--n_samples_of {method}")
    said = [f"{', '.join(flags)}: {why}" for why, flags in groups.items()]
    return f"{'; '.join(said)}; ignored" if said else ""


def fast_sampling(*recommended: SamplingSettings) -> tuple[str, int]:
    """The first recommended sampler that is not the paper's, DDIM, and its steps; 20 of DPM-Solver++ without one."""
    found = [(each.sampler, each.n_sampling_steps) for each in recommended if each.sampler != "ddim"]
    return next(iter(found), (FAST_SAMPLER, FAST_STEPS))


def _chosen(options: Mapping[str, Any], settings: type[Settings]) -> dict[str, Any]:
    return {f.name: options[f.name] for f in fields(settings) if f.name in options}


def with_model(plan: Plan, model: Path, usual: SamplingSettings) -> Plan:
    """The plan with a model that is there, and what to know about what it was trained on."""
    from mcrpy_diffusion.models.checkpoint import read_info

    info = read_info(model)
    if info.n_phases != plan.reference.n_phases:
        raise InputError(
            f"{model} makes {info.n_phases} phases, the reference has {plan.reference.n_phases}; allowed is the same"
        )
    ours, theirs = recipe(plan.generation, plan.reference), info.provenance
    keys = ("reference_sha256", "training_data", "extent_x", "extent_y", "held_out_fraction")
    note = ""
    if any(theirs.get(key) != ours.get(key) for key in keys):
        note = (
            "the model was not trained on the training part of this reference as it is divided here: it may have seen "
            "the held-out part, or another material"
        )
    recommended = info.sampling_settings()
    fast_sampler, n_fast_steps = fast_sampling(recommended, usual)
    return replace(
        plan,
        has_use_for_preset=recommended.sampler == "ddim" and "diffusion_fast" in plan.settings.methods,
        model=model,
        training=info.settings,
        model_note=note,
        fast_sampler=fast_sampler,
        n_fast_steps=plan.settings.n_fast_steps or n_fast_steps,
    )


def describe(plan: Plan) -> str:
    """The resolved settings, readable."""
    settings, micrograph = plan.settings, plan.reference.micrographs[0]
    held, parts = plan.held_out_part, plan.why_nothing_is_held_out
    if held is not None:
        (a, b), (c, d) = plan.training_part.shape, held.shape
        parts = f"{a} x {b} pixels for all methods, {c} x {d} held out"
    lines = [f"MCRpy-diffusion: benchmark with structures of {settings.extent_x} x {settings.extent_y} pixels"]
    lines += [
        f"  reference      {micrograph.path}: {micrograph.phases.shape[0]} x {micrograph.phases.shape[1]}; {parts}"
    ]
    if plan.samples_a_model:
        steps = f"{plan.training.n_training_steps} steps of {plan.training.batch_size} images"
        n = plan.generation.n_training_samples
        kind = {"crops": "crops", "descriptors": "MCRpy reconstructions"}[plan.generation.training_data]
        lines += [f"  model          {plan.model or f'trained on {n} {kind}, {steps}'}"]
    for method in settings.methods:
        lines.append(f"  {method:14s} {settings.number_of(method):4d}  {plan.title(method)}")
    return "\n".join([*lines, f"  results        {plan.folder}"])
