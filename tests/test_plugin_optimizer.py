"""The optimizer Diffusion inside MCRpy: our structures, MCRpy's loss, MCRpy's files."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from test_train import TINY

from mcrpy_diffusion.commands import mcrpy_commands as commands
from mcrpy_diffusion.commands.mcrpy_options import OPTIONS_OF_PLUGINS
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge.plugin_options import plugin_options
from mcrpy_diffusion.mcrpy_bridge.registration import register
from mcrpy_diffusion.metrics.spatial_statistics import two_point_correlation
from mcrpy_diffusion.models.checkpoint import ModelInfo, build_network, save_model
from mcrpy_diffusion.models.model import Model, load_model

OPTIONS = OPTIONS_OF_PLUGINS["--optimizer_type Diffusion"]
SIZE = 16
LIMIT = 4


@pytest.fixture(scope="module")
def mcrpy() -> ModuleType:
    """MCRpy with the plugins."""
    register()
    import mcrpy

    return mcrpy


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """MCRpy's commands own their process, and set the root logger's handlers; this one lives on."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def make_model(folder: Path, n_phases: int = 2, *, periodic: bool = True, **changes: Any) -> Path:
    """Write a model with random weights: its structures are noise, but all of its mechanisms are there."""
    changes = {"prediction": "log_odds", "schedule": "cosine", "learned_variance": False, **changes}
    settings = replace(TINY, condition_on_volume_fraction=True, **changes)
    fractions = np.linspace(0.2, 0.4, 9)
    info = ModelInfo(
        settings=settings,
        n_phases=n_phases,
        extent=(SIZE, SIZE),
        periodic=periodic,
        conditions=[[v] * (max(n_phases, 2) - 1) for v in fractions.tolist()],
    )
    torch.manual_seed(0)
    network = build_network(info)
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.1)
    path = folder / f"model_{n_phases}.safetensors"
    save_model(path, network.state_dict(), info)
    return path


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def model(path: Path) -> Model:
    return load_model(path, device="cpu")


def grains(n_phases: int = 2) -> np.ndarray:
    rows, columns = np.indices((SIZE, SIZE))
    waves = np.sin(2 * np.pi * rows / SIZE) + np.cos(2 * np.pi * columns / SIZE)
    return np.digitize(waves, np.linspace(-1, 1, n_phases + 1)[1:-1])


def characterize(mcrpy: ModuleType, phases: np.ndarray, **settings: Any) -> Any:
    chosen = {
        "descriptor_types": ["FFTCorrelations"],
        "limit_to": LIMIT,
        "use_multiphase": False,
        "use_multigrid_descriptor": False,
        **settings,
    }
    structure = mcrpy.Microstructure(
        phases.astype(np.float64), use_multiphase=chosen["use_multiphase"], trainable=False
    )
    return mcrpy.characterize(structure, mcrpy.CharacterizationSettings(**chosen))


def settings_of(mcrpy: ModuleType, path: Path | None, **settings: Any) -> Any:
    ours = {name: settings.pop(name) for name in list(settings) if name in OPTIONS}
    chosen = mcrpy.ReconstructionSettings(
        **{
            "descriptor_types": ["FFTCorrelations"],
            "limit_to": LIMIT,
            "use_multigrid_descriptor": False,
            "optimizer_type": "Diffusion",
            "convergence_data_steps": 5,
            **settings,
        }
    )
    vars(chosen).update(ours, **({} if path is None else {"model": str(path)}))
    return chosen


def reconstruct(
    mcrpy: ModuleType, path: Path | None, desired: np.ndarray | None = None, initial: np.ndarray | None = None,
    **settings: Any
) -> tuple[dict[str, Any], np.ndarray]:  # fmt: skip
    """Reconstruct by the optimizer; return MCRpy's convergence data and the phases (I, J)."""
    shape = settings.pop("shape", (SIZE, SIZE))
    many = settings.get("use_multiphase", False)
    desired = grains() if desired is None else desired
    start = None if initial is None else mcrpy.Microstructure(initial.astype(np.float64), use_multiphase=many)
    descriptor = characterize(mcrpy, desired, use_multiphase=many)
    chosen = settings_of(mcrpy, path, **{"n_sampling_steps": 12, **settings})
    convergence, structure = mcrpy.reconstruct(descriptor, shape, chosen, initial_microstructure=start)
    return convergence, structure.decode_phases().astype(int)


