"""Comparison of generated structures with held-out originals of the same generator."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paper.make import draw_set, made_with, read_set
from benchmarks.paper.plan import BOUNDARY_PHASES, STUDY_NAME, Plan, sampler_key
from benchmarks.paper.record import hardware, read_record
from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.io.files import make_folder, write_atomically, write_json
from mcrpy_diffusion.io.provenance import differences
from mcrpy_diffusion.materials.recipes import DIRECT
from mcrpy_diffusion.metrics.image_features import INCEPTION_FILE, INCEPTION_VARIABLE, FeatureNetwork
from mcrpy_diffusion.settings import SamplingSettings

SHIPPED = "the machine that made the shipped models"


def evaluate_material(plan: Plan, material: str) -> None:
    """Write the metrics of each sampler's structures, unless they exist for the same key."""
    from mcrpy_diffusion.models.checkpoint import read_info

    sets = {kind: read_set(plan, material, kind) for kind in ("training", "held_out")}
    info = read_info(plan.model_path(material))
    for settings in plan.samplers:
        path, key = plan.metrics_path(material, settings), key_of(plan, material, settings)
        if read_key(path) == key:
            continue
        generated = draw_set(plan, material, settings)
        started = time.monotonic()
        metrics = measure(
            sets["held_out"],
            generated,
            sets["training"],
            n_phases=info.n_phases,
            periodic=info.periodic,
            boundary_phase=BOUNDARY_PHASES.get(material),
            trained_on=info.provenance == key["data"]["training"],
            features=key["features"],
            cache=plan.run_folder(material) / "features",
        )
        metrics["key"] = key
        metrics["run"] = facts(plan, material, settings) | {"evaluation_seconds": round(time.monotonic() - started, 1)}
        make_folder(path.parent)
        write_json(path, metrics)


def measure(
    held_out: np.ndarray,
    generated: np.ndarray,
    training: np.ndarray,
    *,
    n_phases: int,
    periodic: bool,
    boundary_phase: int | None,
    trained_on: bool = True,
    features: list[str],
    cache: Path,
) -> dict[str, Any]:
    """Evaluate generated structures with the held-out set as original.

    Parameters
    ----------
    held_out, generated, training : (N, I, J)
    n_phases, periodic, boundary_phase
        As in `mcrpy_diffusion.evaluation.evaluate.evaluate`.
    trained_on : bool
        Whether the model was trained on this training set; then copies of it are searched for.
    features : list of str
        Networks, as `mcrpy_diffusion.workflow.compare.FEATURES` names them.
    cache : path
        Folder for the features of each set.

    Returns
    -------
    dict
        As metrics.json, and `by_features`: the result of `compare_features` for each network, and the `name` of its
        distance. The floor compares the training set, which is real too, with the held-out set.
    """
    from mcrpy_diffusion.evaluation.evaluate import evaluate
    from mcrpy_diffusion.evaluation.features import compare_features
    from mcrpy_diffusion.workflow.compare import feature_network

    evaluation = evaluate(
        held_out,
        generated,
        n_phases=n_phases,
        periodic=periodic,
        training=training if trained_on else None,
        held_out=held_out,
        boundary_phase=boundary_phase,
    )
    by_features: dict[str, Any] = {}
    for name in features:
        network = feature_network(name, periodic=periodic)
        assert network is not None
        of = {
            kind: features_of(network, images, n_phases, cache)
            for kind, images in (("held_out", held_out), ("generated", generated), ("training", training))
        }
        compared = compare_features(of["held_out"], of["generated"], floor_sets=(of["held_out"], of["training"]))
        by_features[name] = compared.to_dict() | {"name": network.distance_name}
    return evaluation.to_dict() | {"by_features": by_features}


def features_of(network: FeatureNetwork, images: np.ndarray, n_phases: int, cache: Path) -> np.ndarray:
    """Return the features (N, D) of images, from the cache if possible."""
    from mcrpy_diffusion.metrics.image_features import image_features
    from mcrpy_diffusion.runtime.progress import Progress

    digest = hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()[:16]
    path = make_folder(cache) / f"{network.name}_{len(images)}_{digest}.npy"
    if path.exists():
        return np.load(path, allow_pickle=False)
    with Progress(len(images), f"features {network.name}", unit="image") as bar:
        features = image_features(network, images, n_phases=n_phases, progress=bar.update)
    write_atomically(path, lambda file: np.save(file, features, allow_pickle=False))
    return features


