"""Report: what is drawn and written is what was measured, and the page needs no other file."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.evaluate import evaluate
from mcrpy_diffusion.evaluation.pairs import find_pairs
from mcrpy_diffusion.evaluation.results import Counts, Evaluation, FeatureMeasure
from mcrpy_diffusion.reports import figures
from mcrpy_diffusion.reports.console import console_table
from mcrpy_diffusion.reports.diagrams import LIGHT
from mcrpy_diffusion.reports.figures import contact_sheet, statistics_figure
from mcrpy_diffusion.reports.pictures import structure_pictures
from mcrpy_diffusion.reports.report import write_report
from mcrpy_diffusion.reports.sentences import summary

SECONDS = {"training data": 1.25, "training": 240.0, "sampling": 8.75}


def noise(n: int, *, seed: int, n_phases: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).integers(n_phases, size=(n, 8, 12)).astype(np.uint8)


def measured(n_phases: int = 2, **more: Any) -> tuple[Evaluation, np.ndarray, np.ndarray]:
    original, generated = noise(20, seed=0, n_phases=n_phases), noise(17, seed=1, n_phases=n_phases)
    return evaluate(original, generated, n_phases=n_phases, periodic=True, **more), original, generated


class Page(HTMLParser):
    """Collects the start tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def decoded(uri: str | None) -> np.ndarray:
    head = "data:image/png;base64,"
    assert uri is not None
    assert uri.startswith(head)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix(head)))))


def report(folder: Path, **changes: Any) -> tuple[list[Path], Evaluation, np.ndarray]:
    metrics, original, generated = measured(held_out=noise(5, seed=2))
    given: dict[str, Any] = {
        "name": "alloy <b>7</b> & more",
        "metrics": metrics,
        "original": original,
        "generated": generated,
        "settings": {"model": None, "sampling": {"seed": 30, "eta": 0.5}, "training": {"channels": [1, 2, 2]}},
        "seconds": SECONDS,
        "suffix": "_a",
    }
    return write_report(folder, **{**given, **changes}), metrics, generated


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Evaluation, np.ndarray]:
    return report(tmp_path_factory.mktemp("report") / "new" / "folder")


@pytest.fixture(scope="module")
def page(written: tuple[list[Path], Evaluation, np.ndarray]) -> Page:
    return Page(written[0][0].read_text(encoding="utf-8"))


def test_files_are_whole_and_nothing_else_is_left(written: tuple[list[Path], Evaluation, np.ndarray]) -> None:
    files, metrics, _generated = written
    names = ["report_a.html", "contact_sheet_a.png", "statistics_a.png", "metrics_a.json"]
    assert [path.name for path in files] == names
    assert sorted(path.name for path in files[0].parent.iterdir()) == sorted(names)
    assert json.loads(files[3].read_text()) == {**metrics.to_dict(), "seconds": SECONDS}


def test_same_input_gives_the_same_files(tmp_path: Path, written: tuple[list[Path], Evaluation, np.ndarray]) -> None:
    for one, other in zip(written[0], report(tmp_path)[0]):
        assert one.read_bytes() == other.read_bytes()


def test_page_needs_no_other_file(written: tuple[list[Path], Evaluation, np.ndarray], page: Page) -> None:
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "b"})
    for attributes in page.attributes("img"):
        assert decoded(attributes["src"]).size > 0
        assert attributes["alt"]
    for attributes in page.attributes("source"):
        assert attributes["media"] == "(prefers-color-scheme: dark)"
        assert decoded(attributes["srcset"]).size > 0
    head = written[0][0].read_text(encoding="utf-8").split("<body>")[0]
    for words in ("http", "@import", "url("):
        assert words not in head


def test_page_shows_the_structures_pixel_for_pixel_with_their_seeds(
    written: tuple[list[Path], Evaluation, np.ndarray], page: Page
) -> None:
    generated = written[2]
    shown = [a for a in page.attributes("img") if (a["alt"] or "").startswith("Generated structure")]
    assert len(shown) == 16  # of 17
    for i, attributes in enumerate(shown):
        np.testing.assert_array_equal(decoded(attributes["src"]), 255 * generated[i])
        assert f"seed {30 + i}, volume fraction {generated[i].mean():.3f}" in (attributes["alt"] or "")
    assert "Generated (16 of 17)" in page.text


