"""Models that are passed on: half precision, where they come from, the card, and what is compared with it."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_train import TINY

from mcrpy_diffusion.commands import cli
from mcrpy_diffusion.commands.parser import make_parser
from mcrpy_diffusion.data.micrograph import Micrograph, read_micrograph
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.against_statistics import evaluate_against_statistics
from mcrpy_diffusion.evaluation.evaluate import evaluate
from mcrpy_diffusion.evaluation.results import Counts
from mcrpy_diffusion.evaluation.summary import summarise
from mcrpy_diffusion.materials.recipes import built_in_reference, descriptor_settings
from mcrpy_diffusion.materials.reference import Reference
from mcrpy_diffusion.materials.resolve import recipe, resolve
from mcrpy_diffusion.materials.sources import MICROGRAPHS, find_origin
from mcrpy_diffusion.models import pretrained
from mcrpy_diffusion.models.checkpoint import ModelInfo, build_network, load_network, read_info, save_model
from mcrpy_diffusion.models.model import load_model
from mcrpy_diffusion.models.model_card import HalfPrecision, ModelCard, RecommendedSampling
from mcrpy_diffusion.settings import SAMPLERS, GenerationSettings, TrainingSettings, default_sampling, preset
from mcrpy_diffusion.training.train import read_dataset, train
from mcrpy_diffusion.workflow import export as exporting
from mcrpy_diffusion.workflow.export import commands, export

SETTINGS = replace(
    TINY, prediction="log_odds", schedule="cosine", learned_variance=False, condition_on_volume_fraction=True
)
FIBRES = ["--material", "fibre", "--extent_x", "16", "--extent_y", "16", "--radius", "2.5", "--seed", "3"]


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of fibres, a model of it, structures of the model, and their evaluation."""
    folder = tmp_path_factory.mktemp("work")
    assert run("generate", *FIBRES, "--n_samples", 12, "--n_jobs", 1, "--out", folder / "data") == 0
    (folder / "run").mkdir()
    train(read_dataset(folder / "data"), SETTINGS, folder / "run")
    model = folder / "run" / "model.safetensors"
    assert run("sample", "--model", model, "--n_samples", 8, "--n_steps", 4, "--out", folder / "made") == 0
    assert (
        run("evaluate", "--original", folder / "data", "--generated", folder / "made", "--out", folder / "report") == 0
    )
    return folder


@pytest.fixture(scope="module")
def exported(work: Path) -> Path:
    out = work / "tiny.safetensors"
    words = ("--metrics", work / "report" / "metrics.json", "--dataset", work / "data", "--n_steps", 5)
    assert run("export", "--model", work / "run", "--out", out, *words, "--limits", "Made of 12 structures.") == 0
    return out


def test_the_file_holds_rounded_weights_and_the_settings_as_they_were(work: Path, exported: Path) -> None:
    network, info = load_network(work / "run" / "model.safetensors")
    small, loaded = load_network(exported)
    assert replace(loaded, card=None) == info
    for (name, exact), (other, rounded) in zip(network.state_dict().items(), small.state_dict().items(), strict=True):
        assert name == other
        assert rounded.dtype == torch.float32
        torch.testing.assert_close(rounded, exact.half().float(), rtol=0, atol=0)
    assert exported.stat().st_size < 0.75 * (work / "run" / "model.safetensors").stat().st_size


def test_provenance_and_figures_are_inside(work: Path, exported: Path) -> None:
    info = read_info(exported)
    card, metrics = info.card, json.loads((work / "report" / "metrics.json").read_text())
    assert card is not None
    assert (card.name, card.licence) == ("tiny", "Apache 2.0")
    assert "generator of the material fibre" in card.source
    assert card.dataset.n_samples == 12
    assert "% 2**32" in card.dataset.seeds
    assert info.provenance["radius"] == 2.5
    assert card.figures.n_images.to_dict() == metrics["n_images"]
    eps = metrics["two_point_correlation"]["discrepancy_percent"]
    assert card.figures.two_point_correlation.discrepancy_percent == eps
    assert card.limits[-1] == "Made of 12 structures."
    text = exported.with_suffix(".md").read_text()
    assert text == pretrained.card_text(exported)
    for said in (
        f"| eps_S2 | {eps:.2f} % |",
        "8 generated, 12 original structures",
        "Apache 2.0",
        "ddpm, 5 steps",
    ):
        assert said in text


