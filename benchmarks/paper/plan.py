"""Plan of a run of the benchmark: materials, numbers, settings and places of files."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcrpy_diffusion.benchmark.plan import fast_sampling
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.provenance import differences
from mcrpy_diffusion.materials import recipes
from mcrpy_diffusion.materials.reference import Reference
from mcrpy_diffusion.materials.reference_images import MATERIALS
from mcrpy_diffusion.models import pretrained
from mcrpy_diffusion.settings import SAMPLERS, SamplingSettings, TrainingSettings, preset

SCALES = ("small", "paper")  # presets of the package
EXTENTS = {64: MATERIALS, 256: ("alloy", "carbonate", "fibre")}  # what the paper has of each
BOUNDARY_PHASES = {"alloy": 1}
SEEDS = {"training": 0, "held_out": 1}  # of the data sets; no sample of one has the seed of one of the other
DDIM_STEPS = {64: 150, 256: 500}
N_STRUCTURES = 1000  # of each set
BATCH_SIZES = {64: 50, 256: 4}  # of sampling
STUDY_NAME = "sampling_steps"  # figure 8
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Plan:
    """Options of a run.

    Attributes
    ----------
    scale : str
        Preset of the training.
    extent : int
        Rows and columns.
    materials : tuple of str
    n_training, n_held_out, n_samples : int
        Structures of each set.
    n_steps : int, optional
        Training steps in place of the preset's.
    changes : mapping
        Fields of `TrainingSettings` that differ from the preset's.
    work : path
        Data sets, models and structures, which are large.
    results : path
        Metrics, tables and figures.
    references : path, optional
        Folder of real micrographs, `<material>_256.npy` or `<material>_64.npy`, in place of the built-in images.
    data : path, optional
        Folder of existing data sets, `<material>/training` and `<material>/held_out`.
    paper_recipe : bool
        The paper's descriptors and optimizer for data by MCRpy: at least half an hour per structure.
    n_jobs : int
        Processes that make data; -1: one per core.
    features : tuple of str, optional
        Networks of the Frechet distance; None: vgg19, and inception if its weights are installed.
    study_material, study_steps, study_samples
        Of the study of sampling steps, figure 8.
    shipped : bool
        The models of the package, trained at 64 x 64, in place of training; they sample 256 x 256 as well.
    sampler_types : tuple of str
        Samplers; empty: "ddim", the paper's, and the preset's fast one.

    Raises
    ------
    InputError
        If a scale, an extent or a material is unknown, or a number is out of range.
    """

    scale: str = "small"
    extent: int = 64
    materials: tuple[str, ...] = MATERIALS
    n_training: int = N_STRUCTURES
    n_held_out: int = N_STRUCTURES
    n_samples: int = N_STRUCTURES
    n_steps: int | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    work: Path = Path("work/paper")
    results: Path = HERE / "results"
    references: Path | None = None
    data: Path | None = None
    paper_recipe: bool = False
    n_jobs: int = -1
    features: tuple[str, ...] | None = None
    study_material: str = "carbonate"
    study_steps: tuple[int, ...] = (5, 10, 20, 50, 150, 300)
    study_samples: int = 256
    sampler_types: tuple[str, ...] = ()
    shipped: bool = False

    def __post_init__(self) -> None:
        for name, value, allowed in (("scale", self.scale, SCALES), ("extent", self.extent, tuple(EXTENTS))):
            if value not in allowed:
                raise InputError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")
        for material in self.materials:
            recipes.check_material(material)
        self.training  # noqa: B018  reports wrong settings before any work
        counts = {name: getattr(self, name) for name in ("n_training", "n_held_out", "n_samples", "study_samples")}
        for name, n in [*counts.items(), *(("study_steps", n) for n in self.study_steps)]:
            if n < 1:
                raise InputError(f"{name} must be at least 1, got {n}")
        if self.shipped and (self.scale != "small" or self.n_steps is not None or self.changes):
            raise InputError("shipped models must have scale small, without steps and set")

    @property
    def training(self) -> TrainingSettings:
        """The preset's settings with the changes."""
        return self.preset_training.replace(n_training_steps=self.n_steps, **self.changes)

    @property
    def preset_training(self) -> TrainingSettings:
        """The preset's settings."""
        return preset(self.scale, (self.extent, self.extent)).training

    @property
    def changed(self) -> list[str]:
        """Differences of the settings from the preset's."""
        return differences(self.preset_training.identity(), self.training.identity())

    @property
    def samplers(self) -> tuple[SamplingSettings, ...]:
        """The paper's sampler and the preset's fast one, or the given ones."""
        ddim = SamplingSettings(
            n_samples=self.n_samples,
            sampler="ddim",
            n_sampling_steps=DDIM_STEPS[self.extent],
            batch_size=BATCH_SIZES[self.extent],
        )
        fast, n_steps = fast_sampling(preset(self.scale, (self.extent, self.extent)).sampling)
        return tuple(
            ddim if name == "ddim" else ddim.replace(sampler=name, n_sampling_steps=n_steps)
            for name in self.sampler_types or ("ddim", fast)
        )

    def model_path(self, material: str) -> Path:
        """File of a material's model, trained here or shipped."""
        if self.shipped:
            return pretrained.FOLDER / f"{material}.safetensors"
        return self.run_folder(material) / "model.safetensors"

    @property
    def command(self) -> str:
        """The command that makes the results of all materials, without the options of folders."""
        words = ["python", "benchmarks/paper/run.py", "all", "--scale", self.scale, "--extent", str(self.extent)]
        words += ["--references", "DIR"] if self.references is not None else []
        words += ["--data", "DIR"] if self.data is not None else []
        words += ["--shipped"] if self.shipped else []
        words += ["--paper_recipe"] if self.paper_recipe else []
        words += ["--features", *self.features] if self.features is not None else []
        for name in ("n_training", "n_held_out", "n_samples"):
            n = getattr(self, name)
            words += [f"--{name}", str(n)] if n != N_STRUCTURES else []
        words += ["--samplers", *self.sampler_types] if self.sampler_types else []
        words += ["--steps", str(self.n_steps)] if self.n_steps is not None else []
        words += ["--set", *(f"{k}={json.dumps(v)}" for k, v in self.changes.items())] if self.changes else []
        return shlex.join(words)

    @property
    def name(self) -> str:
        """Scale and extent, in the names of the folders of models and of results."""
        return f"{self.scale}_{self.extent}"

    @property
    def out(self) -> Path:
        """Folder of this scale's metrics, tables and figures."""
        return self.results / self.name

    def data_folder(self, material: str) -> Path:
        """Folder with the data sets of a material, which all scales share."""
        return (self.work / f"data_{self.extent}" if self.data is None else self.data) / material

    def run_folder(self, material: str) -> Path:
        """Folder of a material's model and structures."""
        return self.work / (f"{self.name}_shipped" if self.shipped else self.name) / material

    def metrics_path(self, material: str, settings: SamplingSettings) -> Path:
        """File of the metrics of one set of structures."""
        return self.out / "metrics" / f"{material}_{sampler_key(settings)}.json"

    def data_options(self, kind: str) -> dict[str, Any]:
        """Options of `generate_material` for the training or the held-out set."""
        n = {"training": self.n_training, "held_out": self.n_held_out}[kind]
        return {"extent_x": self.extent, "extent_y": self.extent, "n_training_samples": n, "seed": SEEDS[kind]}

    def reference(self, material: str) -> Reference | None:
        """Return the real micrograph of a material; None for a generator or the built-in image.

        Raises
        ------
        InputError
            If the folder has none.
        """
        from mcrpy_diffusion.materials.reference import reference_from_micrographs

        if self.references is None or material in recipes.DIRECT:
            return None
        files = [self.references / f"{material}_{size}.npy" for size in (256, 64)]
        there = [file for file in files if file.is_file()]
        if not there:
            raise InputError(f"{self.references} must have {files[0].name} or {files[1].name}")
        return reference_from_micrographs([str(there[0])], {})


def sampler_key(settings: SamplingSettings) -> str:
    """Name of a sampler and its steps in files, such as ddim_150."""
    return f"{settings.sampler}_{settings.n_sampling_steps}" + ("" if settings.hold_volume_fraction else "_not_held")


def sampler_name(sampler: str, n_steps: int) -> str:
    """Name of a sampler and its steps for readers, such as DDIM 150."""
    return f"{SAMPLERS[sampler].title} {n_steps}"