def test_page_says_what_was_measured_and_set(written: tuple[list[Path], Evaluation, np.ndarray], page: Page) -> None:
    metrics = written[1]
    assert f"{metrics.lineal_path.discrepancy_percent:.1f} %" in page.text
    assert f"{metrics.volume_fraction.held_out_difference:+.4f}" in page.text
    assert "17 generated, 20 original, 5 held-out structures of 8 x 12 pixels" in page.text
    assert "New microstructures like alloy <b>7</b> & more" in page.text
    for words in ("1, 2, 2", "30 to 46", "240.0 s", "250.0 s", "numpy", "Held-out part"):
        assert words in page.text
    assert "no training images were given" in page.text
    assert "no part of the original was held out" not in page.text


def test_dark_and_light_pictures_differ(page: Page) -> None:
    light = [decoded(a["src"]) for a in page.attributes("img") if "over the distance r" in (a["alt"] or "")]
    dark = [decoded(a["srcset"]) for a in page.attributes("source")]
    assert len(light) == len(dark) == 2
    for bright, dim in zip(light, dark):
        assert bright[..., :3].mean() > 200 > 60 > dim[..., :3].mean()


def test_three_phases_are_shown_as_three_grey_levels() -> None:
    phases = noise(2, seed=3, n_phases=3)
    pictures = structure_pictures("Original", phases, 3, ["a", "b"])["images"]
    for picture, values in zip(pictures, phases):
        np.testing.assert_array_equal(decoded(picture["data"]), np.array([0, 128, 255])[values])


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match="taken"):
        report(tmp_path / "taken")


def test_contact_sheet_has_originals_above(tmp_path: Path) -> None:
    dark, bright = np.zeros((3, 8, 8), dtype=np.uint8), np.ones((9, 8, 8), dtype=np.uint8)
    dark[:, 0, 0] = 1
    contact_sheet(dark, bright, tmp_path / "sheet.png")
    pixels = np.asarray(Image.open(tmp_path / "sheet.png").convert("L")).astype(float)
    black = np.flatnonzero((pixels < 10).mean(axis=1) > 0.2)  # rows of pixels through the three black images
    white = np.flatnonzero((pixels > 245).mean(axis=1) > 0.8)  # and those through eight white ones
    assert len(black) > 50
    assert black.max() < np.median(white)


def test_mosaic_places_images_row_by_row_in_frames() -> None:
    pixels = np.stack([np.full((2, 3), level, dtype=np.uint8) for level in (10, 20, 30)])
    sheet = figures._mosaic(pixels, 2)
    assert sheet.shape == (2 * 3 + 1, 2 * 4 + 1, 3)
    assert (sheet[1:3, 1:4] == 10).all()
    assert (sheet[1:3, 5:8] == 20).all()
    assert (sheet[4:6, 1:4] == 30).all()
    assert (sheet[4:, 5:] == 255).all()  # no fourth image
    assert (sheet[0, :] == figures.FRAME_COLOUR).all()


def test_drawn_curves_are_the_measured_ones() -> None:
    metrics, *_ = measured(held_out=noise(4, seed=2))
    ax = Figure().subplots()
    figures._draw_curves(ax, metrics, "1", "two_point_correlation", LIGHT)
    curves = metrics.curves.phases["1"].two_point_correlation
    assert [line.get_label() for line in ax.lines] == ["original (20)", "generated (17)", "held-out part (4)"]
    for line, name in zip(ax.lines, ("original", "generated", "held_out")):
        np.testing.assert_array_equal(line.get_ydata(), getattr(curves, name).mean)
    band = np.asarray(ax.collections[1].get_paths()[0].vertices)
    assert band[:, 1].max() == pytest.approx(max(curves.generated.high))
    assert band[:, 1].min() == pytest.approx(min(curves.generated.low))


@pytest.mark.parametrize("n_phases", [2, 3])
def test_statistics_figure_has_a_row_per_phase(tmp_path: Path, n_phases: int) -> None:
    statistics_figure(measured(n_phases)[0], tmp_path / "curves.png")
    width, height = Image.open(tmp_path / "curves.png").size
    assert height / width == pytest.approx(0.39 * (1 if n_phases == 2 else 3), rel=0.01)


def table_of(text: str) -> list[str]:
    """The lines of the console from the table on."""
    lines = text.splitlines()
    return lines[next(k for k, line in enumerate(lines) if line.startswith("generated against")) :]


