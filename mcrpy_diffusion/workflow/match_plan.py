"""The plan of `match` and `reconstruct`: options -> settings, checked before anything is written."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.structure_files import Exports
from mcrpy_diffusion.materials.reference import Reference
from mcrpy_diffusion.materials.resolve import resolve
from mcrpy_diffusion.models import pretrained
from mcrpy_diffusion.models.checkpoint import ModelInfo, read_info
from mcrpy_diffusion.models.request import Request, make_request, micrograph_table
from mcrpy_diffusion.models.targets import STEERABLE
from mcrpy_diffusion.settings import (
    GenerationSettings,
    RequestSettings,
    SamplingSettings,
    TrainingSettings,
    default_sampling,
    preset,
    volume_sampling,
)
from mcrpy_diffusion.workflow.plan import ModelPlan, given_fields, ignored_line

N_COMPARED = 64  # MCRpy reconstructions that the structures of a given model are compared with
QUICK_DESCRIPTORS = {"FFTCorrelations", "VolumeFractions", "Variation"}  # a reconstruction takes seconds, not minutes
MCRPY_OWN_NAMES = ("batch_size", "learning_rate")  # MCRpy's options of these names mean something else

RECONSTRUCTION_OPTIONS = ("descriptor_weights", "optimizer_type", "loss_type", "max_iter")
TRAINING_OPTIONS = ("n_training_samples", "n_training_steps")
REFERENCE_OPTIONS = ("descriptor_types", "limit_to", "isotropic", "use_multiphase")
CHARACTERIZATION_OPTIONS = ("grey_values", "use_multigrid_descriptor")
_ASKED = ("volume_fraction", "target_image", "known", "known_mask")
FLAGS = {"periodic": "--non_periodic", "use_multigrid_descriptor": "--no_multigrid_descriptor"}


@dataclass(frozen=True, kw_only=True)
class Plan(ModelPlan):
    """What a run was asked for.

    Parameters
    ----------
    sampling : SamplingSettings
    request : Request
        What the structures are asked for.
    formats : tuple of str
        Formats in which the structures are written besides .npy.
    information : str or None
        Added to the names of the results.
    logfile_name : str
        Without extension.
    logging_level : int
    n_slices : int
        Slices of a volume along its third axis; 1 for images.
    reconstructs_to_compare : bool
        Whether MCRpy makes the structures to compare with, where a model and a characterization were given.
    """

    sampling: SamplingSettings
    request: Request = field(default_factory=Request)
    formats: tuple[str, ...] = ()
    information: str | None = None
    logfile_name: str = "logfile"
    logging_level: int = logging.INFO
    n_slices: int = 1
    reconstructs_to_compare: bool = True

    @property
    def suffix(self) -> str:
        """What --information adds to names."""
        return "" if self.information is None else f"_{self.information}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a new structure: (I, J), or (I, J, K) of a volume."""
        return self.generation.extent if self.n_slices == 1 else (*self.generation.extent, self.n_slices)

    def path(self, kind: str) -> Path:
        """Path of a result called <name>_<kind><_information>.<extension>."""
        stem, extension = kind.rsplit(".", 1)
        return self.folder / f"{self.reference.name}_{stem}{self.suffix}.{extension}"

    def structure_path(self, i: int) -> Path:
        """Path of structure i; a single one has no number."""
        number = "" if self.sampling.n_samples == 1 else f"_{i}"
        return self.folder / f"{self.reference.name}_reconstructed{self.suffix}{number}.npy"

    def describe(self) -> str:
        generation, sampling = self.generation, self.sampling
        kind, unit = ("structure", "pixels") if self.n_slices == 1 else ("volume", "voxels")
        kind += "" if sampling.n_samples == 1 else "s"
        lines = [f"MCRpy-diffusion: {sampling.n_samples} {kind} of {' x '.join(map(str, self.shape))} {unit}"]
        lines += [*self.reference_lines(), *self.model_lines()]
        if self.model is not None and self.reference.characterization is not None and self.reconstructs_to_compare:
            lines.append(f"  compared with  {generation.n_training_samples} MCRpy reconstructions")
        steps = f"{sampling.n_sampling_steps} steps, seeds from {sampling.seed}"
        lines += [f"  sampling       {sampling.sampler}, {steps}", *self.request.describe()]
        lines.append(f"  results        {self.folder}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        values = {**super().to_dict(), "data_folder": str(self.folder), "sampling": self.sampling.to_dict()}
        values |= {"request": self.request.to_dict()} if self.request.to_dict() else {}
        values |= {"formats": list(self.formats)} if self.formats else {}
        if self.card is not None:
            values |= {f"model's {key}": getattr(self.card, key) for key in ("source", "licence")}
        if self.reference.is_model_only:
            values["generation"] = {k: getattr(self.generation, k) for k in ("extent_x", "extent_y", "periodic")}
        if self.n_slices > 1:
            values["n_slices"] = self.n_slices
        return values


def make_plan(options: Mapping[str, Any], reference: Reference) -> Plan:
    """Resolve presets and options into settings; nothing is written.

    Raises
    ------
    InputError
        If an option is out of range, or model and reference do not fit together.
    """
    model = None if options.get("model") is None else pretrained.find(str(options["model"]))
    info = None if model is None else read_info(model)
    usual = (64, 64) if info is None or not reference.is_model_only else info.extent
    extent = (int(options.get("extent_x", usual[0])), int(options.get("extent_y", usual[1])))
    chosen = preset(str(options.get("preset", "quick")), extent)

    generation = chosen.generation.replace(**given_fields(options, GenerationSettings))
    generation = generation.replace(extent_x=extent[0], extent_y=extent[1])
    if not reference.is_model_only:
        if model is not None and not reference.micrographs and "n_training_samples" not in options:
            generation = generation.replace(n_training_samples=N_COMPARED)
        generation = resolve(generation, reference)

    mine = {name: value for name, value in options.items() if name not in MCRPY_OWN_NAMES}
    training = chosen.training.replace(**given_fields(mine, TrainingSettings))
    if reference.n_phases == 0 and training.prediction == "log_odds":
        training = training.replace(prediction="v")  # grey values have no phases
    asked = given_fields(mine, SamplingSettings)
    n_slices = number_of_slices(options)
    n_dims = 2 if n_slices == 1 else 3
    if n_dims == 3:
        asked = {"n_samples": 1, **asked}
    if info is not None:
        sampling = info.sampling_settings(n_dims, **asked)
    else:
        sampling = (default_sampling if n_dims == 2 else volume_sampling)(training).replace(**asked)
    plan = Plan(
        reference=reference,
        pixel_size=reference.pixel_size,
        generation=generation,
        training=training,
        sampling=sampling,
        formats=tuple(options.get("formats") or ()),
        folder=Path(str(options.get("data_folder") or "results")),
        information=options.get("information"),
        n_jobs=int(options.get("n_jobs", -1)),
        logfile_name=logfile_name(options),
        logging_level=int(options.get("logging_level", logging.INFO)),
        n_slices=n_slices,
        reconstructs_to_compare="n_training_samples" in options or is_quick(generation),
    )
    if model is not None and info is not None:
        plan = plan.with_model(model, info)
    plan.training.check_extent(plan.shape)
    plan.check_sampling_steps(sampling.n_sampling_steps)
    Exports(plan.formats).check(len(plan.shape), grey_values=reference.n_phases == 0)
    plan = replace(plan, request=request_of(options, plan, info))
    return replace(plan, ignored=unused_options(options, plan))


def number_of_slices(options: Mapping[str, Any]) -> int:
    """Slices of a volume, by `add_dimension` of match or `extent_z` of reconstruct; 1 for images, as in MCRpy.

    Raises
    ------
    InputError
        If it is below 1.
    """
    name = "add_dimension" if "add_dimension" in options else "extent_z"
    n = int(options.get(name, 1))
    if n < 1:
        raise InputError(f"{name} must be at least 1, got {n}")
    return n


def request_of(options: Mapping[str, Any], plan: Plan, info: ModelInfo | None) -> Request:
    """What the structures are asked for.

    A given model takes the descriptors of a characterization, and the volume fractions of micrographs that it was not
    trained on.

    Raises
    ------
    InputError
        If the model cannot make such structures.
    """
    reference, extent = plan.reference, plan.generation.extent
    will_have = info or ModelInfo(plan.training, reference.n_phases, extent, plan.generation.periodic)
    wanted = RequestSettings(**{name: options[name] for name in _ASKED if name in options})
    predicts_phases = will_have.settings.prediction == "log_odds"
    steers = predicts_phases and wanted.target_image is None and plan.sampling.hold_volume_fraction
    if info is not None and reference.characterization is not None and steers:
        there = [name for name in options.get("descriptor_types") or reference.characterization if name in STEERABLE]
        given = tuple(name for name in there if name in reference.characterization)
        if given:  # others serve the reconstructions that are compared
            wanted = wanted.replace(descriptor_filename=options["descriptor_filename"], descriptor_types=given)
            wanted = wanted.replace(limit_to=options.get("limit_to"))
    request = make_request(wanted, will_have, plan.sampling, plan.shape)
    if info is None or not info.conditions or not reference.micrographs or request.volume_fractions:
        return request
    trained_on = set(info.provenance.get("reference_sha256") or ())
    if trained_on == set(reference.sha256) or not (predicts_phases and plan.sampling.hold_volume_fraction):
        return request
    table = micrograph_table(reference.images, reference.n_phases, extent)
    return replace(request, volume_fractions=tuple(tuple(row) for row in table))


def is_quick(settings: GenerationSettings) -> bool:
    """Whether MCRpy reconstructs from these descriptors in seconds."""
    return QUICK_DESCRIPTORS >= set(settings.descriptor_types)


def logfile_name(options: Mapping[str, Any]) -> str:
    """Name of the log file without extension; with `logfile_date` as MCRpy makes it."""
    name = str(options.get("logfile_name", "logfile"))
    return f"{name}-{time.asctime().replace(' ', '-').replace(':', '-')}" if options.get("logfile_date") else name


def unused_options(options: Mapping[str, Any], plan: Plan) -> str:
    """Name the given options that have no effect, and why, in one line; empty where there are none."""
    groups: dict[str, list[str]] = {"used with --method descriptor only": list(options.get("ignored") or [])}

    def add(names: tuple[str, ...], reason: str) -> None:
        groups.setdefault(reason, []).extend(FLAGS.get(name, f"--{name}") for name in names if name in options)

    has_characterization = plan.reference.characterization is not None
    uses_descriptors = plan.generation.training_data == "descriptors"
    if plan.model is not None and not has_characterization:
        add(RECONSTRUCTION_OPTIONS, "a model was given, so that MCRpy reconstructs nothing")
    elif not uses_descriptors:
        add(RECONSTRUCTION_OPTIONS, "the training data are crops, so that MCRpy reconstructs nothing")
    if plan.model is not None:
        unused = TRAINING_OPTIONS[1:] if has_characterization else TRAINING_OPTIONS
        add(unused, "a model was given, so that none is trained")
        if "periodic" in options and bool(options["periodic"]) != plan.generation.periodic:
            add(("periodic",), "the model decides it")
    elif options.get("periodic") and not uses_descriptors:
        add(("periodic",), "crops are not periodic")
    if plan.reference.is_model_only:
        add((*CHARACTERIZATION_OPTIONS, *REFERENCE_OPTIONS), "only a model was given")
    if has_characterization:
        add(CHARACTERIZATION_OPTIONS, "decided when the characterization was made")
    return ignored_line(groups)
