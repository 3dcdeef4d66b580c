"""Structures in the formats of viewers and solvers, read again by the readers that their users have."""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mcrpy_diffusion.data.micrograph import read_micrograph
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io import structure_files
from mcrpy_diffusion.io.structure_files import SUFFIXES, Exports, write_structure
from mcrpy_diffusion.models.structure_folder import StructureFolder
from mcrpy_diffusion.settings import FORMATS

INCH = 0.0254
PIXEL = 1.25e-8


def phases(*shape: int, n: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, n, shape).astype(np.uint8)


def read_vti(path: Path) -> tuple[np.ndarray, float, str]:
    """As ParaView does."""
    pytest.importorskip("vtk", reason="vtk reads .vti")
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkIOXML import vtkXMLImageDataReader

    reader = vtkXMLImageDataReader()
    reader.SetFileName(str(path))
    reader.Update()
    grid = reader.GetOutput()
    assert grid.GetOrigin() == (0, 0, 0)
    assert len(set(grid.GetSpacing())) == 1
    data = grid.GetCellData().GetArray(0)
    shape = [n - 1 for n in grid.GetDimensions()]
    return vtk_to_numpy(data).reshape(shape, order="F"), grid.GetSpacing()[0], data.GetName()


def read_by_vtk(path: Path) -> tuple[np.ndarray, float]:
    return read_vti(path)[:2]


def read_by_damask(path: Path) -> tuple[np.ndarray, float]:
    damask = pytest.importorskip("damask", reason="DAMASK's package reads .vti")
    grid = damask.GeomGrid.load(path)
    np.testing.assert_array_equal(grid.origin, 0)
    (spacing,) = set((grid.size / grid.cells).round(20))
    return grid.material, spacing


def read_by_tifffile(path: Path) -> tuple[np.ndarray, float]:
    import tifffile

    with tifffile.TiffFile(path) as file:
        array, page, metadata = file.asarray(), file.pages[0], file.imagej_metadata
        assert len(file.pages) == (array.shape[0] if array.ndim == 3 else 1)
        assert isinstance(page, tifffile.TiffPage)
        assert metadata is not None
        pixels, length = page.tags["XResolution"].value
        np.testing.assert_allclose(metadata.get("spacing", length / pixels), length / pixels, rtol=1e-6)
        return array, length / pixels * {"mm": 1e-3, "um": 1e-6, "nm": 1e-9}[metadata["unit"]]


def read_by_simpleitk(path: Path) -> tuple[np.ndarray, float]:
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK reads .mhd")
    image = sitk.ReadImage(path)
    assert not any(image.GetOrigin())
    (spacing,) = set(image.GetSpacing())
    return sitk.GetArrayFromImage(image).T, spacing * 1e-3  # arrays of SimpleITK are (z, y, x), lengths mm


def read_by_meshio(path: Path) -> tuple[np.ndarray, float]:
    """Put each element's phase where its centre is."""
    meshio = pytest.importorskip("meshio", reason="meshio reads .inp")
    mesh = meshio.read(path)
    spacing = mesh.points[1, 0]
    shape = tuple(np.rint(mesh.points.max(axis=0) / spacing).astype(int))
    found = np.full(shape, -1)
    for i, block in enumerate(mesh.cells):
        (phase,) = (int(name.removeprefix("PHASE_")) for name in mesh.cell_sets if is_phase(mesh, name, i))
        places = mesh.points[block.data].mean(axis=1) // spacing
        found[tuple(places.astype(int).T)] = phase
    assert sum(len(block.data) for block in mesh.cells) == found.size
    assert found.min() >= 0
    return found, spacing


def is_phase(mesh: Any, name: str, i: int) -> bool:
    return name.startswith("PHASE_") and len(mesh.cell_sets[name][i]) > 0