def test_the_share_of_differing_pixels_is_that_of_the_two_files(work: Path, exported: Path) -> None:
    card = read_info(exported).card
    assert card is not None
    exact = load_model(work / "run").sample(16, n_steps=5, sampler="ddpm")
    share = np.mean(exact != load_model(exported).sample(16))
    assert card.half_precision == HalfPrecision(16, share)
    assert share < 0.05


def test_the_recommended_sampler_is_taken_unless_another_is_given(exported: Path) -> None:
    info = read_info(exported)

    def chosen(**given: object) -> tuple[str, int]:
        settings = info.sampling_settings(**given)
        return settings.sampler, settings.n_sampling_steps

    assert chosen() == chosen(sampler="ddpm") == chosen(sampler=None) == ("ddpm", 5)
    assert chosen(n_sampling_steps=7) == ("ddpm", 7)
    assert chosen(sampler="ddim") == chosen(eta=0.5) == ("ddim", 150)
    for prediction, n_timesteps, usual in (
        ("log_odds", 1000, ("ddpm", 50)),
        ("log_odds", 30, ("ddpm", 30)),
        ("v", 1000, ("dpm_solver", 20)),
        ("epsilon", 1000, ("ddim", 150)),
        ("epsilon", 100, ("ddim", 100)),
    ):
        settings = info.settings.replace(prediction=prediction, loss="simple", n_timesteps=n_timesteps)
        without = replace(info, card=None, settings=settings).sampling_settings()
        assert (without.sampler, without.n_sampling_steps) == usual
    with pytest.raises(InputError, match="sampler must be one of"):
        chosen(sampler="x")
    steps: list[dict] = []
    load_model(exported).sample(1, callback=steps.append)
    assert len(steps) == 5


@pytest.mark.parametrize(
    ("words", "recommended"),
    [
        ([], ("ddpm", 50)),
        (["--sampler", "ddpm"], ("ddpm", 50)),
        (["--sampler", "dpm_solver"], ("dpm_solver", 20)),
        (["--sampler", "ddim"], ("ddim", 100)),  # as many as the model has times
        (["--sampler", "ddim", "--n_steps", 3], ("ddim", 3)),
        (["--n_steps", 3], ("ddpm", 3)),
    ],
)
def test_a_sampler_is_recommended_with_its_own_number_of_steps(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list, recommended: tuple[str, int]
) -> None:
    monkeypatch.setattr(exporting, "N_COMPARED", 1)
    out = tmp_path / "m.safetensors"
    assert run("export", "--model", work / "run", "--out", out, *words) == 0
    settings = read_info(out).sampling_settings()
    assert (settings.sampler, settings.n_sampling_steps) == recommended