def mean_squared_difference(structure: np.ndarray, desired: np.ndarray) -> float:
    """MCRpy's loss of FFTCorrelations, taken from our own two-point correlation: lags up to LIMIT - 1."""
    lags = np.arange(-LIMIT + 1, LIMIT)
    first, second = (two_point_correlation(x, phase=1, periodic=True)[np.ix_(lags, lags)] for x in (structure, desired))
    return float(((first - second) ** 2).mean())


def test_it_is_our_sample_with_mcrpys_loss(mcrpy: ModuleType, path: Path, model: Model) -> None:
    convergence, phases = reconstruct(mcrpy, path, seed=3)
    np.testing.assert_array_equal(phases, model.sample(1, (SIZE, SIZE), n_steps=12, seed=3)[0])
    iterations, losses = convergence["line_data"].T
    np.testing.assert_array_equal(iterations, np.arange(14))  # 12 steps, the phases, and MCRpy's own last record
    assert losses[-1] == losses[-2]
    np.testing.assert_allclose(losses[-1], mean_squared_difference(phases, grains()), rtol=1e-10)
    states: list[dict[str, Any]] = []
    model.sample(1, (SIZE, SIZE), n_steps=12, seed=3, callback=states.append)
    np.testing.assert_array_equal(convergence["scatter_data"][:, 0], [0, 5, 10, 13])
    for frame, i in zip(convergence["raw_data"], (0, 5, 10)):
        np.testing.assert_allclose(frame.numpy()[..., 0], (states[i]["x_0"][0, 0] + 1) / 2, atol=1e-6)
    _, other = reconstruct(mcrpy, path, seed=4)
    assert not np.array_equal(phases, other)


def test_other_extents_and_a_bound_on_the_steps(mcrpy: ModuleType, path: Path, model: Model) -> None:
    convergence, phases = reconstruct(mcrpy, path, shape=(8, 24), n_sampling_steps=None, max_iter=7)
    np.testing.assert_array_equal(phases, model.sample(1, (8, 24), n_steps=7)[0])
    assert len(convergence["line_data"]) == 9
    convergence, _ = reconstruct(mcrpy, path, n_sampling_steps=None)
    assert len(convergence["line_data"]) == 52  # 50 steps, as a model of log odds is sampled


@pytest.mark.parametrize("n_phases", [2, 3])
def test_multiphase(mcrpy: ModuleType, tmp_path: Path, n_phases: int) -> None:
    file = make_model(tmp_path, n_phases)
    convergence, phases = reconstruct(mcrpy, file, grains(n_phases), use_multiphase=True, convergence_data_steps=1)
    expected = load_model(file, device="cpu").sample(1, (SIZE, SIZE), n_steps=12)[0]
    np.testing.assert_array_equal(phases, expected)
    frames = np.stack([frame.numpy() for frame in convergence["raw_data"]])
    assert frames.shape == (14, SIZE, SIZE, n_phases)
    assert frames.min() >= 0
    np.testing.assert_allclose(frames.sum(axis=-1), 1, atol=1e-12)
    np.testing.assert_array_equal(frames[-1].argmax(axis=-1), expected)
    assert set(np.unique(frames[-1])) == {0, 1}
    assert np.isfinite(convergence["line_data"]).all()


def test_grey_values(mcrpy: ModuleType, tmp_path: Path) -> None:
    file = make_model(tmp_path, 0, prediction="v")
    grey = grains(5) / 4
    for initial in (None, grey):
        convergence, _ = reconstruct(mcrpy, file, grey, initial, grey_values=True, strength=0.01, n_sampling_steps=50)
        last = convergence["raw_data"][-1].numpy()[..., 0]
        if initial is None:
            np.testing.assert_array_equal(last, load_model(file, device="cpu").sample(1, (SIZE, SIZE), n_steps=50)[0])
            assert len(np.unique(last)) > 2
        else:
            np.testing.assert_allclose(last, grey, atol=0.1)
    with pytest.raises(InputError, match="must make 2 phases"):
        reconstruct(mcrpy, file, use_multiphase=True)


