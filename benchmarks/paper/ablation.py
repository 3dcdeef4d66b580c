"""Ablation: one change of the preset's recipe at a time, with the same steps, data and evaluation.

Every case writes one JSON file and is skipped if that exists and was made with the same settings. One line of insight
per case can be written by hand into insights.json (`{"schedule_linear": "..."}`) beside them; the table shows it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from benchmarks.paper.make import draw, read_set
from benchmarks.paper.measure import read_key
from benchmarks.paper.plan import Plan, sampler_key
from benchmarks.paper.record import hardware, read_record, timed
from benchmarks.paper.tables import with_interval
from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import make_folder, write_file, write_json
from mcrpy_diffusion.runtime.tables import markdown_table, number
from mcrpy_diffusion.settings import SamplingSettings, TrainingSettings, preset

INSIGHTS = "insights.json"
BASE = "base"


@dataclass(frozen=True)
class Case:
    """One change.

    Attributes
    ----------
    name : str
    group : str
        What is changed.
    training, sampling : mapping
        Fields of the settings that differ from the base's.
    times_steps : float
        Training steps in terms of the base's.
    isotropic : bool
        Mirror images and quarter turns too.
    """

    name: str
    group: str
    training: Mapping[str, Any] = field(default_factory=dict)
    sampling: Mapping[str, Any] = field(default_factory=dict)
    times_steps: float = 1.0
    isotropic: bool = False


CASES = (
    Case(BASE, "nothing"),
    Case("schedule_linear", "schedule", {"schedule": "linear"}),
    Case("prediction_v", "prediction", {"prediction": "v", "loss": "simple"}),
    Case("prediction_x_0", "prediction", {"prediction": "x_0", "loss": "simple"}),
    Case("prediction_epsilon", "prediction", {"prediction": "epsilon", "loss": "simple"}),
    Case("learned_variance", "variance, prediction v", {"prediction": "v", "learned_variance": True, "loss": "simple"}),
    Case(
        "learned_variance_ddpm",
        "variance, prediction v",
        {"prediction": "v", "learned_variance": True, "loss": "simple"},
        {"sampler": "ddpm", "n_sampling_steps": 150},
    ),
    Case("no_self_conditioning", "self-conditioning", {"self_condition": False}),
    Case("loss_simple", "loss", {"loss": "simple"}),
    Case("all_times", "times", {"skip_high_snr": False}),
    Case(
        "plain",
        "self-conditioning, loss and times",
        {"self_condition": False, "loss": "simple", "skip_high_snr": False},
    ),
    Case("no_condition", "conditioning", {"condition_on_volume_fraction": False}),
    Case("channels_24", "width", {"channels": 24}),
    Case("channels_32", "width", {"channels": 32}),
    Case("channels_64", "width", {"channels": 64}),
    Case("patch_1", "patch size", {"patch_size": 1}),
    Case("patch_4", "patch size", {"patch_size": 4}),
    Case("ema_0.99", "EMA decay", {"ema_decay": 0.99}),
    Case("ema_0.995", "EMA decay", {"ema_decay": 0.995}),
    Case("ema_0.9999", "EMA decay", {"ema_decay": 0.9999}),
    Case("steps_half", "training steps", times_steps=0.5),
    Case("steps_double", "training steps", times_steps=2.0),
    Case("batch_8", "batch", {"batch_size": 8}),
    Case("batch_32", "batch", {"batch_size": 32}),
    Case("rate_half", "learning rate", {"learning_rate": 5e-4}),
    Case("rate_double", "learning rate", {"learning_rate": 2e-3}),
    Case("rate_constant", "learning rate", {"learning_rate_schedule": "constant"}),
    Case("not_held", "volume fraction", sampling={"hold_volume_fraction": False}),
    Case("sampler_ddim_50", "sampler", sampling={"sampler": "ddim", "n_sampling_steps": 50}),
    Case("sampler_ddim_150", "sampler", sampling={"sampler": "ddim", "n_sampling_steps": 150}),
    Case("sampler_ddpm_150", "sampler", sampling={"sampler": "ddpm", "n_sampling_steps": 150}),
    Case("sampler_dpm_solver_10", "sampler", sampling={"sampler": "dpm_solver", "n_sampling_steps": 10}),
    Case("sampler_dpm_solver_20", "sampler", sampling={"sampler": "dpm_solver", "n_sampling_steps": 20}),
    Case("sampler_dpm_solver_50", "sampler", sampling={"sampler": "dpm_solver", "n_sampling_steps": 50}),
    Case("no_augmentation", "augmentation", {"augmentation": False}),
    Case("isotropic", "augmentation", isotropic=True),
)
PICKED = {
    "eps_s2_percent": "two_point_correlation.discrepancy_percent",
    "eps_s2_interval": "two_point_correlation.interval_percent",
    "eps_s2_floor": "two_point_correlation.floor_percent",
    "eps_l_percent": "lineal_path.discrepancy_percent",
    "eps_l_interval": "lineal_path.interval_percent",
    "eps_l_floor": "lineal_path.floor_percent",
    "volume_fraction_error": "volume_fraction.difference",
    "volume_fraction_floor": "volume_fraction.floor",
    "copying_z": "data_copying.z",
}


def ablate(plan: Plan, material: str, *, cases: Sequence[str] | None = None, n_samples: int = 256) -> None:
    """Run the cases that have no result.

    Parameters
    ----------
    plan : Plan
        Its training settings are the base; its `n_steps` the budget.
    material : str
    cases : sequence of str, optional
        Names; all by default.
    n_samples : int
        Structures of each case.

    Raises
    ------
    InputError
        If a case is unknown, or the data are missing.
    """
    by_name = {case.name: case for case in CASES}
    unknown = sorted(set(cases or ()) - set(by_name))
    if unknown:
        raise InputError(f"cases must be of {', '.join(by_name)}, got {', '.join(unknown)}")
    for name in cases or by_name:
        run_case(plan, material, by_name[name], n_samples)


def run_case(plan: Plan, material: str, case: Case, n_samples: int) -> None:
    """Train, sample and measure one case, unless its result exists and was made with the same settings."""
    from mcrpy_diffusion.evaluation.evaluate import evaluate
    from mcrpy_diffusion.models.checkpoint import read_info
    from mcrpy_diffusion.training.train import MODEL_NAME, read_dataset, train

    training, sampling = settings_of(plan, case, n_samples)
    data = plan.data_folder(material) / "training"
    recipes = {k: Dataset.open(plan.data_folder(material) / k).info["recipe"] for k in ("training", "held_out")}
    key = {"training": training.identity(), "sampling": sampling.to_dict(), "data": recipes}
    key = json.loads(json.dumps(key | {"isotropic": case.isotropic}))
    path = case_path(plan, material, case)
    if read_key(path) == key:
        return
    folder = make_folder(plan.work / f"{plan.name}_ablation" / material / trained_as(case))
    with contextlib.nullcontext() if (folder / MODEL_NAME).exists() else timed(folder, "training"):
        model = train(replace(read_dataset(data), isotropic=case.isotropic), training, folder)
    generated = draw(model, sampling, folder)
    info = read_info(model)
    held_out = read_set(plan, material, "held_out")
    evaluation = evaluate(
        held_out,
        generated,
        n_phases=info.n_phases,
        periodic=info.periodic,
        training=read_set(plan, material, "training"),
        held_out=held_out,
    )
    record = read_record(folder)
    make_folder(path.parent)
    result = {
        "case": case.name,
        "group": case.group,
        "change": change_of(case),
        "scale": plan.scale,
        "training_steps": info.step,
        "batch_size": training.batch_size,
        "training_seconds": info.training_seconds,
        "sampler": sampler_key(sampling),
        "sampling_seconds": record.get(sampler_key(sampling), {}).get("seconds"),
        "hardware": record.get("training", {}).get("hardware", hardware()),
        "n_images": evaluation.n_images.to_dict(),
    }
    picked = {name: attrgetter(place)(evaluation) for name, place in PICKED.items()}
    write_json(path, {**result, **picked, "key": key})


def settings_of(plan: Plan, case: Case, n_samples: int) -> tuple[TrainingSettings, SamplingSettings]:
    """Settings of a case: the base's with its change."""
    base = plan.training
    n_steps = max(round(base.n_training_steps * case.times_steps), 1)
    training = base.replace(**case.training, n_training_steps=n_steps)
    sampling = preset(plan.scale).sampling.replace(n_samples=n_samples, batch_size=50)
    return training, sampling.replace(**case.sampling)