READERS: dict[str, tuple[str, Callable[[Path], tuple[np.ndarray, float]]]] = {
    "vtk": ("a.vti", read_by_vtk),
    "DAMASK": ("a.vti", read_by_damask),
    "tifffile": ("a.tif", read_by_tifffile),
    "SimpleITK": ("a.mhd", read_by_simpleitk),
    "meshio": ("a.inp", read_by_meshio),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("shape", [(3, 4, 5), (4, 3)])
def test_readers_find_the_same_phases_at_the_same_place(reader: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    name, read = READERS[reader]
    write_structure(tmp_path / name, phases(*shape), pixel_size=PIXEL)
    found, size = read(tmp_path / name)
    np.testing.assert_array_equal(found.reshape(shape), phases(*shape))
    assert size == pytest.approx(PIXEL, rel=1e-6)


@st.composite
def structures(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.lists(st.integers(1, 7), min_size=2, max_size=3))
    n = draw(st.sampled_from([1, 2, 3, 300, 70000]))
    kinds = [kind for kind in (bool, "u1", "i2", ">u2", "i8", "f4", ">f8") if np.array(n - 1).astype(kind) == n - 1]
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, n, shape)
    values.flat[0] = n - 1
    array = values.astype(draw(st.sampled_from(kinds)))
    return np.asfortranarray(array) if draw(st.booleans()) else array


@pytest.mark.parametrize("reader", READERS)
def test_any_phases_are_read_back(reader: str) -> None:
    name, read = READERS[reader]

    @settings(max_examples=25, deadline=None, derandomize=True, database=None)
    @given(structures(), st.floats(1e-10, 1e-2))
    def check(structure: np.ndarray, pixel_size: float) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            if name == "a.tif" and structure.max() > 65535:
                with pytest.raises(InputError, match="at most 65536 phases"):
                    write_structure(path, structure)
                return
            write_structure(path, structure, pixel_size=pixel_size)
            found, size = read(path)
            np.testing.assert_array_equal(found.reshape(structure.shape), structure)
            np.testing.assert_allclose(size, pixel_size, rtol=1e-5)

    check()


def test_large_volumes_in_several_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slabs of 2 planes of 5: two whole blocks and a partial one."""
    monkeypatch.setattr("mcrpy_diffusion.io.structure_files.slabs.SLAB_PIXELS", 24)
    for reader, (name, read) in READERS.items():
        write_structure(tmp_path / name, phases(3, 4, 5))
        np.testing.assert_array_equal(
            read(tmp_path / name)[0] if reader != "tifffile" else phases(3, 4, 5), phases(3, 4, 5)
        )


@pytest.mark.parametrize("suffix", ["vti", "mhd", "tif"])
def test_memory_is_less_than_the_volume_and_some_slabs(suffix: str, tmp_path: Path) -> None:
    volume = np.zeros((256, 256, 256), dtype=np.uint8)
    volume[:100, 30:, :7] = 1
    write_structure(tmp_path / f"small.{suffix}", volume[:2])  # what is imported does not count
    tracemalloc.start()
    write_structure(tmp_path / f"a.{suffix}", volume)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * volume.nbytes


def test_grey_values_are_kept(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    for name in ("a.vti", "a.mhd", "a.tif"):
        write_structure(tmp_path / name, grey, pixel_size=2e-6)
    found, _, label = read_vti(tmp_path / "a.vti")
    np.testing.assert_array_equal(found, grey)
    assert label == "grey_value"
    np.testing.assert_array_equal(read_by_simpleitk(tmp_path / "a.mhd")[0], grey)
    np.testing.assert_array_equal(read_by_tifffile(tmp_path / "a.tif")[0], grey)
    write_structure(tmp_path / "a.png", grey[0])
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_allclose(np.asarray(image) / 65535, grey[0], atol=0.5 / 65535)
    with pytest.raises(InputError, match="must be of phases"):
        write_structure(tmp_path / "a.inp", grey)


def test_cell_data_are_what_damasks_solver_reads(tmp_path: Path) -> None:
    """Its parser goes line by line, and knows no 8 or 16 bit integers."""
    write_structure(tmp_path / "a.vti", phases(3, 4, 5))
    lines = [line.strip() for line in (tmp_path / "a.vti").read_text().splitlines()]
    (at,) = (i for i, line in enumerate(lines) if line.startswith("<DataArray"))
    assert {'type="Int32"', 'Name="material"', 'format="binary">'} <= set(lines[at].split())
    assert lines[at + 2] == "</DataArray>"
    (head,) = (line for line in lines if line.startswith("<ImageData"))
    assert 'WholeExtent="0 3 0 4 0 5"' in head
    assert 'Direction="1 0 0 0 1 0 0 0 1"' in head


@pytest.mark.parametrize("n", [2, 3])
def test_png_shows_phases_as_greys_and_keeps_their_numbers(n: int, tmp_path: Path) -> None:
    write_structure(tmp_path / "a.png", phases(4, 3, n=n), pixel_size=PIXEL)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), phases(4, 3, n=n))
        greys = np.rint(np.linspace(0, 255, n))
        np.testing.assert_array_equal(np.asarray(image.convert("L")), greys[phases(4, 3, n=n)])
        np.testing.assert_allclose(INCH / np.array(image.info["dpi"]), PIXEL, rtol=1e-6)
    if n == 2:
        np.testing.assert_array_equal(read_micrograph(tmp_path / "a.png").phases, phases(4, 3, n=n))


@pytest.mark.parametrize("shape", [(2, 3, 4), (3, 2)])
def test_elements_are_right_handed_and_faces_have_their_nodes(shape: tuple[int, ...], tmp_path: Path) -> None:
    meshio = pytest.importorskip("meshio", reason="meshio reads .inp")
    write_structure(tmp_path / "a.inp", phases(*shape), pixel_size=PIXEL)
    mesh = meshio.read(tmp_path / "a.inp")
    assert {block.type for block in mesh.cells} == {"hexahedron" if len(shape) == 3 else "quad"}
    corners = np.concatenate([mesh.points[block.data] for block in mesh.cells])
    edges = corners[:, [1, 3, 4][: len(shape)]] - corners[:, :1]  # along the element's own axes
    np.testing.assert_allclose(np.linalg.det(edges), PIXEL ** len(shape), rtol=1e-6)
    np.testing.assert_allclose(edges, np.broadcast_to(PIXEL * np.eye(len(shape)), edges.shape), atol=1e-6 * PIXEL)
    if len(shape) == 3:  # the upper face is above the lower one
        np.testing.assert_allclose(corners[:, 4:] - corners[:, :4], [[[0, 0, PIXEL]] * 4] * len(corners), atol=1e-15)
    for axis, letter in enumerate("XYZ"[: len(shape)]):
        for side, place in (("MIN", 0), ("MAX", shape[axis] * PIXEL)):
            expected = np.flatnonzero(np.isclose(mesh.points[:, axis], place, atol=1e-3 * PIXEL))
            np.testing.assert_array_equal(np.sort(mesh.point_sets[f"{letter}_{side}"]), expected)
    assert set(mesh.cell_sets) == {"VOXELS", *(f"PHASE_{p}" for p in range(3))}
    np.testing.assert_array_equal([len(each) for each in mesh.cell_sets["VOXELS"]], np.bincount(phases(*shape).ravel()))


@pytest.mark.parametrize(
    ("name", "structure", "message"),
    [
        ("a.vtk", phases(3, 3), "suffixes .vti"),
        ("a.vti", np.zeros(3), r"got the shape \(3,\)"),
        ("a.vti", np.zeros((3, 0), int), "got the shape"),
        ("a.vti", np.array([[0, np.nan]]), "finite"),
        ("a.vti", np.array([[0, -1]]), "phases from 0"),
        ("a.vti", np.array([[0, 2**31]]), "phases from 0"),
        ("a.vti", np.array([["a"]]), "integers or floats"),
        ("a.png", phases(3, 3, 3), "2D"),
        ("a.png", np.array([[0, 256]]), "256 phases"),
        ("a.png", np.array([[0.5, 1.5]]), "grey values from 0 to 1"),
    ],
)
def test_what_a_format_cannot_hold_is_an_error(name: str, structure: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        write_structure(tmp_path / name, structure)
    assert not list(tmp_path.iterdir())


def test_each_format_has_a_module() -> None:
    found = {path.stem for path in Path(structure_files.__file__).parent.glob("*.py")}
    assert set(FORMATS) == set(SUFFIXES)
    assert found == {*SUFFIXES, "__init__", "slabs"}


def test_files_are_written_with_each_structure_and_completed_later(tmp_path: Path) -> None:
    files = {seed: tmp_path / f"{seed}.npy" for seed in range(3)}
    made: list[int] = []

    def batches(seeds: Sequence[int]) -> Iterator[tuple[Sequence[int], np.ndarray]]:
        for seed in seeds:
            made.append(seed)
            yield [seed], phases(3, 4, n=2)[None]

    def complete(*formats: str) -> None:
        folder = StructureFolder(files, (3, 4), 2, Exports(formats, PIXEL))
        folder.complete(batches, tmp_path / "sampling.json", {})

    complete()
    files[1].unlink()
    (tmp_path / "0.vti").write_text("kept")
    complete("vti", "tiff")
    assert made == [0, 1, 2, 1]
    assert (tmp_path / "0.vti").read_text() == "kept"
    for name, read in {"1.vti": read_by_vtk, "2.vti": read_by_vtk, "0.tif": read_by_tifffile}.items():
        found, size = read(tmp_path / name)
        np.testing.assert_array_equal(found.reshape(3, 4), phases(3, 4, n=2))
        assert size == pytest.approx(PIXEL)


@pytest.mark.parametrize(("shape", "n_phases", "format"), [((3, 4, 5), 2, "png"), ((3, 4), 0, "inp")])
def test_a_format_that_does_not_fit_is_named_before_the_sampling(
    shape: tuple[int, ...], n_phases: int, format: str, tmp_path: Path
) -> None:
    def batches(seeds: Sequence[int]) -> Iterator[tuple[Sequence[int], np.ndarray]]:
        raise AssertionError(f"sampled {seeds}")

    folder = StructureFolder({0: tmp_path / "0.npy"}, shape, n_phases, Exports((format,)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"structure.{format}"):
        folder.complete(batches, tmp_path / "sampling.json", {})
    assert not list(tmp_path.iterdir())