def test_console_table_states_each_measure_beside_held_out_and_floor() -> None:
    held_out, micrograph = noise(6, seed=2), np.random.default_rng(5).integers(2, size=(24, 36)).astype(np.uint8)
    metrics, original, _generated = measured(held_out=held_out, micrographs=[micrograph])
    text = console_table(metrics, SECONDS)
    assert all(len(line) <= 100 for line in text.splitlines())
    assert metrics.verdict is not None
    assert " ".join(text.split()).startswith(metrics.verdict.text)
    lines = table_of(text.replace(" *", ""))
    assert lines[0].split() == ["generated", "against", "original", "held-out", "part", "floor", "(95", "%)"]
    fraction, s2 = metrics.volume_fraction, metrics.two_point_correlation
    assert lines[2].split()[2:] == [
        f"{fraction.difference:+.4f}",
        f"({original.mean():.4f})",
        f"{fraction.held_out_difference:+.4f}",
        f"({held_out.mean():.4f})",
        f"±{fraction.floor:.4f}",
        f"({fraction.floor_95:.4f})",
    ]
    printed = [float(word.strip("()")) for word in lines[3].split("eps_S2")[1].replace("%", "").split() if word != ")"]
    wanted = [getattr(s2, f"{key}_percent") for key in ("discrepancy", "held_out_discrepancy", "floor", "floor_95")]
    assert printed == pytest.approx(wanted, abs=0.051)
    nearest = metrics.nearest_training_image
    assert lines[5].split()[-2:] == [f"{nearest.minimum_mse:.4f}", f"{nearest.held_out_minimum_mse:.4f}"]
    assert lines[-1] == "seconds: training data 1.2, training 240.0, sampling 8.8, together 250.0"


def with_features(**changes: Any) -> Evaluation:
    """An evaluation as it is with features, with values that are told apart by their digits."""
    evaluation, *_ = measured()
    title = {"frechet_distance": "Frechet distance (VGG-19)"}
    measures = {}
    for k, name in enumerate(("frechet_distance", "precision", "recall", "density", "coverage")):
        given: dict[str, Any] = {
            "name": title.get(name, f"{name} (VGG-19)"),
            "features": "vgg19",
            "value": 123.4 if k == 0 else 0.1 * k,
            "interval": (11.5, 140.2) if k == 0 else (0.1 * k - 0.05, 0.1 * k + 0.05),
            "held_out_value": None,
            "n_images": Counts(original=20, generated=17),
            "floor": 1.23 if k == 0 else 0.1 * k + 0.01,
            "floor_n_images": (10, 10),
            "value_at_floor_counts": 0.1 * k + 0.02,
            "reason": None,
        }
        measures[name] = FeatureMeasure(**{**given, **changes})
    return replace(evaluation, **measures, warnings=("few images " * 12 + "are few",))


def test_measures_by_features_are_in_both_tables(tmp_path: Path, blank_figures: None) -> None:
    metrics = with_features()
    text = console_table(metrics, SECONDS)
    assert all(len(line) <= 100 for line in text.splitlines())
    lines = table_of(text)
    assert lines[5].split() == "Frechet distance (VGG-19) 123 [11.50, 140] – 1.230".split()
    assert lines[6].split() == "precision (VGG-19) 0.100 [0.050, 0.150] – 0.110".split()
    text = " ".join(text.split())
    assert "10 and 10 real structures; of 10 real and 10 generated ones: Frechet distance (VGG-19) 0.020" in text
    assert "warning: few images few images" in text
    files, *_ = report(tmp_path, metrics=metrics)
    page = Page(files[0].read_text(encoding="utf-8"))
    text = " ".join(page.text.split())
    for words in ("11.50 to 140", "coverage (VGG-19)", "(eq. 19)", "Warning: few images", "Floors by features"):
        assert words in text
    assert "The Frechet distance (VGG-19) is 0.020; between real structures in the same numbers it is 1.230." in text


def test_floor_in_the_numbers_of_the_value_needs_no_second_figure() -> None:
    text = console_table(with_features(floor_n_images=(20, 17)), SECONDS)
    assert "disjoint sets of 20 and 17 real structures." in text
    assert "generated ones:" not in text