def trained_as(case: Case) -> str:
    """The case whose model this one samples from: the first with the same training."""

    def training(each: Case) -> tuple[Any, ...]:
        return dict(each.training), each.times_steps, each.isotropic

    return next(each.name for each in CASES if training(each) == training(case))


def change_of(case: Case) -> str:
    """The change in words."""
    changes = [f"{k} {v}" for k, v in {**case.training, **case.sampling}.items()]
    if case.times_steps != 1:
        changes.append(f"{case.times_steps:g} times the steps")
    if case.isotropic:
        changes.append("mirror images and quarter turns")
    return ", ".join(changes) or "the recipe itself"


def case_path(plan: Plan, material: str, case: Case) -> Path:
    """File of a case."""
    return ablation_folder(plan, material) / f"{case.name}.json"


def ablation_folder(plan: Plan, material: str) -> Path:
    """Folder of the results of a material."""
    return plan.out / "ablation" / material


def write_table(plan: Plan, material: str) -> Path:
    """Write the table of the cases with a result, each with its line of insight."""
    folder = make_folder(ablation_folder(plan, material))
    try:
        insights = json.loads((folder / INSIGHTS).read_text())
    except FileNotFoundError:
        insights = {}
    done = [json.loads(file.read_text()) for case in CASES if (file := folder / f"{case.name}.json").exists()]
    done = [m for m in done if m["key"]["data"] == done[0]["key"]["data"]]  # others are not comparable
    path = folder / "ablation.md"
    text = table(done, insights, material)
    write_file(path, text)
    return path