def test_a_model_that_is_exported_again_keeps_its_card(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card, out = read_info(exported).card, tmp_path / "again.safetensors"
    assert card is not None
    assert run("export", "--model", exported, "--out", out) == 0
    assert read_info(out).card == replace(card, name="again")
    assert "\nthe figures of the model's card are kept\n" in capsys.readouterr().out
    words = ["--sampler", "dpm_solver", "--limits", "None."]
    assert run("export", "--model", exported, "--out", out, *words) == 0  # in place of its own card
    said = (
        "the figures of the model's card are left out: they hold for ddpm, 5 steps, this card recommends dpm_solver, 20"
    )
    assert said in capsys.readouterr().out
    again = read_info(out).card
    assert again is not None
    assert again.sampling == RecommendedSampling("dpm_solver", 20)
    assert again.figures is again.statistics is None
    assert again.limits == [*card.limits, "None."]
    assert (again.dataset, again.commands) == (card.dataset, card.commands)


def test_figures_are_not_kept_for_weights_that_are_rounded(work: Path, exported: Path, tmp_path: Path) -> None:
    network, _ = load_network(work / "run" / "model.safetensors")
    save_model(tmp_path / "exact.safetensors", network.state_dict(), read_info(exported))
    export(tmp_path / "exact.safetensors", tmp_path / "m.safetensors")
    made = read_info(tmp_path / "m.safetensors").card
    assert made is not None
    assert made.figures is made.statistics is None
    assert made.half_precision == read_info(exported).card.half_precision  # measured anew


def test_the_usual_steps_are_those_of_default_sampling() -> None:
    assert SETTINGS.n_timesteps == 100
    usual = [
        default_sampling(TrainingSettings(prediction=p, learned_variance=False)) for p in ("log_odds", "v", "epsilon")
    ]
    found = {each.sampler: each.n_sampling_steps for each in usual}
    assert found == {"ddpm": 50, "dpm_solver": 20, "ddim": 150}
    assert found.items() <= {k: s.n_sampling_steps for k, s in SAMPLERS.items()}.items()


def test_the_commands_in_the_card_make_the_same_data_and_settings(work: Path, exported: Path) -> None:
    card = read_info(exported).card
    assert card is not None
    generated, trained = (shlex.split(line)[1:] for line in card.commands)
    generated[generated.index("DATA")] = str(work / "again")
    assert run(*generated, "--n_jobs", 1) == 0
    lines = [sorted((work / folder / "samples.jsonl").read_text().splitlines()) for folder in ("data", "again")]
    assert lines[0] == lines[1]
    options = vars(make_parser().parse_args(trained))
    given = {k: v for k, v in options.items() if k in TrainingSettings.__dataclass_fields__ and v is not None}
    assert preset(options["preset"]).training.replace(**given).identity() == SETTINGS.identity()


@pytest.mark.parametrize("material", ["carbonate", None])
def test_the_command_of_reconstructed_training_data_has_all_of_their_recipe(material: str | None) -> None:
    settings = GenerationSettings(training_data="descriptors", n_training_samples=7, periodic=False, isotropic=True)
    settings = settings.replace(descriptor_types=("FFTCorrelations", "LinealPathFunction"), seed=4)
    phases = np.zeros((64, 64), np.uint8)
    image = built_in_reference("carbonate", (64, 64)) if material else Micrograph("m", phases, 2, None, "0" * 64, "m")
    reference = Reference("m", 2, (image.sha256,), (image,))
    settings = resolve(settings, reference)
    info = ModelInfo(TINY, 2, (64, 64), False, provenance=recipe(settings, reference))
    known = find_origin(info.provenance)
    assert (known is not None and known.built_in) == (material or False)
    words = shlex.split(commands(info, material)[0])[1:]
    options = vars(make_parser().parse_args(words))
    given = {k: v for k, v in options.items() if k in GenerationSettings.__dataclass_fields__ and v is not None}
    start = descriptor_settings(material, {}, paper_recipe=False) if material else GenerationSettings()
    assert recipe(start.replace(**given), reference) == info.provenance
    assert ("--material" in words) == bool(material)


@pytest.mark.parametrize(
    ("kind", "n_references", "start"),
    [
        ("crops", 1, "--micrograph MICROGRAPH"),
        ("crops", 3, "--images IMAGES"),
        ("descriptors", 3, "--micrograph MICROGRAPHS"),
    ],
)
def test_the_command_says_what_it_is_to_be_given(kind: str, n_references: int, start: str) -> None:
    settings = GenerationSettings(training_data=kind, n_training_samples=7)
    provenance = settings.to_dict() | {"reference_sha256": [str(i) * 64 for i in range(n_references)]}
    command = commands(ModelInfo(TINY, 2, (64, 64), False, provenance=provenance))[0]
    assert command.startswith(f"mcrpy_diffusion generate {start} --")
    assert command.endswith("--n_training_samples 7 --out DATA")


def test_published_micrographs_are_recognised(microstructures: Path) -> None:
    files = sorted(microstructures.glob("*.npy"))
    found = {read_micrograph(file, use_multiphase=True).sha256: file.stem for file in files}
    assert set(found) == set(MICROGRAPHS)
    for sha256, stem in found.items():
        assert MICROGRAPHS[sha256].lower().startswith(stem.split("_")[0])
        source = find_origin({"training_data": "crops", "reference_sha256": [sha256]})
        assert source is not None
        assert source.licence == "CC BY 4.0"
        assert "Scientific Reports 8 (2018), 13461" in source.text
    assert find_origin({"training_data": "crops", "reference_sha256": [*found, "0" * 64]}) is None


@pytest.fixture(scope="module")
def inputs(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that cannot be exported, or stand in the way; the model can be."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "other.json").write_text('{"n_phases": 3}')
    (folder / "few.json").write_text('{"n_phases": 2}')
    metrics = json.loads((work / "report" / "metrics.json").read_text())
    metrics["volume_fraction"]["difference"] = float("nan")
    (folder / "nan.json").write_text(json.dumps(metrics))
    for name in ("notes", "large", "small"):
        (folder / f"{name}.md").write_text("# Notes\n")
    network, info = load_network(work / "run" / "model.safetensors")
    foreign = replace(info, provenance={"reference_sha256": ["0" * 64]})
    save_model(folder / "foreign.safetensors", network.state_dict(), foreign)
    save_model(folder / "large.safetensors", {k: v * 1e9 for k, v in network.state_dict().items()}, foreign)
    save_model(folder / "small.safetensors", network.state_dict(), replace(info, card=ModelCard("small")))
    return folder


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "m.pt"], "must end in .safetensors"),
        (["--model", "foreign.safetensors", "--out", "foreign.safetensors"], "would be rounded"),
        (["--name", "../up"], "got '../up'"),
        (["--out", "nowhere/m.safetensors"], "in an existing folder"),
        (["--metrics", "missing.json"], "missing.json: not a readable metrics.json"),
        (["--metrics", "other.json"], "other.json: must have"),
        (["--metrics", "few.json"], "few.json: must have"),
        (["--metrics", "nan.json"], "volume_fraction.difference must be between"),
        (["--description", "two\nlines"], "description must be text of one line"),
        (["--out", "notes.safetensors"], "notes.md: exists and is not the card of notes.safetensors"),
        (["--out", "large.safetensors"], "large.md: exists and is not the card of large.safetensors"),
        (["--out", "small.safetensors"], "small.md: exists and is not the card of small.safetensors"),
        (["--dataset", "missing"], "missing"),
        (["--sampler", "x"], "invalid choice: 'x'"),
        (["--n_steps", "0"], "n_steps must be at least 1, got 0"),
        (["--n_steps", "101"], "n_sampling_steps must be between 1 and 100"),
        (["--model", "nothing"], "nothing: no such model"),
        (["--model", "foreign.safetensors"], "give --source and --licence"),
        (["--model", "foreign.safetensors", "--source", "a sketch"], "give --source and --licence"),
        (["--model", "large.safetensors", "--source", "a sketch", "--licence", "none"], "not within +-65504"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_no_file(
    work: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words, said
) -> None:
    monkeypatch.chdir(inputs)
    monkeypatch.setattr(exporting, "N_COMPARED", 1)
    before = {path: path.read_bytes() for path in inputs.iterdir()}
    assert run("export", "--model", work / "run", "--out", "m.safetensors", *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in inputs.iterdir()} == before


def test_another_data_set_than_that_of_the_training_is_refused(work: Path, tmp_path: Path) -> None:
    words = ["--material", "fibre", "--extent_x", 16, "--extent_y", 16, "--radius", 3, "--n_samples", 2]
    assert run("generate", *words, "--n_jobs", 1, "--out", tmp_path / "data") == 0
    with pytest.raises(InputError, match="not the data set that the model was trained on"):
        export(work / "run", tmp_path / "m.safetensors", dataset=tmp_path / "data")


def test_a_card_with_unknown_content_is_refused(tmp_path: Path) -> None:
    info = ModelInfo(TINY, 2, (8, 8), True)
    values = info.to_dict()
    assert "card" not in values
    with pytest.raises(InputError, match="card must have no other keys.*colour"):
        ModelInfo.from_dict({**values, "card": {"name": "m", "colour": 1}})
    for change, said in (
        ({"name": "../../up"}, "the name must be"),
        ({"name": "/up"}, "the name must be"),
        ({"limits": [1]}, "limits must be text"),
        ({"licence": "\x1b[2J"}, "licence must be text of one line"),
        ({"limits": ["fine", "\x07"]}, "limits must be text of one line"),
        (
            {"sampling": {"sampler": "ddim", "n_sampling_steps": 5, "n_samples": 10**9}},
            "sampling must have no other keys",
        ),
        ({"figures": {"a": 1}}, "figures must have n_images"),
    ):
        with pytest.raises(InputError, match=said):
            ModelInfo.from_dict({**values, "card": {"name": "m", **change}})
    assert ModelInfo.from_dict({**values, "card": ModelCard("m").to_dict()}) == replace(info, card=ModelCard("m"))
    save_model(tmp_path / "m.safetensors", build_network(info).state_dict(), info)
    with pytest.raises(InputError, match="m.safetensors has no card"):
        pretrained.card_text(tmp_path / "m.safetensors")


# --- comparing with the statistics that a model carries ---


def noise(n: int, *, seed: int, n_phases: int, density: float = 0.0) -> np.ndarray:
    values = np.random.default_rng(seed).random((n, 12, 10)) * n_phases + density
    return np.minimum(values, n_phases - 1).astype(np.uint8)


@pytest.mark.parametrize("n_phases", [2, 3])
@pytest.mark.parametrize("periodic", [True, False])
def test_statistics_give_what_the_structures_themselves_give(n_phases: int, periodic: bool) -> None:
    original, generated = noise(40, seed=0, n_phases=n_phases), noise(20, seed=1, n_phases=n_phases, density=0.1)
    measured = evaluate(original, generated, n_phases=n_phases, periodic=periodic)
    figures, statistics = summarise(measured)
    again = evaluate_against_statistics(generated, figures, statistics, n_phases=n_phases)
    assert again.n_images == Counts(original=40, generated=20)
    fraction = again.volume_fraction
    assert fraction.phase == measured.volume_fraction.phase
    for key in ("original", "generated", "difference", "floor"):
        assert getattr(fraction, key) == pytest.approx(getattr(measured.volume_fraction, key), abs=1e-6)
    for measure in ("two_point_correlation", "lineal_path"):
        for key in ("discrepancy_percent", "floor_percent"):
            assert getattr(getattr(again, measure), key) == pytest.approx(
                getattr(getattr(measured, measure), key), abs=1e-3
            )
    independent = measured.nearest_training_image.independent_mse
    assert again.nearest_training_image.independent_mse == pytest.approx(independent, abs=0.01)


def test_floors_grow_with_fewer_structures() -> None:
    original, generated = noise(300, seed=0, n_phases=2), noise(64, seed=1, n_phases=2)
    figures, statistics = summarise(evaluate(original, generated, n_phases=2, periodic=True))
    few = evaluate_against_statistics(generated[:16], figures, statistics, n_phases=2)
    measured = evaluate(original, generated[:16], n_phases=2, periodic=True)
    for measure, key in (("volume_fraction", "floor"), ("two_point_correlation", "floor_percent")):
        expected = ((1 / 16 + 1 / 300) / (1 / 64 + 1 / 300)) ** 0.5
        assert getattr(getattr(few, measure), key) == pytest.approx(expected * getattr(getattr(figures, measure), key))
        assert getattr(getattr(few, measure), key) == pytest.approx(getattr(getattr(measured, measure), key), rel=0.15)


def test_floors_fall_with_a_larger_area() -> None:
    original, generated = noise(300, seed=0, n_phases=2), noise(16, seed=1, n_phases=2)
    figures, statistics = summarise(evaluate(original, generated, n_phases=2, periodic=True))
    large = np.random.default_rng(2).integers(0, 2, (16, 24, 20), dtype=np.uint8)
    found = evaluate_against_statistics(large, figures, statistics, n_phases=2)
    expected = ((1 / 64 + 1 / 300) / (1 / 16 + 1 / 300)) ** 0.5
    assert found.volume_fraction.floor == pytest.approx(figures.volume_fraction.floor * expected)


def test_smaller_structures_are_compared_up_to_their_own_distances() -> None:
    figures, statistics = summarise(
        evaluate(noise(9, seed=0, n_phases=2), noise(9, seed=1, n_phases=2), n_phases=2, periodic=True)
    )
    small = evaluate_against_statistics(noise(3, seed=2, n_phases=2)[:, :8, :8], figures, statistics, n_phases=2)
    assert small.curves.distance == (0, 1, 2, 3)
    assert len(small.curves.phases["1"].lineal_path.original.mean) == 4
