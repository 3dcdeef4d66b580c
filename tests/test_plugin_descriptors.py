"""The descriptors LinealPathFunction and PixelMSE, through MCRpy: exact, differentiable, in all of its settings."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from mcrpy_diffusion.commands import mcrpy_commands as commands
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge.plugin_options import get_option, plugin_options
from mcrpy_diffusion.mcrpy_bridge.registration import register
from mcrpy_diffusion.metrics.copying import nearest_distance
from mcrpy_diffusion.metrics.spatial_statistics import DIRECTIONS_2D, discrepancy, lineal_path

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def mcrpy() -> ModuleType:
    """MCRpy with the plugins."""
    register()
    import mcrpy
    from mcrpy.src import loader

    loader.load_plugins(["mcrpy.descriptors.LinealPathFunction", "mcrpy.descriptors.PixelMSE"])
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


def function(name: str, shape: tuple[int, int], **options: Any) -> Any:
    """Return a descriptor as a function of (I, J) or (I, J, C) arrays."""
    import tensorflow as tf
    from mcrpy.src.descriptor_factory import descriptor_classes

    compute = descriptor_classes[name].make_singlephase_descriptor(desired_shape_2d=shape, **options)
    return lambda x: compute(tf.constant(np.reshape(x, (1, *shape, -1)), tf.float64)).numpy()


def gradient(name: str, x: np.ndarray, weights: np.ndarray, **options: Any) -> np.ndarray:
    """Return the derivative of the weighted sum of a descriptor with respect to the pixels (I, J, C)."""
    import tensorflow as tf
    from mcrpy.src.descriptor_factory import descriptor_classes

    compute = descriptor_classes[name].make_singlephase_descriptor(desired_shape_2d=x.shape[:2], **options)
    pixels = tf.Variable(x[None])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(compute(pixels) * weights)
    return tape.gradient(total, pixels).numpy()[0]


def differences(f: Any, x: np.ndarray, step: float) -> np.ndarray:
    """Return the derivative of f at each pixel by central differences."""
    result = np.empty(x.shape)
    for where in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[where] += step
        down[where] -= step
        result[where] = (f(up) - f(down)) / (2 * step)
    return result


def characterize(mcrpy: ModuleType, x: np.ndarray, name: str, **settings: Any) -> Any:
    many = settings.setdefault("use_multiphase", True)
    extra = {key: settings.pop(key) for key in ("references",) if key in settings}
    chosen = mcrpy.CharacterizationSettings(descriptor_types=[name], **settings)
    vars(chosen).update(extra)
    structure = mcrpy.Microstructure(np.array(x, dtype=np.float64), use_multiphase=many, trainable=False)
    return mcrpy.characterize(structure, chosen)[name]


# --- lineal path ------------------------------------------------------------------------------------------------------


def brute_lineal_path(x: np.ndarray, n_lengths: int, periodic: bool) -> np.ndarray:
    """Walk along every segment, pixel by pixel."""
    rows, columns = x.shape
    result = np.empty((len(DIRECTIONS_2D), n_lengths))
    for k, (di, dj) in enumerate(DIRECTIONS_2D):
        for r in range(n_lengths):
            products = []
            for i in range(rows):
                for j in range(columns):
                    cells = [(i + n * di, j + n * dj) for n in range(r + 1)]
                    if periodic or all(0 <= a < rows and 0 <= b < columns for a, b in cells):
                        products.append(np.prod([x[a % rows, b % columns] for a, b in cells]))
            result[k, r] = np.mean(products)
    return result


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize(("shape", "limit_to"), [((8, 8), 4), ((6, 9), 6), ((9, 5), 5), ((7, 7), 1)])
def test_lineal_path_equals_a_walk_along_every_segment(
    mcrpy: ModuleType, shape: tuple[int, int], limit_to: int, periodic: bool
) -> None:
    compute = function("LinealPathFunction", shape, limit_to=limit_to, periodic=periodic)
    soft = RNG.random(shape) ** 0.3
    phases = (soft > 0.4).astype(np.float64)
    for x in (soft, phases):
        np.testing.assert_allclose(compute(x), brute_lineal_path(x, limit_to, periodic), rtol=1e-13, atol=1e-15)
    exact = lineal_path(phases.astype(int), phase=1, periodic=periodic, max_length=limit_to - 1)
    np.testing.assert_allclose(compute(phases), exact, rtol=1e-15, atol=0)


def test_lineal_path_closed_forms(mcrpy: ModuleType) -> None:
    compute = function("LinealPathFunction", (20, 20), limit_to=10)
    stripes = np.tile((np.arange(20) % 5 < 3).astype(float), (20, 1))
    across = np.pad([0.6, 0.4, 0.2], (0, 7))
    np.testing.assert_allclose(compute(stripes), [np.full(10, 0.6), across, across, across], atol=1e-15)
    for p in (0.0, 0.3, 1.0):  # a soft structure of probability p everywhere is uncorrelated noise
        np.testing.assert_allclose(compute(np.full((20, 20), p)), np.tile(p ** np.arange(1, 11), (4, 1)), rtol=1e-12)


def test_lineal_path_of_real_micrographs(mcrpy: ModuleType, microstructures: Path) -> None:
    compute = function("LinealPathFunction", (256, 256), limit_to=128)
    for file in sorted(microstructures.glob("*_256.npy")):
        phases = np.load(file) == 1
        value = compute(phases)
        assert value.dtype == np.float64
        np.testing.assert_allclose(value[:, 0], phases.mean(), rtol=0, atol=1e-12)
        exact = lineal_path(phases, phase=1, periodic=True, max_length=127)
        np.testing.assert_allclose(value, exact, rtol=1e-14, atol=0)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("kind", ["soft", "with zeros and ones", "phases"])
def test_lineal_path_gradient(mcrpy: ModuleType, periodic: bool, kind: str) -> None:
    """L is linear in each pixel, so that differences are its derivative, whatever the step; also on phases."""
    x = RNG.random((5, 6))
    if kind != "soft":
        x[RNG.random(x.shape) < 0.4] = 1
        x[RNG.random(x.shape) < 0.2] = 0
    if kind == "phases":
        x = np.rint(x)
    weights = RNG.standard_normal((4, 5))
    options = {"limit_to": 5, "periodic": periodic}
    compute = function("LinealPathFunction", x.shape, **options)
    expected = differences(lambda y: (compute(y) * weights).sum(), x, 0.125)
    found = gradient("LinealPathFunction", x[..., None], weights, **options)
    np.testing.assert_allclose(found[..., 0], expected, rtol=1e-11, atol=1e-12)
    assert np.abs(expected).max() > 0.01


def test_lineal_path_in_all_settings_of_mcrpy(mcrpy: ModuleType) -> None:
    phases = RNG.integers(0, 3, (16, 16))
    for periodic in (True, False):
        value = characterize(mcrpy, phases, "LinealPathFunction", limit_to=4, periodic=periodic)
        assert value.shape == (3, 2, 4, 4)  # phases, levels, directions, distances
        for phase in range(3):
            exact = lineal_path(phases, phase=phase, periodic=periodic, max_length=3)
            np.testing.assert_allclose(value[phase, 0], exact, rtol=1e-15, atol=0)
            coarse = (phases == phase).reshape(8, 2, 8, 2).mean(axis=(1, 3))
            np.testing.assert_allclose(value[phase, 1], brute_lineal_path(coarse, 4, periodic), rtol=1e-13)
    single = characterize(mcrpy, phases > 0, "LinealPathFunction", limit_to=8, use_multiphase=False)
    np.testing.assert_allclose(single[0, 0], lineal_path(phases > 0, phase=1, periodic=True, max_length=7), rtol=1e-15)


@pytest.mark.parametrize("shape", [(8, 8, 8), (8, 10, 12)])
def test_lineal_path_of_slices_in_3d(mcrpy: ModuleType, shape: tuple[int, int, int]) -> None:
    volume = RNG.integers(0, 2, shape)
    settings = {"limit_to": 4, "use_multiphase": False, "use_multigrid_descriptor": False}
    value = characterize(mcrpy, volume, "LinealPathFunction", **settings)
    for axis in range(3):
        slices = np.moveaxis(volume, axis, 0)
        exact = lineal_path(slices, phase=1, periodic=True, max_length=3).mean(axis=0)
        np.testing.assert_allclose(value[axis][0, 0], exact, rtol=1e-13)


@pytest.mark.parametrize(("limit_to", "desired"), [(3, 5), (5, 3), (4, 4)])
def test_lineal_paths_of_different_lengths_are_compared_where_both_are_known(
    mcrpy: ModuleType, limit_to: int, desired: int
) -> None:
    import tensorflow as tf
    from mcrpy.src.descriptor_factory import descriptor_classes

    first, second = RNG.random((4, limit_to)), RNG.random((4, desired))
    descriptor = descriptor_classes["LinealPathFunction"]
    compare = descriptor.make_comparison(desired_descriptor_shape=(4, desired), limit_to=limit_to)
    shared = min(limit_to, desired)
    expected = first[:, :shared] - second[:, :shared]
    found = compare(tf.constant(first), tf.constant(second)).numpy()
    np.testing.assert_allclose(np.abs(found.reshape(expected.shape)), np.abs(expected))


def test_lineal_path_wrong_arguments_are_named(mcrpy: ModuleType) -> None:
    from mcrpy.src.descriptor_factory import descriptor_classes

    for limit_to in (0, 9):
        with pytest.raises(InputError, match=rf"limit_to must be between 1 and 8.*, got {limit_to}"):
            function("LinealPathFunction", (8, 12), limit_to=limit_to)
    with pytest.raises(InputError, match=r"\(4, limit_to\), got \(7, 7\)"):
        descriptor_classes["LinealPathFunction"].define_comparison_mask(desired_descriptor_shape=(7, 7), limit_to=4)


def test_lineal_path_plot_shows_all_directions_over_their_length(mcrpy: ModuleType) -> None:
    from mcrpy.src.descriptor_factory import descriptor_classes

    value = RNG.random((4, 6))
    axes = Figure().add_subplot()
    descriptor_classes["LinealPathFunction"].visualize_subplot(value, axes, mg_level=0, n_phase=1)
    lengths = [line.get_xdata()[-1] for line in axes.lines]
    np.testing.assert_allclose(lengths, [5, 5, 5 * 2**0.5, 5 * 2**0.5])
    np.testing.assert_array_equal([line.get_ydata() for line in axes.lines], value)
    assert len({line.get_linestyle() for line in axes.lines}) == 4  # not by colour alone
    assert "r" in axes.get_xlabel()


def test_what_mcrpys_repository_passes_beyond_version_0_2_0(mcrpy: ModuleType) -> None:
    from mcrpy.src.descriptor_factory import descriptor_classes

    for name, value in (("LinealPathFunction", RNG.random((4, 6))), ("PixelMSE", np.float64(0.1))):
        for axis in (True, False):
            axes = Figure().add_subplot()
            descriptor_classes[name].visualize_subplot(value, axes, axis=axis, mg_level=0, n_phase=1)
            assert axes.axison == axis
        shapes = {"desired_shape_2d": (8, 8), "desired_shape_extended": (1, 8, 8, 8, 1)}
        with pytest.raises(InputError, match=f"full_3d must be False with {name}"):
            descriptor_classes[name].make_descriptor(**shapes, limit_to=4, full_3d=True)


def blobs(size: int) -> np.ndarray:
    """Round grains on a periodic grid of `size` pixels."""
    rows, columns = np.indices((size, size))
    return (np.sin(2 * np.pi * rows / size * 2) * np.sin(2 * np.pi * columns / size * 2) > 0.3).astype(np.int64)


def test_match_from_the_lineal_path(mcrpy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mcrpy_match` reconstructs from L by gradients, and `mcrpy_view` draws it."""
    monkeypatch.chdir(tmp_path)
    np.random.seed(0)  # noqa: NPY002  MCRpy's initial structure
    original = blobs(32)
    np.save("blobs.npy", original)
    arguments = "--method descriptor --microstructure_filenames blobs.npy --limit_to 16 --max_iter 60"
    arguments += " --descriptor_types LinealPathFunction FFTCorrelations --no_multigrid_descriptor"
    assert commands.match(arguments.split()) == 0
    convergence = mcrpy.load("results/convergence_data.pickle")
    losses = convergence["line_data"][:, 1]
    assert losses[-1] < 0.01 * losses[0]
    curve = lineal_path(original, phase=1, periodic=True).mean(axis=0)
    frames = [np.rint(frame.numpy()[..., 0]).astype(int) for frame in convergence["raw_data"]]
    errors = [discrepancy(curve, lineal_path(f, phase=1, periodic=True).mean(axis=0)) for f in (frames[0], frames[-1])]
    assert errors[1] < 0.5 * errors[0]
    assert commands.view(["results/blobs_characterization.pickle", "--savefig"]) == 0
    assert (tmp_path / "results" / "blobs_characterization_D_LinealPathFunction.png").stat().st_size > 1000


