"""Volumes against originals in two dimensions and true volumes: identities, floors, what is wrong is named, files."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.volume_results import VolumeEvaluation
from mcrpy_diffusion.evaluation.volume_sets import fit_curves, fit_scalars, resampled_noise
from mcrpy_diffusion.evaluation.volumes import AXES, evaluate_volumes
from mcrpy_diffusion.metrics.sections import slices
from mcrpy_diffusion.reports.volume_rows import summary, volume_table
from mcrpy_diffusion.workflow.compare import compare_folders

N = 16


def blobs(count: int, *, seed: int, sigma: tuple[float, float, float] = (1.5, 1.5, 1.5)) -> np.ndarray:
    """Periodic volumes of smoothed noise, each with a volume fraction near .4."""
    noise = np.random.default_rng(seed).standard_normal((count, N, N, N))
    smooth = np.stack([gaussian_filter(volume, sigma, mode="wrap") for volume in noise])
    return (smooth > 0.25 * smooth.std()).astype(np.uint8)


def all_slices(volumes: np.ndarray) -> dict[str, np.ndarray]:
    return {axis: slices(volumes, axis=k).reshape(-1, N, N) for k, axis in enumerate(AXES)}


@pytest.fixture(scope="module")
def true() -> np.ndarray:
    return blobs(5, seed=0)


def test_volumes_against_their_own_slices_and_themselves(true: np.ndarray) -> None:
    found = evaluate_volumes(all_slices(true), true, n_phases=2, periodic=True, true=true)
    for fit in found.phases.values():
        assert fit.volume_fraction.difference == pytest.approx(0)
        for plane in fit.planes.values():
            for curve in (plane.two_point_correlation, plane.lineal_path):
                assert curve.discrepancy_percent == pytest.approx(0, abs=1e-9)
            for scalar in (plane.number_of_clusters, plane.euler_number, plane.isolated_pixels):
                assert scalar.difference == pytest.approx(0, abs=1e-9)
            for direction in plane.directions.values():
                assert direction.interface_density.difference == pytest.approx(0, abs=1e-12)
                assert direction.lineal_path.discrepancy_percent == pytest.approx(0, abs=1e-9)
        for direction in fit.space.directions.values():
            assert direction.two_point_correlation.discrepancy_percent == 0
            assert direction.lineal_path.discrepancy_percent == 0
        for scalar in [*fit.space.percolating_share.values(), fit.space.euler_number, fit.space.specific_surface]:
            assert scalar.difference == 0
    assert (found.scatter_of, found.n_volumes.true) == ("true volumes", 5)
    assert VolumeEvaluation.from_dict(json.loads(json.dumps(found.to_dict()))) == found


def test_noise_of_a_mean_scatters_as_the_mean_does() -> None:
    """Of a known population: a mean of M has the standard deviation of one over sqrt(M); that of one is unknown."""
    values = np.random.default_rng(1).standard_normal((5, 2000))
    noise = resampled_noise(values, 3, seed=0, n_draws=2000)
    assert noise.var(axis=0).mean() == pytest.approx(1 / 3, rel=0.05)
    assert not resampled_noise(values[:1], 3, seed=0).any()


def test_floor_is_what_sets_of_one_population_differ_by() -> None:
    """Mean over many pairs of sets against the mean floor; N = 8 originals, M = 4 volumes."""
    rng = np.random.default_rng(2)
    differences, floors = [], []
    for _ in range(100):
        reference, made = (5 + rng.standard_normal((n, 3)) for n in (8, 4))
        curve = fit_curves(reference, made, made)
        scalar = fit_scalars(reference[:, 0], made[:, 0], made[:, 0])
        differences.append([curve.discrepancy_percent, abs(scalar.difference)])
        floors.append([curve.floor_percent, scalar.floor])
    np.testing.assert_allclose(np.mean(floors, axis=0), np.mean(differences, axis=0), rtol=0.15)


def test_slices_of_a_volume_are_not_independent_structures(true: np.ndarray) -> None:
    """Volumes of one slice repeated have the floor of as many images, far above that of all their slices."""
    columns = np.repeat(true[:, :1], N, axis=1)
    original = slices(blobs(40, seed=3), axis=0)[:, 0]
    found = evaluate_volumes(original, columns, n_phases=2, periodic=True).phases["1"].planes["x"]
    independent = evaluate_volumes(original, true, n_phases=2, periodic=True).phases["1"].planes["x"]
    assert found.lineal_path.floor_percent > 1.5 * independent.lineal_path.floor_percent


def test_shuffled_slices_are_right_in_one_plane_alone(true: np.ndarray) -> None:
    """Layers of unrelated slices: nothing is wrong with them across x, everything is along x."""
    rng = np.random.default_rng(4)
    shuffled = np.stack([volume[rng.permutation(N)] for volume in true])
    original = slices(blobs(40, seed=3), axis=0)[:, 0]
    found = evaluate_volumes(original, shuffled, n_phases=2, periodic=True, true=true)
    fit = found.phases["1"]

    def floors(axis: str, direction: str) -> float:
        interface = fit.planes[axis].directions[direction].interface_density
        return abs(interface.difference) / interface.floor

    assert max(floors("x", "down"), floors("x", "across"), floors("y", "across"), floors("z", "across")) < 3
    assert min(floors("y", "down"), floors("z", "down")) > 10
    along = {name: each.lineal_path.discrepancy_percent for name, each in fit.space.directions.items()}
    assert min(along["x"], along["space_diagonals"]) > 2 * max(along["y"], along["z"], 10)
    text = summary(found)
    assert "clusters across y" in text
    assert "clusters across x" not in text


def test_right_s2_with_wrong_clusters_is_said(true: np.ndarray) -> None:
    found = evaluate_volumes(all_slices(true), true, n_phases=2, periodic=True)
    assert "section of no volume" not in summary(found)
    fit = found.phases["1"]
    clusters = fit.planes["y"].number_of_clusters
    plane = replace(fit.planes["y"], number_of_clusters=replace(clusters, difference=4 * clusters.floor))
    wrong = replace(found, phases={**found.phases, "1": replace(fit, planes={**fit.planes, "y": plane})})
    assert re.search("not its clusters.*section of no volume", summary(wrong))


def test_planes_with_originals_of_their_own() -> None:
    """Volumes stretched along z, whose planes are alike only with the right originals."""
    made, other = (blobs(5, seed=seed, sigma=(1, 1, 4)) for seed in (5, 6))
    planes = {axis: images[::5] for axis, images in all_slices(other).items()}
    for originals, is_right in ((planes, True), (planes["z"], False)):
        found = evaluate_volumes(originals, made, n_phases=2, periodic=True).phases["1"].planes
        for axis in "xy":
            along_z = found[axis].directions["across"].interface_density
            assert (abs(along_z.difference) < 3 * along_z.floor) == is_right
    with pytest.raises(InputError, match="planes x, y and z"):
        evaluate_volumes({"x": planes["x"]}, made, n_phases=2, periodic=True)


def test_isotropic_originals_average_rows_and_columns() -> None:
    made = blobs(2, seed=7)
    original = all_slices(blobs(2, seed=8, sigma=(1, 1, 4)))["x"]  # rows differ from columns
    turned = np.concatenate([original, original.swapaxes(1, 2)])
    turned = np.concatenate([turned, turned[:, ::-1]])
    found, expected = (
        evaluate_volumes(images, made, n_phases=2, periodic=True, isotropic=isotropic).phases["1"].planes["y"]
        for images, isotropic in ((original, True), (turned, False))
    )
    for name, direction in found.directions.items():
        other = expected.directions[name]
        assert direction.lineal_path.discrepancy_percent == pytest.approx(other.lineal_path.discrepancy_percent)
        assert direction.interface_density.difference == pytest.approx(other.interface_density.difference)


def test_three_phases_and_grey_values(true: np.ndarray) -> None:
    three = true + (blobs(5, seed=9) & true)
    found = evaluate_volumes(slices(three, axis=0)[:, 0], three, n_phases=3, periodic=False)
    assert set(found.phases) == {"0", "1", "2"}
    grey = 0.2 + 0.5 * true.astype(np.float32)
    cut = evaluate_volumes(slices(grey, axis=0)[:, 0], grey, n_phases=0, periodic=True)
    assert 0.2 < cut.grey_threshold < 0.7
    expected = evaluate_volumes(slices(true, axis=0)[:, 0], true, n_phases=2, periodic=True)
    assert cut.phases == expected.phases


def test_conductivity_of_columns() -> None:
    """Columns along z conduct as much as their share, and nothing across."""
    pytest.importorskip("taufactor")
    volumes = np.zeros((1, N, N, N), dtype=np.uint8)
    volumes[:, 2:6, 3:7] = 1
    found = evaluate_volumes(volumes[:, 3], volumes, n_phases=2, periodic=True, properties=True)
    along = found.phases["1"].space.conductivity
    np.testing.assert_allclose([along[axis].generated for axis in AXES], [0, 0, 1 / 16], atol=1e-4)


def test_one_volume_and_one_original_have_no_floor(true: np.ndarray) -> None:
    found = evaluate_volumes(true[:1, 0], true[1:2], n_phases=2, periodic=True)
    assert found.scatter_of == "none"
    assert len(found.warnings) == 2
    assert found.phases["1"].planes["x"].two_point_correlation.floor_percent is None
    assert found.phases["1"].space.directions["x"].lineal_path.discrepancy_percent is None


@pytest.mark.parametrize(
    ("original", "generated", "volumes", "words"),
    [
        ((4, N, N), (2, N, N), None, "generated volumes must have the shape"),
        ((4, N, N), (0, N, N, N), None, "generated volumes must have the shape"),
        ((N, N), (2, N, N, N), None, "original structures of plane x"),
        ((4, N, 4), (2, N, N, N), None, "at least 8 pixels"),
        ((4, N, N), (2, N, N, N), (2, N, N, 8), "true volumes must have the extent"),
    ],
)
def test_sets_that_cannot_be_compared(
    original: tuple[int, ...], generated: tuple[int, ...], volumes: tuple[int, ...] | None, words: str
) -> None:
    images, made = np.zeros(original, np.uint8), np.zeros(generated, np.uint8)
    real = None if volumes is None else np.zeros(volumes, np.uint8)
    with pytest.raises(InputError, match=words):
        evaluate_volumes(images, made, n_phases=2, periodic=True, true=real)


def folder(path: Path, structures: np.ndarray) -> Path:
    path.mkdir(parents=True)
    for i, structure in enumerate(structures):
        np.save(path / f"{i}.npy", structure)
    return path


def test_a_folder_of_volumes_becomes_a_report(
    tmp_path: Path, true: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyvista", None)  # not installed
    original = folder(tmp_path / "original", np.tile(true[:2, 0], (1, 2, 3)))  # micrographs of 32 x 48
    generated, real = folder(tmp_path / "generated", true[2:4]), folder(tmp_path / "true", true[3:])
    text = compare_folders(original, generated, tmp_path / "out", held_out=real)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["volume"]
    assert metrics["n_volumes"] == {"generated": 2, "true": 2, "original": {"x": 12, "y": 12, "z": 12}}
    assert metrics["extent"] == [N, N, N]
    assert any("pieces of larger ones" in warning for warning in metrics["warnings"])
    assert max(len(line) for line in text.splitlines() if str(tmp_path) not in line) <= 80
    page = (tmp_path / "out" / "report.html").read_text()
    assert "mcrpy-diffusion[volumes]" in page
    assert not (tmp_path / "out" / "volume.png").exists()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        *("report.html", "slices.png", "directions.png", "metrics.json")
    }
    assert len(re.findall("data:image/png", page)) == 1 + 2 * 4  # slices, and four diagrams in two colour schemes


def test_folders_of_planes_and_a_view(tmp_path: Path, true: np.ndarray) -> None:
    pytest.importorskip("pyvista")
    for axis, images in all_slices(true[:2]).items():
        folder(tmp_path / "original" / axis, images[:5])
    generated = folder(tmp_path / "generated", true[2:4])
    text = compare_folders(tmp_path / "original", generated, tmp_path / "out", periodic=False)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())["volume"]
    assert metrics["n_volumes"]["original"] == {"x": 5, "y": 5, "z": 5}
    assert metrics["periodic"] is False
    assert str(tmp_path / "out" / "volume.png") in text
    from PIL import Image

    pixels = np.asarray(Image.open(tmp_path / "out" / "volume.png").convert("L"))
    assert 0.02 < (pixels < 250).mean() < 0.9  # something is drawn on white


@pytest.mark.parametrize(
    ("generated", "options", "words"),
    [
        ([(N, N, N), (N, N, 8)], {}, "one extent"),
        ([(N, N, N), (N, N)], {}, "numbers of shape"),
        ([(N, N, N)], {"features": "vgg19"}, "two dimensions"),
        ([(N, N, N)], {"boundary_phase": 0}, "two dimensions"),
    ],
)
def test_folders_of_volumes_that_cannot_be_compared(
    tmp_path: Path, generated: list[tuple[int, ...]], options: dict, words: str
) -> None:
    original = folder(tmp_path / "original", np.zeros((2, N, N), np.uint8))
    made = tmp_path / "generated"
    made.mkdir()
    for i, shape in enumerate(generated):
        np.save(made / f"{i}.npy", np.zeros(shape, np.uint8))
    with pytest.raises(InputError, match=words):
        compare_folders(original, made, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_the_table_of_three_phases_has_both_parts_of_each(true: np.ndarray) -> None:
    three = true[:2] + (blobs(2, seed=9) & true[:2])
    table = volume_table(evaluate_volumes(slices(three, axis=0)[:, 0], three, n_phases=3, periodic=True))
    assert table.count("slices across  ") == table.count("percolating share, x") == 3
    assert max(map(len, table.splitlines())) <= 80
