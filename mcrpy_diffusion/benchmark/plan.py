"""What a benchmark was asked for, resolved and checked before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials.reference import reference_from_micrographs
from mcrpy_diffusion.materials.resolve import recipe, resolve
from mcrpy_diffusion.models import pretrained
from mcrpy_diffusion.models.checkpoint import read_info
from mcrpy_diffusion.models.structure_folder import StructureFolder
from mcrpy_diffusion.settings import SAMPLERS, BenchmarkSettings, SamplingSettings, TrainingSettings, preset
from mcrpy_diffusion.workflow.plan import ModelPlan, given_fields, ignored_line

MODEL_TASK = "model"
FAST_SAMPLER, FAST_STEPS = "dpm_solver", 20  # where only the paper's sampler is recommended


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


@dataclass(frozen=True, kw_only=True)
class Plan(ModelPlan):
    """What a benchmark was asked for.

    Parameters
    ----------
    settings : BenchmarkSettings
    fast_sampler, n_fast_steps
        Of the method diffusion_fast.
    """

    settings: BenchmarkSettings
    fast_sampler: str
    n_fast_steps: int

    @property
    def samples_a_model(self) -> bool:
        """Whether any of the methods does."""
        return any(METHODS[method].is_diffusion for method in self.settings.methods)

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
    def division(self) -> str:
        """How the micrograph is divided, or why it is not."""
        if self.held_out_part is not None:
            (a, b), (c, d) = self.training_part.shape, self.held_out_part.shape
            return f"{a} x {b} pixels for all methods, {c} x {d} held out"
        asked = self.settings.held_out_fraction == 0
        why = "nothing is held out, as asked" if asked else "the micrograph is too small to hold a part of it out"
        learns = self.model is None and self.samples_a_model
        also = "; the model is trained on MCRpy's reconstructions, as crops need a held-out part" if learns else ""
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
        """The file with the costs of a task."""
        return self.folder / f"{task}.jsonl"

    def seeds(self, method: str) -> range:
        """Seeds of the structures that a method makes."""
        return range(self.settings.seed, self.settings.seed + self.settings.number_of(method))

    def structure_folder(self, method: str) -> StructureFolder:
        """The structures of a method."""
        folder = self.folder / method
        return StructureFolder.by_seed(folder, self.seeds(method), self.settings.extent, self.reference.n_phases)

    def structures(self, method: str) -> np.ndarray | None:
        """The structures of a method that exist: (n, I, J) uint8, or None."""
        structures = self.structure_folder(method)
        present = structures.present()
        return structures.read(present) if present else None

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

    def describe(self) -> str:
        settings = self.settings
        lines = [f"MCRpy-diffusion: benchmark with structures of {settings.extent_x} x {settings.extent_y} pixels"]
        lines += [*self.reference_lines(), f"  parts          {self.division}"]
        lines += self.model_lines() if self.samples_a_model else []
        lines += [
            f"  {method:14s} {settings.number_of(method):4d}  {self.title(method)}" for method in settings.methods
        ]
        return "\n".join([*lines, f"  results        {self.folder}"])

    def to_dict(self) -> dict[str, Any]:
        values = {**super().to_dict(), "out": str(self.folder)}
        values |= {} if self.model is None else {"generation": {}}
        return values | {"benchmark": self.settings.to_dict() | self.fast | {"n_jobs": self.n_jobs}}


def make_plan(options: Mapping[str, Any]) -> Plan:
    """Resolve presets and options into settings; nothing is written.

    Raises
    ------
    InputError
        If an option is out of range, or the model does not fit the reference.
    """
    options = {k: v for k, v in options.items() if v is not None}
    settings = BenchmarkSettings().replace(**given_fields(options, BenchmarkSettings))
    reference = reference_from_micrographs([str(options["reference"])], {"use_multiphase": settings.use_multiphase})
    chosen = preset(str(options.get("preset", "quick")), settings.extent)
    shared = ("extent_x", "extent_y", "held_out_fraction", "n_training_samples", "isotropic", "seed", "use_multiphase")
    generation = resolve(chosen.generation.replace(**{name: getattr(settings, name) for name in shared}), reference)
    half = min(settings.extent) // 2
    if settings.limit_to is not None and settings.limit_to > half:
        raise InputError(f"limit_to must be between 1 and {half}, half of the smaller extent, got {settings.limit_to}")
    n_jobs = int(options.get("n_jobs", 1))
    if n_jobs < 1:
        raise InputError(f"n_jobs must be at least 1, got {n_jobs}")
    own = {name: value for name, value in given_fields(options, TrainingSettings).items() if name != "seed"}
    if own and "model" in options:
        raise InputError(f"--model must be given without --{', --'.join(sorted(own))}")
    model = pretrained.find(str(options["model"])) if "model" in options else None
    info = None if model is None else read_info(model)
    recommended = [chosen.sampling] if info is None else [info.sampling_settings(), chosen.sampling]
    fast_sampler, n_fast_steps = fast_sampling(*recommended)
    plan = Plan(
        settings=settings,
        reference=reference,
        generation=generation,
        training=chosen.training.replace(**own, seed=settings.seed),
        fast_sampler=fast_sampler,
        n_fast_steps=settings.n_fast_steps or n_fast_steps,
        folder=Path(str(options["out"])),
        n_jobs=n_jobs,
    )
    if model is not None and info is not None:
        plan = plan.with_model(model, info)
    if plan.samples_a_model:
        plan.training.check_extent(settings.extent)
        for method in settings.methods:
            if METHODS[method].is_diffusion:
                plan.check_sampling_steps(plan.sampling(method).n_sampling_steps)
    return replace(plan, ignored=unused_options(options, plan))


def fast_sampling(*recommended: SamplingSettings) -> tuple[str, int]:
    """The first recommended sampler that is not DDIM, the paper's, and its steps; 20 of DPM-Solver++ without one."""
    found = [(each.sampler, each.n_sampling_steps) for each in recommended if each.sampler != "ddim"]
    return next(iter(found), (FAST_SAMPLER, FAST_STEPS))