def test_reconstruct_slices_in_3d_from_the_lineal_path(mcrpy: ModuleType) -> None:
    desired = mcrpy.characterize(
        mcrpy.Microstructure(blobs(8).astype(float), trainable=False),
        mcrpy.CharacterizationSettings(
            descriptor_types=["LinealPathFunction"], limit_to=4, use_multiphase=False, use_multigrid_descriptor=False
        ),
    )
    settings = mcrpy.ReconstructionSettings(
        descriptor_types=["LinealPathFunction"], limit_to=4, use_multigrid_descriptor=False, max_iter=8
    )
    np.random.seed(0)  # noqa: NPY002
    convergence, _ = mcrpy.reconstruct(desired, (8, 8, 8), settings)
    losses = convergence["line_data"][:, 1]
    assert losses[-1] < 0.5 * losses[0]


# --- pixel MSE --------------------------------------------------------------------------------------------------------


def brute_nearest(x: np.ndarray, references: np.ndarray, periodic: bool) -> float:
    """Compare with every reference, at every shift."""
    shifts = list(np.ndindex(x.shape)) if periodic else [(0, 0)]
    return min((x != np.roll(y, shift, (0, 1))).mean() for y in references for shift in shifts)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("n_phases", [2, 3])
def test_pixel_mse_equals_the_comparison_with_every_reference(mcrpy: ModuleType, n_phases: int, periodic: bool) -> None:
    references = RNG.integers(0, n_phases, (5, 6, 8))
    for x in (RNG.integers(0, n_phases, (6, 8)), np.roll(references[3], (2, 5), (0, 1))):
        settings = {"references": references, "periodic": periodic, "use_multigrid_descriptor": False}
        value = characterize(mcrpy, x, "PixelMSE", **settings)
        assert value.shape == (n_phases, 1)
        expected = brute_nearest(x, references, periodic)
        np.testing.assert_allclose(value.sum() / 2, expected, rtol=1e-14, atol=0)
        theirs, _ = nearest_distance(x[None], references, periodic=periodic, point_reflection=False)
        np.testing.assert_allclose(value.sum() / 2, theirs[0], rtol=1e-14, atol=0)
        if n_phases == 2:
            single = characterize(mcrpy, x, "PixelMSE", use_multiphase=False, **settings)
            np.testing.assert_allclose(single, [[expected]], rtol=1e-14, atol=0)