def test_measures_without_enough_images_say_why(tmp_path: Path, blank_figures: None) -> None:
    none = dict.fromkeys(("value", "interval", "floor", "value_at_floor_counts"))
    metrics = replace(with_features(**none, reason="needs at least 4 images"), warnings=())
    lines = table_of(console_table(metrics, SECONDS))
    assert lines[6].split() == ["precision", "(VGG-19)", "–", "–", "–"]
    assert not any("floors by features" in line for line in lines)
    files, *_ = report(tmp_path, metrics=metrics)
    text = Page(files[0].read_text(encoding="utf-8")).text
    assert "Partly not measured: needs at least 4 images." in text
    assert "The Frechet distance" not in text


def test_measures_that_were_not_asked_for_are_not_shown() -> None:
    text = console_table(measured()[0], SECONDS)
    assert not any(word in text for word in ("precision", "Frechet", "floors by features", "warning"))


def test_console_table_marks_what_was_not_measured() -> None:
    metrics = evaluate(noise(1, seed=0), noise(2, seed=1), n_phases=2, periodic=True)
    lines = table_of(console_table(metrics, {}))
    assert lines[4].split()[-2:] == ["–", "–"]
    assert "floor" not in lines[-2]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, Evaluation, np.ndarray, np.ndarray]:
    """A report with everything that is measured without features; structure 5 is a shifted copy of original 3."""
    original, generated = noise(40, seed=0), noise(17, seed=1)
    generated[5] = np.roll(original[3], (2, 7), axis=(0, 1))
    metrics = evaluate(original, generated, n_phases=2, periodic=True, training=original, boundary_phase=0)
    pairs = find_pairs(metrics.nearest_training_image.closest_pairs, generated, training=original)
    files, *_ = report(tmp_path_factory.mktemp("full"), metrics=metrics, generated=generated, pairs=pairs)
    return Page(files[0].read_text(encoding="utf-8")), metrics, original, generated


def test_closest_pairs_are_shown_with_where_they_differ(
    full: tuple[Page, Evaluation, np.ndarray, np.ndarray],
) -> None:
    page, metrics, original, generated = full
    nearest = metrics.nearest_training_image
    shown = {}
    for kind in ("Generated structure, seed", "Nearest training structure", "Map of where"):
        shown[kind] = [decoded(a["src"]) for a in page.attributes("img") if (a["alt"] or "").startswith(kind)]
    made, trained, maps = shown.values()
    made = [m for m, a in zip(made, _alts(page, "Generated structure, seed")) if "volume fraction" not in a]
    assert len(made) == len(trained) == len(maps) == 6
    for row, one, other, difference in zip(nearest.closest_pairs, made, trained, maps):
        np.testing.assert_array_equal(one, 255 * generated[row.generated_index])
        np.testing.assert_array_equal(difference, np.where(one != other, 255, 0))
        assert (difference > 0).mean() == pytest.approx(row.mse)
    np.testing.assert_array_equal(trained[0], 255 * generated[5])
    assert "seed 35: 0.0 % of the pixels differ" in page.text
    assert "nearest: training structure 3, shifted by 2, 7" in page.text
    assert "1 of the generated structures is an exact copy" in page.text


def _alts(page: Page, start: str) -> list[str]:
    return [a["alt"] or "" for a in page.attributes("img") if (a["alt"] or "").startswith(start)]


def test_page_names_each_measure_with_value_interval_floor_and_count(
    full: tuple[Page, Evaluation, np.ndarray, np.ndarray],
) -> None:
    page, metrics, *_ = full
    text = " ".join(page.text.split())
    surface, chords, grains = metrics.specific_surface, metrics.chord_length, metrics.grains
    z = metrics.data_copying
    for words in (
        f"{surface.difference:+.4f} ({surface.original:.4f})95 %: {surface.interval[0]:+.4f} to ",
        f"±{surface.floor:.4f} ({surface.floor_95:.4f}) 17 / 40",
        f"{chords.discrepancy_percent:.1f} %area, generated minus real, 95 %: ",
        f"95 %: {chords.difference_interval_percent[0]:+.1f} to ",
        f"{grains.diameter.kolmogorov_smirnov:.3f} ",
        f"{grains.n_grains.generated} / {grains.n_grains.original} grains",
        f"{grains.diameter.generated:.2f} ± {grains.diameter.generated_std:.2f} (generated)",
        f"{z.z:+.1f} 0 ± 2 17 / 20",
        "Unseen structures: one half of the training data",
    ):
        assert words in text, words
    for measure in ("two_point_correlation", "lineal_path"):
        for direction, values in getattr(metrics, measure).directions.items():
            percent = values.discrepancy_percent
            assert f"{direction} {percent:.{1 if percent >= 1 else 2}f} %" in text
    assert "Held-out part" not in text