def table(done: Sequence[Mapping[str, Any]], insights: Mapping[str, str], material: str) -> str:
    """The table of the cases."""
    head = ["case", "change", "eps_S2 % [95 %]", "eps_L % [95 %]", "volume fraction, difference", "z", "steps x batch"]
    rows = [
        [
            m["case"],
            m["change"],
            with_interval(m, "eps_s2_percent", "eps_s2_interval", "{:.2f}"),
            with_interval(m, "eps_l_percent", "eps_l_interval", "{:.2f}"),
            number(m["volume_fraction_error"], "{:+.4f}"),
            number(m["copying_z"], "{:+.1f}"),
            f"{m['training_steps']} x {m['batch_size']}",
            number(m["training_seconds"], "{:.0f}"),
            number(m["sampling_seconds"], "{:.0f}"),
            insights.get(m["case"], ""),
        ]
        for m in done
    ]
    facts = ""
    if done:
        m = done[0]
        floors = [number(m[k], "{:.2f}") for k in ("eps_s2_floor", "eps_l_floor")]
        counts = f"{m['n_images']['generated']} generated against {m['n_images']['original']} held-out structures"
        hardware_names = " or ".join(dict.fromkeys(each["hardware"] for each in done))
        facts = (
            f"; scale `{m['scale']}`, {counts}, sampled by {m['sampler']} unless said otherwise, on {hardware_names}; "
            f"floor: eps_S2 {floors[0]} %, eps_L {floors[1]} %, volume "
            f"fraction {number(m['volume_fraction_floor'], '{:.4f}')}"
        )
    title = f"# One change at a time: {material}\n\nEach case differs from `{BASE}` by its change alone{facts}.\n\n"
    return title + markdown_table([*head, "training s", "sampling s", "insight"], rows) + "\n"
