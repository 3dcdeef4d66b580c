"""Several structures at once: each as MCRpy's own reconstruct returns it for its seed, from one batched sampling."""

from __future__ import annotations

import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from test_plugin_optimizer import LIMIT, SIZE, characterize, grains, make_model, mcrpy, path, settings_of  # noqa: F401

import mcrpy_diffusion
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge.plugin_options import plugin_options

N = 3


def alone(mcrpy: ModuleType, descriptor: dict[str, Any], settings: Any, seed: int, start: Any = None) -> Any:  # noqa: F811
    settings.seed = seed
    return mcrpy.reconstruct(dict(descriptor), (SIZE, SIZE), settings, initial_microstructure=start)


def assert_same(many: Any, one: Any) -> None:
    """Convergence data and phases; batches round differently, which moves soft estimates a little."""
    np.testing.assert_array_equal(many[1].decode_phases(), one[1].decode_phases())
    assert set(many[0]) == set(one[0])
    for name in ("line_data", "scatter_data"):
        np.testing.assert_allclose(many[0][name], one[0][name], rtol=1e-4)
    assert many[0]["raw_data"].shape == one[0]["raw_data"].shape
    assert many[0]["raw_data"].dtype == one[0]["raw_data"].dtype
    for ours, theirs in zip(many[0]["raw_data"], one[0]["raw_data"], strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-4)


@pytest.mark.parametrize("n_phases", [2, 3])
def test_each_is_what_mcrpy_reconstructs_from_its_seed(
    mcrpy: ModuleType,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    n_phases: int,
) -> None:
    many = n_phases > 2
    file = make_model(tmp_path, n_phases)
    descriptor = characterize(mcrpy, grains(n_phases), use_multiphase=many)
    options: dict[str, Any] = {"n_sampling_steps": 6, "use_multiphase": many}
    settings = settings_of(mcrpy, file, seed=5, **options)
    before = dict(vars(settings))
    batches: list[int] = []
    forward = torch.nn.Module.__call__

    def count(self: torch.nn.Module, *args: Any, **keywords: Any) -> Any:
        if type(self).__name__ == "UNet":
            batches.append(len(args[0]))
        return forward(self, *args, **keywords)

    monkeypatch.setattr(torch.nn.Module, "__call__", count)
    capfd.readouterr()
    results = mcrpy_diffusion.reconstruct_many(descriptor, (SIZE, SIZE), settings, n_samples=N)
    assert batches == [N] * 6  # one batched sampling
    said = capfd.readouterr().out.splitlines()
    assert [line.partition(" of")[0] for line in said] == [f"Iteration {i}" for i in (0, 5, 7) for _ in range(N)]
    assert vars(settings) == before
    assert "settings" in descriptor  # MCRpy takes them out of what it is given
    assert len(results) == N
    for k, result in enumerate(results):
        assert_same(result, alone(mcrpy, descriptor, settings_of(mcrpy, file, **options), 5 + k))
    assert len({result[0]["line_data"][-1, 1] for result in results}) == N


def test_more_than_a_batch(mcrpy: ModuleType, path: Path) -> None:  # noqa: F811
    descriptor = characterize(mcrpy, grains())
    settings = settings_of(mcrpy, path, n_sampling_steps=2)
    results = mcrpy_diffusion.reconstruct_many(descriptor, (SIZE, SIZE), settings, n_samples=18)
    assert len(results) == 18
    for k in (0, 15, 16, 17):
        assert_same(results[k], alone(mcrpy, descriptor, settings_of(mcrpy, path, n_sampling_steps=2), k))


def test_from_an_initial_microstructure(mcrpy: ModuleType, path: Path) -> None:  # noqa: F811
    descriptor = characterize(mcrpy, grains())
    options: dict[str, Any] = {"n_sampling_steps": 8, "strength": 0.5}
    start = mcrpy.Microstructure(np.roll(grains(), 4, axis=0).astype(np.float64))
    results = mcrpy_diffusion.reconstruct_many(descriptor, (SIZE, SIZE), settings_of(mcrpy, path, **options), 2, start)
    for k, result in enumerate(results):
        assert len(result[0]["line_data"]) == 4 + 2  # half of the steps, the phases, MCRpy's last record
        assert_same(result, alone(mcrpy, descriptor, settings_of(mcrpy, path, **options), k, start))


def test_intermediate_structures_on_disk_have_names_of_their_own(
    mcrpy: ModuleType,  # noqa: F811
    path: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = settings_of(mcrpy, path, n_sampling_steps=4, outfile_data_steps=2, information="run")
    results = mcrpy_diffusion.reconstruct_many(characterize(mcrpy, grains()), (SIZE, SIZE), settings, n_samples=2)
    written = sorted(file.name for file in tmp_path.iterdir())
    assert written == [f"ms_run_{k}_level_0_iteration_{n:03d}.npy" for k in range(2) for n in (0, 2, 4)]
    for k, (_, structure) in enumerate(results):
        np.testing.assert_array_equal(np.load(f"ms_run_{k}_level_0_iteration_004.npy"), structure.decode_phases())


def test_what_is_wrong_is_named(mcrpy: ModuleType, path: Path) -> None:  # noqa: F811
    descriptor = characterize(mcrpy, grains())
    cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({"optimizer_type": "LBFGSB"}, {}, "optimizer_type must be 'Diffusion'.*, got 'LBFGSB'"),
        ({}, {"n_samples": 0}, "n_samples must be .*, got 0"),
        ({}, {"n_samples": 2.5}, "n_samples must be .*, got 2.5"),
        ({"best_of": 2}, {}, "best_of must be 1.*, got 2"),
        ({}, {"desired_shape": (SIZE,)}, "desired_shape must be"),
        ({}, {"desired_shape": (15, SIZE)}, "multiple of 2"),
        ({"use_multigrid_reconstruction": True}, {}, "use_multigrid_reconstruction must be False"),
        ({"descriptor_types": ["Variation"]}, {}, "MCRpy refuses the descriptor or the settings: KeyError"),
        ({"strength": 2}, {}, "strength must be"),
    ]
    for settings, arguments, message in cases:
        with pytest.raises(InputError, match=message):
            mcrpy_diffusion.reconstruct_many(
                **{
                    "descriptor_dict": descriptor,
                    "desired_shape": (SIZE, SIZE),
                    "settings": settings_of(mcrpy, path, **settings),
                    **arguments,
                }
            )
    with pytest.raises(InputError, match="needs a model"):
        mcrpy_diffusion.reconstruct_many(descriptor, (SIZE, SIZE), settings_of(mcrpy, None))


def test_options_of_the_context_and_the_hosts_logging(
    mcrpy: ModuleType,  # noqa: F811
    path: Path,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "mcrpy_diffusion")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    descriptor = characterize(mcrpy, grains())
    with plugin_options(model=path, n_sampling_steps=2):
        results = mcrpy_diffusion.reconstruct_many(descriptor, (SIZE, SIZE), settings_of(mcrpy, None), n_samples=2)
    losses = [result[0]["line_data"][-1, 1] for result in results]
    assert root.handlers == handlers
    assert root.level == level
    assert f"2 structures, losses {min(losses):.6g} to {max(losses):.6g}" in caplog.text
    assert LIMIT == results[0][1].spatial_shape[0] // 4