def test_diagrams_have_texts_that_say_their_figures(full: tuple[Page, Evaluation, np.ndarray, np.ndarray]) -> None:
    page, metrics, *_ = full
    values = metrics.grains.diameter
    mean = f"original {values.original:.2f} ± {values.original_std:.2f}"
    assert any(mean in text for text in _alts(page, "Histograms of the equivalent diameter"))
    copying = metrics.data_copying
    (text,) = _alts(page, "Histograms of the distance")
    assert f"{copying.median_mse:.3f}, of unseen real ones {copying.real_median_mse:.3f}" in text
    assert len(page.attributes("source")) == 2 + 2 + 1


def test_summary_and_page_name_copies(full: tuple[Page, Evaluation, np.ndarray, np.ndarray]) -> None:
    original = noise(40, seed=0)
    real = evaluate(original, original[::-1].copy(), n_phases=2, periodic=True)
    copies = evaluate(original, original.copy(), n_phases=2, periodic=False, training=original)
    assert "40 of the generated structures are exact copies" in summary(copies)
    assert full[1].verdict.text in full[0].text
    assert "as copies are" in summary(copies)
    assert "cop" not in summary(replace(full[1], nearest_training_image=real.nearest_training_image))


def test_full_console_table_holds_each_measure_of_the_report(
    full: tuple[Page, Evaluation, np.ndarray, np.ndarray],
) -> None:
    page, metrics, *_ = full
    short, long = (console_table(metrics, SECONDS, full=choice) for choice in (False, True))
    assert all(len(line) <= 100 for line in long.splitlines())
    assert len(table_of(short)) - len(table_of(long)) == 4 - (4 + 4 + 4 + 4 + 1)
    rows = [line.split("  ")[0] for line in table_of(long)[2 : 2 + 4 + 4 + 4 + 4 + 1]]
    for name in rows:
        assert name in page.text


def test_drawn_histogram_is_the_measured_one() -> None:
    ax, edges = Figure().subplots(), [0.0, 1.0, 3.0]
    sets = {"one": [0.25, 0.75], "two": [1.0, 0.0]}
    figures._draw_histogram(ax, edges, sets, "t", "x", LIGHT)
    lines = [patch for patch in ax.patches if patch.get_label() in sets]
    for line, values in zip(lines, ([25, 75], [100, 0])):
        np.testing.assert_array_equal(line.get_data().values, values)
        np.testing.assert_array_equal(line.get_data().edges, edges)
    assert [line.get_linestyle() for line in lines] == ["-", "--"]


def test_a_dictionary_of_metrics_still_makes_the_same_report(tmp_path: Path, blank_figures: None) -> None:
    evaluation, *_ = measured()
    files = report(tmp_path / "new", metrics=evaluation)[0]
    with pytest.warns(DeprecationWarning, match="give an Evaluation"):
        others = report(tmp_path / "old", metrics=json.loads(files[3].read_text()))[0]
    for one, other in zip(files, others):
        assert one.read_bytes() == other.read_bytes()
    with pytest.raises(InputError, match="metrics must have"), pytest.warns(DeprecationWarning, match="give"):
        report(tmp_path / "wrong", metrics={"n_phases": 2})


@pytest.mark.parametrize("sparse", [True, False])
def test_nearness_of_sparser_structures_is_not_called_copying_alone(sparse: bool) -> None:
    original = noise(60, seed=0)
    generated = noise(60, seed=1) * noise(60, seed=2) * noise(60, seed=3) if sparse else original.copy()
    if sparse:
        original = (original + noise(60, seed=4) * (1 - original) * noise(60, seed=5) > 0) * noise(60, seed=6)
    metrics = evaluate(original, generated, n_phases=2, periodic=False, training=original)
    assert metrics.data_copying.z < -3
    assert "as copies are" in summary(metrics)
    assert ("their volume fraction deviates" in summary(metrics)) == sparse