def test_pixel_mse_of_a_shifted_copy_is_0(mcrpy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys.modules["mcrpy.descriptors.PixelMSE"], "_BLOCK_PIXELS", 2 * 64)  # several blocks
    references = RNG.integers(0, 2, (7, 8, 8))
    for k in (0, 4, 6):
        x = np.roll(references[k], (3, 6), (0, 1))
        assert characterize(mcrpy, x, "PixelMSE", references=references, limit_to=4).max() == 0
        assert characterize(mcrpy, x, "PixelMSE", references=references, limit_to=4, periodic=False).min() > 0


@pytest.mark.parametrize("periodic", [True, False])
def test_pixel_mse_gradient(mcrpy: ModuleType, periodic: bool) -> None:
    references = RNG.random((4, 5, 6, 3))
    x, weights = RNG.random((5, 6, 3)), RNG.standard_normal(3)
    options = {"references": references, "periodic": periodic}
    compute = function("PixelMSE", (5, 6), **options)
    expected = differences(lambda y: (compute(y) * weights).sum(), x, 1e-6)
    np.testing.assert_allclose(gradient("PixelMSE", x, weights, **options), expected, rtol=1e-6, atol=1e-9)


def test_pixel_mse_at_coarser_levels_and_on_slices(mcrpy: ModuleType) -> None:
    references = RNG.integers(0, 2, (3, 16, 16))
    x = RNG.integers(0, 2, (16, 16))
    value = characterize(mcrpy, x, "PixelMSE", references=references, limit_to=4, use_multiphase=False)
    coarse = [a.reshape(-1, 8, 2, 8, 2).mean(axis=(2, 4)) for a in (x[None], references)]
    nearest, _ = nearest_distance(*coarse, periodic=True, point_reflection=False)
    np.testing.assert_allclose(value, [[brute_nearest(x, references, True), nearest[0]]], rtol=1e-12)
    volume = RNG.integers(0, 2, (8, 8, 8))
    settings = {"use_multiphase": False, "use_multigrid_descriptor": False}
    per_axis = characterize(mcrpy, volume, "PixelMSE", references=volume[:3], **settings)
    for axis, found in enumerate(per_axis):
        slices = np.moveaxis(volume, axis, 0)
        nearest, _ = nearest_distance(slices, volume[:3], periodic=True, point_reflection=False)
        np.testing.assert_allclose(found, [[nearest.mean()]], rtol=1e-12)