def test_best_of_k_is_the_seed_of_the_smallest_loss(
    mcrpy: ModuleType, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    singles = [reconstruct(mcrpy, path, seed=seed) for seed in range(5, 9)]
    losses = [convergence["line_data"][-1, 1] for convergence, _ in singles]
    best = int(np.argmin(losses))
    assert len(set(losses)) > 1
    assert best != 0  # else the first would do
    caplog.set_level(logging.INFO)
    convergence, phases = reconstruct(mcrpy, path, seed=5, best_of=4)
    np.testing.assert_array_equal(phases, singles[best][1])
    np.testing.assert_allclose(convergence["line_data"], singles[best][0]["line_data"], rtol=1e-4)
    assert f"the smallest is that of seed {5 + best}" in caplog.text


def test_an_initial_microstructure_is_left_by_its_strength(mcrpy: ModuleType, path: Path) -> None:
    initial = grains()
    differing, steps = [], []
    for strength in (0.05, 0.5, 1.0):
        convergence, phases = reconstruct(mcrpy, path, initial=initial, strength=strength, n_sampling_steps=20)
        differing.append((phases != initial).mean())
        steps.append(len(convergence["line_data"]) - 2)
    assert steps == [2, 10, 20]  # those at or below strength * 99
    assert differing[0] < 0.02
    assert differing[0] < differing[1] < differing[2]
    # at the end of the noise process nothing is left of it but its volume fraction, which conditions the network
    _, again = reconstruct(mcrpy, path, initial=np.roll(initial, 5, axis=1), strength=1.0, n_sampling_steps=20)
    assert (again != phases).mean() < 0.03
    _, default = reconstruct(mcrpy, path, initial=initial, n_sampling_steps=20)
    _, half = reconstruct(mcrpy, path, initial=initial, strength=0.5, n_sampling_steps=20)
    np.testing.assert_array_equal(default, half)


def test_an_initial_microstructure_stays_where_noise_hides_no_phase(mcrpy: ModuleType, tmp_path: Path) -> None:
    initial = grains()
    file = make_model(tmp_path, skip_high_snr=True)
    for strength, changes in ((0.1, False), (0.5, True)):  # the first uncertain one of 100 times is the 20th
        _, phases = reconstruct(mcrpy, file, initial=initial, strength=strength, n_sampling_steps=20)
        assert (phases != initial).any() == changes


def test_an_initial_microstructure_is_noised_and_denoised_towards_its_volume_fraction(
    mcrpy: ModuleType, path: Path, model: Model
) -> None:
    """Step by step, by hand: the second half of the steps, from eq. (3) at the first of them."""
    initial = grains()
    options = {"strength": 0.5, "n_sampling_steps": 12, "seed": 7, "convergence_data_steps": 1}
    convergence, phases = reconstruct(mcrpy, path, initial=initial, **options)
    times = np.rint(np.linspace(0, 99, 12)).astype(int)[5::-1].tolist()
    alpha_bar = model.schedule.alpha_bar
    noise = torch.randn(1, SIZE, SIZE, generator=torch.Generator().manual_seed(7))[None]
    x = alpha_bar[times[0]].sqrt() * torch.from_numpy(2.0 * initial - 1) + (1 - alpha_bar[times[0]]).sqrt() * noise
    fraction = torch.tensor([[initial.mean()]])
    for frame, t, t_next in zip(convergence["raw_data"], times, [*times[1:], None]):
        with torch.no_grad():
            denoise = model.denoiser(fraction, {"volume_fraction": fraction})
            output = denoise(x.float(), torch.tensor([t])).log_odds.context
        x_0 = 2 * torch.sigmoid(2 * (alpha_bar[t].sqrt() / (1 - alpha_bar[t]) * x + output)) - 1
        np.testing.assert_allclose(frame.numpy()[..., 0], (x_0[0, 0] + 1) / 2, atol=1e-5)
        if t_next is not None:
            eps = (x - alpha_bar[t].sqrt() * x_0) / (1 - alpha_bar[t]).sqrt()
            x = alpha_bar[t_next].sqrt() * x_0 + (1 - alpha_bar[t_next]).sqrt() * eps
    np.testing.assert_array_equal(phases, x_0[0, 0] > 0)
    assert phases.mean() == pytest.approx(initial.mean(), abs=0.5 / SIZE**2)


@pytest.mark.parametrize("n_phases", [2, 3])
def test_an_initial_microstructure_of_several_phases(mcrpy: ModuleType, tmp_path: Path, n_phases: int) -> None:
    file, initial = make_model(tmp_path, n_phases), grains(n_phases)
    options = {"use_multiphase": True, "n_sampling_steps": 50, "best_of": 2}
    _, phases = reconstruct(mcrpy, file, initial, initial, strength=0.02, **options)
    assert (phases != initial).mean() < 0.02
    _, far = reconstruct(mcrpy, file, initial, initial, strength=0.9, **options)
    assert (far != initial).mean() > 0.1


def test_what_is_wrong_is_named(mcrpy: ModuleType, path: Path, tmp_path: Path) -> None:
    three = make_model(tmp_path, 3)
    cases: list[tuple[Path | None, dict[str, Any], str]] = [
        (None, {}, "needs a model; give --model FILE"),
        (tmp_path / "missing.safetensors", {}, "missing.safetensors: no such model"),
        (path, {"strength": 0}, "strength must be above 0"),
        (path, {"strength": "much"}, "strength must be .* got 'much'"),
        (path, {"best_of": 0}, "n_samples must be at least 1"),
        (path, {"sampler": "euler"}, "sampler must be one of"),
        (path, {"n_sampling_steps": 101}, "n_sampling_steps must be between 1 and 100"),
        (path, {"shape": (15, 16)}, "multiple"),
        (three, {}, "must make 2 phases.* got one that makes 3 phases"),
        (path, {"desired": grains(3), "use_multiphase": True}, "must make 3 phases.* got one that makes 2 phases"),
    ]
    for file, settings, message in cases:
        with pytest.raises(InputError, match=message):
            reconstruct(mcrpy, file, **settings)
    descriptor = characterize(mcrpy, grains(), use_multigrid_descriptor=True)
    levels = {"use_multigrid_descriptor": True, "use_multigrid_reconstruction": True}
    with pytest.raises(InputError, match="use_multigrid_reconstruction must be off"):
        mcrpy.reconstruct(descriptor, (SIZE, SIZE), settings_of(mcrpy, path, **levels))


def test_a_volume_with_mcrpys_loss_at_every_step(mcrpy: ModuleType, path: Path, model: Model) -> None:
    shape = (SIZE, SIZE, 8)
    descriptor = mcrpy.merge([characterize(mcrpy, grains())])
    data, made = mcrpy.reconstruct(descriptor, shape, settings_of(mcrpy, path, n_sampling_steps=3, seed=2))
    np.testing.assert_array_equal(made.decode_phases(), model.sample(1, shape, n_steps=3, seed=2)[0])
    losses = np.asarray(data["line_data"])[:, 1]
    assert len(losses) >= 3
    assert np.isfinite(losses).all()


def test_a_stop_leaves_the_last_estimate(mcrpy: ModuleType, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MCRpy takes Ctrl-C as the end of the optimisation, and writes what is there."""
    from mcrpy.src.DMCR import DMCR

    report = DMCR.reconstruction_callback

    def stop_at_4(self: Any, n_iter: int, *args: Any, **kwargs: Any) -> None:
        report(self, n_iter, *args, **kwargs)
        if n_iter == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(DMCR, "reconstruction_callback", stop_at_4)
    convergence, _ = reconstruct(mcrpy, path)
    assert len(convergence["line_data"]) == 6
    assert convergence["line_data"][-1, 1] == convergence["line_data"][-2, 1]


def test_match_writes_what_mcrpy_writes(
    mcrpy: ModuleType, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("grains.npy", grains())
    np.save("initial.npy", np.roll(grains(), 4, axis=0))
    arguments = "--method descriptor --microstructure_filenames grains.npy --limit_to 4 --no_multigrid_descriptor"
    arguments += f" --descriptor_types FFTCorrelations LinealPathFunction --optimizer_type Diffusion --model {path}"
    arguments += " --n_sampling_steps 10 --seed 2 --best_of 3 --outfile_data_steps 4 --n_samples 7 --references x.npy"
    assert commands.match(arguments.split()) == 0
    warnings = capsys.readouterr().err.splitlines()
    assert warnings == [
        "mcrpy_match: warning: --n_samples: used with --method diffusion only, ignored",
        "mcrpy_match: warning: --references: used with --descriptor_types PixelMSE only, ignored",
    ]
    results = tmp_path / "results"
    written = sorted(file.name for file in results.iterdir())
    assert [name for name in written if name.startswith("ms_")] == [
        f"ms_level_0_iteration_{n:03d}.npy" for n in (0, 4, 8)
    ]
    phases = np.load(results / "last_frame.npy")
    assert phases.shape == (SIZE, SIZE)
    assert set(np.unique(phases)) <= {0, 1}
    convergence = mcrpy.load(str(results / "convergence_data.pickle"))
    assert convergence["settings"].optimizer_type == "Diffusion"
    assert len(convergence["line_data"]) == 12
    assert commands.view([str(results / "convergence_data.pickle")]) == 0
    few = arguments.replace("--best_of 3", "--strength 0.1").replace("--n_samples 7 --references x.npy", "")
    assert commands.match([*few.split(), "--initial_microstructure_file", "initial.npy"]) == 0
    assert (np.load(results / "last_frame.npy") != np.load("initial.npy")).mean() < 0.05


def test_options_without_the_optimizer_are_named(
    mcrpy: ModuleType, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("grains.npy", grains())
    arguments = "--microstructure_filenames grains.npy --descriptor_types FFTCorrelations --limit_to 4 --max_iter 1"
    assert commands.match([*arguments.split(), "--best_of", "3", "--strength", "0.1", "--model", str(path)]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "mcrpy_match: warning: --model: used with --method diffusion only, ignored",
        "mcrpy_match: warning: --best_of, --strength: used with --optimizer_type Diffusion only, ignored",
    ]
    assert commands.match([*arguments.split(), "--optimizer_type", "Diffusion"]) == 2
    assert capsys.readouterr().err.startswith("error: the optimizer Diffusion needs a model")


def test_match_from_python(mcrpy: ModuleType, path: Path, model: Model) -> None:
    """`mcrpy.match` copies none of our attributes; `plugin_options` gives them."""
    settings = mcrpy.MatchingSettings(
        descriptor_types=["FFTCorrelations"], limit_to=LIMIT, optimizer_type="Diffusion", use_multigrid_descriptor=False
    )
    with plugin_options(model=path, n_sampling_steps=6, seed=1):
        _, _, structure = mcrpy.match(mcrpy.Microstructure(grains().astype(float)), settings=settings)
    expected = model.sample(1, (SIZE, SIZE), n_steps=6, seed=1)[0]
    np.testing.assert_array_equal(structure.decode_phases(), expected)


def test_the_snippet_of_the_readme_runs_as_it_stands(
    mcrpy: ModuleType, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (snippet,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "optimizer_type" in block]
    (tmp_path / "work" / "run").mkdir(parents=True)
    (tmp_path / "work" / "generated").mkdir()
    shutil.copy(path, tmp_path / "work" / "run" / "model.safetensors")
    np.save(tmp_path / "work" / "generated" / "0.npy", np.tile(grains(), (4, 4)))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(snippet, names)
    assert names["structure"].decode_phases().shape == (64, 64)
    assert len(names["convergence_data"]["line_data"]) == 52
    assert len(names["results"]) == len(set(names["losses"])) == 4
    assert min(names["losses"]) == pytest.approx(names["convergence_data"]["line_data"][-1, 1])  # the best of 4


def test_a_model_that_is_not_periodic_is_noted(
    mcrpy: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = make_model(tmp_path, periodic=False)
    reconstruct(mcrpy, file, periodic=False)
    assert "not periodic" not in caplog.text
    reconstruct(mcrpy, file)
    assert "the model's structures are not periodic" in caplog.text


def test_the_command_loads_pytorch_first(path: Path, tmp_path: Path) -> None:
    """In a process of its own: the other way round PyTorch finds no GPU."""
    np.save(tmp_path / "grains.npy", grains())
    code = (
        "import sys; from mcrpy_diffusion.commands import mcrpy_commands; status = mcrpy_commands.match(sys.argv[1:]); "
        "names = list(sys.modules); sys.exit(status or names.index('torch') > names.index('tensorflow'))"
    )
    arguments = "--microstructure_filenames grains.npy --descriptor_types FFTCorrelations --limit_to 4"
    arguments += f" --optimizer_type=Diffusion --model {path} --n_sampling_steps 3"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments.split()], cwd=tmp_path, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
