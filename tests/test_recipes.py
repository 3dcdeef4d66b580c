"""Data sets of the named materials: settings, seeds, files, and invalid options."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mcrpy_diffusion.commands import cli
from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials import fibres, polycrystal, recipes
from mcrpy_diffusion.materials import generate_material as named
from mcrpy_diffusion.materials.acceptance import two_point_of
from mcrpy_diffusion.materials.generate import generate_from_images
from mcrpy_diffusion.materials.generate_material import generate_material
from mcrpy_diffusion.materials.reference import reference_from_images
from mcrpy_diffusion.metrics.spatial_statistics import discrepancy
from mcrpy_diffusion.settings import AlloySettings, FibreSettings

SMALL = {"extent_x": 32, "extent_y": 40, "n_training_samples": 5}


def command(*words):
    return cli.main([str(word) for word in words])


def test_defaults_are_the_papers_and_survive_json():
    alloy, fibre = AlloySettings(), FibreSettings()
    assert dict(zip(alloy.size_ratios, alloy.volume_fractions, strict=True)) == {
        1: 0.15,
        2: 0.2,
        2.5: 0.3,
        3: 0.2,
        4: 0.15,
    }
    assert (fibre.volume_fraction, fibre.shape, fibre.radius_deviation) == (0.35, "disc", 0.0)
    assert alloy.periodic
    assert fibre.periodic
    for settings in (alloy, fibre):
        assert type(settings).from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_every_setting_of_a_recipe_is_an_option(capsys):
    with pytest.raises(SystemExit):
        command("generate", "--help")
    shown = capsys.readouterr().out
    for settings in (AlloySettings, FibreSettings):
        for name in settings.__dataclass_fields__:
            assert f"--{name} " in shown
    assert "--n_samples" in shown


def test_sample_i_is_the_structure_of_seed_i_with_any_number_of_workers(tmp_path):
    for n_jobs in (1, 2):
        folder = generate_material("fibre", {**SMALL, "seed": 3}, tmp_path / str(n_jobs), n_jobs=n_jobs)
        dataset = Dataset.open(folder)
        assert dataset.is_complete
        settings = FibreSettings(extent_x=32, extent_y=40)
        expected = np.stack([fibres.make(3_000_000 + i, settings) for i in range(5)])
        np.testing.assert_array_equal(dataset.load(), expected)
        lines = sorted(dataset.samples, key=lambda line: line["index"])
        assert [line["seed"] for line in lines] == [3_000_000 + i for i in range(5)]
        assert [line["volume_fraction"] for line in lines] == [image.mean() for image in expected]


def test_alloy_has_grain_ids_and_provenance(tmp_path):
    out = tmp_path / "alloy"
    words = ("--extent_x", 48, "--extent_y", 44, "--grain_size", 8, "--boundary_width", 2.5, "--grain_ids")
    assert command("generate", "--material", "alloy", "--n_samples", 2, "--n_jobs", 1, "--out", out, *words) == 0
    settings = AlloySettings(extent_x=48, extent_y=44, grain_size=8.0, boundary_width=2.5)
    for seed, phases in enumerate(Dataset.open(out).load()):
        made = polycrystal.make_polycrystal(seed, settings)
        np.testing.assert_array_equal(phases, made.phases)
        np.testing.assert_array_equal(np.load(out / "grain_ids" / f"{seed:06d}.npy"), made.grain_ids)
    info = json.loads((out / "dataset.json").read_text())
    assert info["recipe"]["material"] == "alloy"
    assert info["recipe"]["size_ratios"] == [1.0, 2.0, 2.5, 3.0, 4.0]
    assert info["recipe"]["boundary_width"] == 2.5
    assert info["recipe"]["periodic"] is True
    assert "microstructpy" in info["versions"]


def test_generation_is_resumed_and_another_recipe_rejected(tmp_path, monkeypatch):
    append, count = Dataset.append, [0]

    def stop_at_the_third(*arguments, **facts):
        count[0] += 1
        if count[0] == 3:
            raise KeyboardInterrupt
        return append(*arguments, **facts)

    monkeypatch.setattr(Dataset, "append", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        generate_material("fibre", SMALL, tmp_path / "stopped", n_jobs=1)
    stopped = Dataset.open(tmp_path / "stopped")
    assert stopped.n_accepted == 2
    monkeypatch.undo()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "stopped" / "samples").iterdir()}
    assert len(times) == 2
    generate_material("fibre", SMALL, tmp_path / "stopped", n_jobs=1)
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    whole = Dataset.open(generate_material("fibre", SMALL, tmp_path / "whole", n_jobs=1))
    np.testing.assert_array_equal(Dataset.open(tmp_path / "stopped").load(), whole.load())
    with pytest.raises(InputError, match="radius: 5.0 -> 4.0"):
        generate_material("fibre", {**SMALL, "radius": 4.0}, tmp_path / "whole", n_jobs=1)


def test_seeds_without_a_structure_are_rejected_with_a_reason(monkeypatch):
    def never(seed, settings):
        raise InputError("no place")

    settings = FibreSettings(extent_x=32, extent_y=40)
    made = recipes.DirectSource(settings).start()(4, 7)
    np.testing.assert_array_equal(made.phases, fibres.make(7, settings))
    monkeypatch.setattr(fibres, "make", never)
    refused = recipes.DirectSource(settings).start()(4, 7)
    assert (refused.reason, refused.facts) == ("not placed", {"problem": "no place"})


def test_defaults_of_materials_that_mcrpy_reconstructs():
    fast = recipes.descriptor_settings("ceramics", {}, paper_recipe=False)
    assert (fast.descriptor_types, fast.optimizer_type, fast.loss_type) == (("FFTCorrelations",), "LBFGSB", "MSE")
    paper = recipes.descriptor_settings("pmma", {}, paper_recipe=True)
    assert (paper.descriptor_types, paper.optimizer_type, paper.loss_type) == (("Correlations",), "TNC", "RMS")
    copolymer = recipes.descriptor_settings("copolymer", {"max_iter": 7}, paper_recipe=False)
    assert (copolymer.descriptor_types, copolymer.optimizer_type) == (("GramMatrices",), "LBFGSB")
    assert (paper.volume_fraction_tolerance, copolymer.volume_fraction_tolerance) == (0.003, 0.02)
    assert (copolymer.loss_type, copolymer.max_iter) == ("MSE", 7)  # given options take precedence
    assert all(each.training_data == "descriptors" for each in (fast, paper, copolymer))


def test_pmma_matches_s2_up_to_a_quarter_of_the_extent():
    pmma = recipes.descriptor_settings("pmma", {"extent_y": 48}, paper_recipe=False)
    assert (pmma.descriptor_types, pmma.descriptor_weights) == (("FFTCorrelations", "VolumeFractions"), (1.0, 3.0))
    assert (pmma.limit_to, pmma.max_iter) == (12, 500)
    assert recipes.descriptor_settings("pmma", {"limit_to": 20}, paper_recipe=False).limit_to == 20
    assert recipes.descriptor_settings("pmma", {}, paper_recipe=True).limit_to == 16
    alone = recipes.descriptor_settings("pmma", {"descriptor_types": ("FFTCorrelations",)}, paper_recipe=False)
    assert alone.descriptor_weights is None
    assert recipes.built_in_reference("pmma", (64, 96)).phases.shape == (64, 96)


@pytest.mark.slow
def test_pmma_has_two_phases_and_is_not_a_copy(tmp_path, samples_made_here):
    out = tmp_path / "pmma"
    assert command("generate", "--material", "pmma", "--n_samples", 4, "--n_jobs", 1, "--out", out) == 0
    dataset = Dataset.open(out)
    reference = recipes.built_in_reference("pmma", (64, 64)).phases
    assert dataset.load().mean() == pytest.approx(reference.mean(), abs=0.0005)
    curves = np.mean([two_point_of(phases, 2, True, 31)[0] for phases in dataset.load()], axis=0)
    assert discrepancy(two_point_of(reference, 2, True, 31)[0], curves) < 8.0  # 18 with S2 alone, over the whole window
    assert min(line["distance"] for line in dataset.samples if line["accepted"]) > 0.005


def test_a_reconstructed_material_is_treated_like_a_micrograph(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(named, "generate", lambda *arguments, **options: seen.append(arguments) or tmp_path)
    generate_material("carbonate", {"extent_x": 32}, tmp_path)
    settings, reference, folder = seen[0]
    assert settings.training_data == "descriptors"
    assert settings.limit_to == 16
    assert reference.images[0].shape == (256, 256)
    assert reference.images[0].mean() == pytest.approx(0.139, abs=0.001)
    assert folder == tmp_path


@pytest.mark.slow
def test_carbonate_from_the_built_in_image(tmp_path, samples_made_here):
    out = tmp_path / "carbonate"
    assert command("generate", "--material", "carbonate", "--n_samples", 2, "--n_jobs", 1, "--out", out) == 0
    made = Dataset.open(out).load()
    assert made.shape == (2, 64, 64)
    assert made.mean() == pytest.approx(0.139, abs=0.01)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--material", "wood"), "invalid choice: 'wood'"),
        (("--material", "alloy", "--radius", "4"), "unknown AlloySettings radius"),
        (("--material", "carbonate", "--radius", "4"), "unknown GenerationSettings radius"),
        (("--material", "fibre", "--descriptor_types", "Correlations"), "unknown FibreSettings descriptor_types"),
        (("--material", "fibre", "--volume_fraction", "0.5"), "jam at 0.547"),
        (("--material", "fibre", "--grain_ids"), "must be alloy"),
        (("--micrograph", "a.npy", "--paper_recipe"), "need --material"),
        (("--micrograph", "a.npy", "--images", "b"), "give one of"),
        (("--material", "alloy", "--images", "b"), "give one of"),
        (("--images", "missing"), "'missing' does not exist"),
    ],
)
def test_incompatible_options_are_rejected_before_anything_is_written(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert command("generate", *words, "--out", "x", "--n_jobs", 1) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_material_with_a_generator_has_no_reference(tmp_path):
    np.save(tmp_path / "m.npy", np.eye(64, dtype=np.uint8))
    assert command("generate", "--material", "fibre", "--micrograph", tmp_path / "m.npy", "--out", tmp_path / "x") == 2


def test_crops_of_a_folder_of_images(tmp_path):
    generator = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    images = generator.integers(0, 2, (6, 16, 16), dtype=np.uint8)
    for k, image in enumerate(images):
        np.save(tmp_path / "images" / f"{k}.npy", image)
    extent = {"extent_x": 16, "extent_y": 16}
    dataset = Dataset.open(
        generate_from_images(reference_from_images([str(tmp_path / "images")], extent), extent, tmp_path / "all")
    )
    np.testing.assert_array_equal(dataset.load(), images)  # each position once
    assert dataset.info["recipe"]["n_training_samples"] == 6
    smaller = {"extent_x": 12, "extent_y": 14, "n_training_samples": 20, "held_out_fraction": 0.0}
    dataset = Dataset.open(
        generate_from_images(reference_from_images([str(tmp_path / "images")], smaller), smaller, tmp_path / "some")
    )
    assert dataset.load().shape == (20, 12, 14)
    with pytest.raises(InputError, match="smaller than the extent"):
        generate_from_images(reference_from_images([str(tmp_path / "images")], {}), {}, tmp_path / "none")
    with pytest.raises(InputError, match="at least 2 crop positions, got 1"):
        generate_from_images(
            reference_from_images([str(tmp_path / "images" / "0.npy")], extent), extent, tmp_path / "one"
        )
    assert not (tmp_path / "none").exists()
    assert not (tmp_path / "one").exists()