def feature_names(plan: Plan) -> list[str]:
    """Return the networks of the plan; by default VGG-19, and Inception if its weights are installed."""
    if plan.features is not None:
        return [name for name in plan.features if name != "none"]
    import torch.hub

    given = os.environ.get(INCEPTION_VARIABLE)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    return ["vgg19", *(["inception"] if given or cached.is_file() else [])]


def key_of(plan: Plan, material: str, settings: SamplingSettings) -> dict[str, Any]:
    """Return what metrics depend on; if it changes, they are measured again."""
    recipes = {k: Dataset.open(plan.data_folder(material) / k).info["recipe"] for k in ("training", "held_out")}
    provenance = made_with(plan.model_path(material), settings)
    key = {"sampling": provenance | {"n_samples": settings.n_samples}, "data": recipes, "features": feature_names(plan)}
    return json.loads(json.dumps(key))


def read_key(path: Path) -> Any:
    """Return the key of a file of metrics; None without one."""
    try:
        return json.loads(path.read_text()).get("key")
    except (OSError, ValueError, AttributeError):
        return None


def facts(plan: Plan, material: str, settings: SamplingSettings) -> dict[str, Any]:
    """Return the facts below every table: scale, training steps, seconds, hardware."""
    from mcrpy_diffusion.models.checkpoint import read_info

    info = read_info(plan.model_path(material))
    data, run = read_record(plan.data_folder(material)), read_record(plan.run_folder(material))
    sampling = run.get(sampler_key(settings), {})
    changes = differences(plan.preset_training.identity(), info.settings.identity())
    if info.extent != (plan.extent, plan.extent):
        changes = [*changes, "trained at {} x {} pixels".format(*info.extent)]
    return {
        "material": material,
        "scale": plan.scale,
        "command": plan.command,
        "changes": changes,
        "source": source(plan, material),
        "data_seconds": {kind: data.get(kind, {}).get("seconds") for kind in ("training", "held_out")},
        "training_steps": info.step,
        "batch_size": info.settings.batch_size,
        "training_seconds": info.training_seconds,
        "training_hardware": SHIPPED if plan.shipped else run.get("training", {}).get("hardware"),
        "sampler": settings.sampler,
        "sampling_steps": settings.n_sampling_steps,
        "sampling_seconds": sampling.get("seconds"),
        "sampling_hardware": sampling.get("hardware"),
        "evaluation_hardware": hardware(),
        "versions": info.versions,
    }


def source(plan: Plan, material: str) -> str:
    """Return the origin of the real structures."""
    if plan.data is not None:
        return "existing data sets"
    if material in DIRECT:
        return "generator"
    reference = plan.reference(material)
    return "built-in image" if reference is None else f"micrograph {reference.micrographs[0].name}"


def study_sampling_steps(plan: Plan) -> None:
    """Measure one material over the number of sampling steps, figure 8, unless the result exists for the same key."""
    from mcrpy_diffusion.models.model import load_model
    from mcrpy_diffusion.workflow.compare import feature_network
    from mcrpy_diffusion.workflow.studies import step_study

    material = plan.study_material
    settings = SamplingSettings(n_samples=plan.study_samples)
    key = key_of(plan, material, settings) | {"n_steps": list(plan.study_steps)}
    key["features"] = key["features"][:1]
    path = plan.out / f"{STUDY_NAME}.json"
    if read_key(path) == key:
        return
    model = load_model(plan.model_path(material))
    network = feature_network(key["features"][0], periodic=model.info.periodic) if key["features"] else None
    folder = plan.run_folder(material) / f"{STUDY_NAME}_{key['sampling']['weights_sha256'][:16]}"
    step_study(
        model,
        list(read_set(plan, material, "held_out")),
        folder,
        n_steps=plan.study_steps,
        n_samples=plan.study_samples,
        features=network,
    )
    study: Mapping[str, Any] = json.loads((folder / f"{STUDY_NAME}.json").read_text())
    make_folder(plan.out)
    write_json(path, {**study, "key": key, "run": facts(plan, material, settings)})