def unused(plan: Plan) -> dict[str, str]:
    """Options, and keys of made_by.json, without effect on these methods and this model, and why."""
    methods, why = plan.settings.methods, dict[str, str]()
    if not plan.samples_a_model:
        names = ("model", "preset", "n_training_samples", "n_ddim_steps", "n_fast_steps", "fast_sampler", "training")
        own = (f.name for f in fields(TrainingSettings) if f.name != "seed")  # the benchmark's
        why |= dict.fromkeys((*names, *own), "none of the methods samples a model")
    else:
        if plan.model is not None:
            recommends_ddim = read_info(plan.model).sampling_settings().sampler == "ddim"
            preset_decides = recommends_ddim and "diffusion_fast" in methods
            of_training = ["n_training_samples", *([] if preset_decides else ["preset"])]
            why |= dict.fromkeys(of_training, "a model was given, so that none is trained")
        if "diffusion_ddim" not in methods:
            why["n_ddim_steps"] = "diffusion_ddim is not among the methods"
        if "diffusion_fast" not in methods:
            why |= dict.fromkeys(("n_fast_steps", "fast_sampler"), "diffusion_fast is not among the methods")
    descriptor_based = [method for method in methods if not METHODS[method].is_diffusion]
    if not descriptor_based:
        why |= dict.fromkeys(("limit_to", "max_iter"), "none of the methods is MCRpy's")
    elif descriptor_based == ["gram"]:
        why["limit_to"] = "Gram matrices have none"
    return why


def unused_options(options: Mapping[str, Any], plan: Plan) -> str:
    """Name the given options that have no effect, and why, in one line; empty where there are none."""
    groups: dict[str, list[str]] = {}
    for name, why in unused(plan).items():
        if name in options:
            groups.setdefault(why, []).append(f"--{name}")
    absent = [method for method in plan.settings.n_samples_of if method not in plan.settings.methods]
    groups["not among the methods"] = [f"--n_samples_of {method}" for method in absent]
    return ignored_line(groups)


def note_on_given_model(plan: Plan) -> str:
    """Say where a given model was not trained on the training part of this reference; empty where it was."""
    if plan.model is None:
        return ""
    ours, theirs = recipe(plan.generation, plan.reference), read_info(plan.model).provenance
    keys = ("reference_sha256", "training_data", "extent_x", "extent_y", "held_out_fraction")
    if all(theirs.get(key) == ours.get(key) for key in keys):
        return ""
    return (
        "the model was not trained on the training part of this reference as it is divided here: it may have seen the "
        "held-out part, or another material"
    )