def test_references_are_arrays_files_or_folders(mcrpy: ModuleType, tmp_path: Path) -> None:
    from PIL import Image

    references = RNG.integers(0, 2, (3, 8, 8))
    (tmp_path / "set").mkdir()
    np.save(tmp_path / "set" / "a.npy", references[0])
    Image.fromarray((references[1] * 255).astype(np.uint8)).save(tmp_path / "set" / "b.png")
    (tmp_path / "set" / "notes.txt").write_text("no image")
    np.save(tmp_path / "c.npy", references[2])
    x = RNG.integers(0, 2, (8, 8))
    expected = brute_nearest(x, references, True)
    folder = str(tmp_path / "set")
    for given in (references, list(references), [folder, tmp_path / "c.npy"], [folder, references[2]]):
        value = characterize(mcrpy, x, "PixelMSE", references=given, use_multigrid_descriptor=False)
        np.testing.assert_allclose(value, expected, rtol=1e-14)
    for given in (references[0], tmp_path / "set" / "a.npy", str(tmp_path / "set" / "a.npy")):
        value = characterize(mcrpy, x, "PixelMSE", references=given, use_multigrid_descriptor=False)
        np.testing.assert_allclose(value, brute_nearest(x, references[:1], True), rtol=1e-14)


def test_references_that_do_not_fit_are_named(mcrpy: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    cases: list[tuple[Any, str]] = [
        (None, "PixelMSE needs references"),
        ([tmp_path / "empty"], "must hold images"),
        ([tmp_path / "missing.npy"], "missing.npy"),
        (np.zeros((0, 8, 8)), "got no image"),
        ([np.zeros((8, 8)), np.zeros((8, 9))], r"\(8, 8\), \(8, 9\)"),
        (np.zeros((2, 24, 24)), "8 x 8 pixels.*, got 24 x 24"),
        (np.zeros((2, 4, 4)), "8 x 8 pixels.*, got 4 x 4"),
        (np.full((1, 8, 8), 2), "phases between 0 and 1, got 2 to 2"),
        (np.full((1, 8, 8), 0.5), "phases between 0 and 1"),
    ]
    for references, message in cases:
        with pytest.raises(InputError, match=message):
            characterize(mcrpy, blobs(8), "PixelMSE", references=references, limit_to=4)


# --- options ----------------------------------------------------------------------------------------------------------


def test_options_reach_plugins_for_the_length_of_a_call() -> None:
    assert get_option("model", {}) is None
    with plugin_options(model="a", seed=None) as options:
        assert get_option("model", {}) == "a"
        assert get_option("model", {"model": "b"}) == "b"
        assert get_option("seed", {"seed": None}, 7) == 7
        options["seed"] = 3
        assert get_option("seed", {}, 7) == 3
        with plugin_options():
            assert get_option("model", {}) is None
    assert get_option("model", {}, "none") == "none"


@pytest.mark.parametrize("command", ["characterize", "match", "reconstruct"])
def test_help_offers_the_plugins(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        getattr(commands, command)(["-h"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    choices = text[text.index("{") : text.index("}")]
    assert {"LinealPathFunction", "PixelMSE"} <= set(choices.strip("{}").replace("\n", "").replace(" ", "").split(","))
    assert "--references FILE" in text
    assert ("--best_of N" in text) == (command != "characterize")


def test_characterize_takes_references(
    mcrpy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    original = blobs(16)
    np.save("a.npy", original)
    np.save("b.npy", np.roll(original, 5, axis=0))
    shared = ["--microstructure_filenames", "a.npy", "--limit_to", "4"]
    types = ["--descriptor_types", "PixelMSE", "LinealPathFunction"]
    assert commands.characterize([*shared, *types, "--references", "b.npy"]) == 0
    value = mcrpy.load("results/a_characterization.pickle")
    assert value["PixelMSE"].shape == (2, 2)
    assert value["PixelMSE"][0, 0] == 0
    assert value["LinealPathFunction"].shape == (2, 2, 4, 4)
    assert commands.view(["results/a_characterization.pickle", "--savefig"]) == 0
    assert (tmp_path / "results" / "a_characterization_D_PixelMSE.png").stat().st_size > 1000
    assert capsys.readouterr().err == ""
    assert commands.characterize([*shared, *types]) == 2
    assert "PixelMSE needs references" in capsys.readouterr().err
    assert commands.characterize([*shared, "--descriptor_types", "LinealPathFunction", "--references", "b.npy"]) == 0
    warning = "mcrpy_characterize: warning: --references: "
    assert capsys.readouterr().err.startswith(warning)
