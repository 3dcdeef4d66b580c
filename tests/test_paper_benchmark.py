"""The benchmark of the paper's results: settings, tables, figures, and that it goes on where it was stopped."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path += [str(BENCHMARKS.parent), str(BENCHMARKS)]  # last: the installed package stays the one that is tested

from benchmarks.paper import ablation, figures, measure, run, tables  # noqa: E402
from benchmarks.paper.make import draw_set, made_with, make_data, read_set  # noqa: E402
from benchmarks.paper.plan import Plan  # noqa: E402
from benchmarks.paper.published import PAPER  # noqa: E402
from mcrpy_diffusion.errors import InputError  # noqa: E402
from mcrpy_diffusion.evaluation.step_study import HEADINGS  # noqa: E402
from mcrpy_diffusion.metrics.directions import anisotropy, curves_along  # noqa: E402
from mcrpy_diffusion.metrics.spatial_statistics import DIRECTIONS_2D, two_point_correlation  # noqa: E402
from mcrpy_diffusion.models.checkpoint import save_model  # noqa: E402
from mcrpy_diffusion.models.model import load_model  # noqa: E402
from mcrpy_diffusion.settings import SamplingSettings, preset  # noqa: E402

TINY = "batch_size=2 channels=8 channel_multipliers=[1,2] n_timesteps=400 warmup_steps=0 precision=float32".split()
ARGUMENTS = ("--materials", "fibre", "--n_training", "12", "--n_held_out", "12", "--n_samples", "12", "--n_jobs", "1")


def command(tmp_path: Path, step: str, *options: str, n_steps: int = 2) -> int:
    folders = ("--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"), "--features", "none")
    return run.main([step, *ARGUMENTS, "--set", *TINY, "--steps", str(n_steps), *folders, *options])


def test_a_killed_run_goes_on_and_a_finished_one_is_left_as_it_is(tmp_path, capsys):
    assert command(tmp_path, "train") == 2  # no data yet
    assert "give a data set's folder" in capsys.readouterr().err
    assert command(tmp_path, "all") == 0
    out, own = tmp_path / "out" / "small_64", tmp_path / "work" / "small_64" / "fibre"
    assert {path.name for path in out.glob("*.md")} == {f"{name}.md" for name in tables.TABLES}
    assert {path.name for path in out.glob("*.png")} == {f"figure_{n}.png" for n in (2, 3, 4, 6, 7)}
    metrics = json.loads((out / "metrics" / "fibre_ddim_150.json").read_text())
    assert metrics["n_images"] == {"original": 12, "generated": 12, "training": 12, "held_out": 12}
    assert metrics["run"]["training_steps"] == 2
    assert metrics["run"]["changes"]
    assert metrics["nearest_training_image"]["n_images"]["training"] == 12
    assert "2 x 2" in (out / "table_4.md").read_text()
    training, held_out = (
        np.stack([np.load(f) for f in (tmp_path / "work" / "data_64" / "fibre" / kind / "samples").glob("*.npy")])
        for kind in ("training", "held_out")
    )
    assert not (training[:, None] == held_out[None]).all(axis=(2, 3)).any()

    files = [file for file in own.rglob("*") if file.is_file()] + [*out.glob("metrics/*.json")]
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}
    lost = own / "ddpm_50" / "3.npy"
    lost.unlink()
    (out / "metrics" / "fibre_ddpm_50.json").unlink()
    assert command(tmp_path, "all") == 0
    changed = {file.name for file, (time, _) in before.items() if file.stat().st_mtime_ns != time}
    assert changed == {"3.npy", "fibre_ddpm_50.json", "record.json"}
    assert lost.read_bytes() == before[lost][1]

    capsys.readouterr()
    assert command(tmp_path, "all", n_steps=3) == 2
    assert "n_training_steps: 2 -> 3" in capsys.readouterr().err

    cases = ("ablate", "--cases", "base", "sampler_dpm_solver_10", "not_held", "--n_ablation_samples", "4")
    assert command(tmp_path, *cases) == 0
    models = [*(tmp_path / "work" / "small_64_ablation").rglob("model.safetensors")]
    assert [path.parent.name for path in models] == ["base"]
    path = out / "ablation" / "fibre" / "sampler_dpm_solver_10.json"
    time = path.stat().st_mtime_ns
    (path.parent / ablation.INSIGHTS).write_text('{"base": "the start of all"}')
    assert command(tmp_path, *cases) == 0
    assert path.stat().st_mtime_ns == time
    table = (path.parent / "ablation.md").read_text()
    assert "the start of all" in table
    assert "sampler dpm_solver, n_sampling_steps 10" in table

    path = out / "metrics" / "fibre_ddpm_50.json"
    assert json.loads(path.read_text())["data_copying"]["z"] is not None  # copies of its training set are looked for
    # the tables say what the model was made with, whatever is asked for now
    assert command(tmp_path, "evaluate", "--n_samples", "5", "--set", *TINY, "learning_rate=0.5") == 0
    changes = json.loads(path.read_text())["run"]["changes"]
    assert "channels: 40 -> 8" in changes
    assert not any("learning_rate" in change for change in changes)


def test_shipped_models_are_measured_without_training(tmp_path):
    folders = ("--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"), "--features", "none")
    options = (*ARGUMENTS, "--n_samples", "4", "--samplers", "ddpm", "--shipped", *folders)
    for step in ("data", "train", "sample", "evaluate", "tables"):
        assert run.main([step, *options]) == 0
    own = tmp_path / "work" / "small_64_shipped" / "fibre"
    assert not (own / "model.safetensors").exists()
    drawn = np.stack([np.load(own / "ddpm_50" / f"{seed}.npy") for seed in range(4)])
    assert (drawn == load_model("fibre").sample(4, seed=0)).all()
    metrics = json.loads((tmp_path / "out" / "small_64" / "metrics" / "fibre_ddpm_50.json").read_text())
    assert (metrics["run"]["training_steps"], metrics["run"]["changes"]) == (4000, [])
    assert metrics["nearest_training_image"]["n_exact_copies"] is None  # the model has not seen this training set
    assert " --shipped " in (tmp_path / "out" / "small_64" / "summary.md").read_text()


def test_shipped_models_draw_large_structures_which_the_tables_say(tmp_path):
    folders = {"work": tmp_path / "work", "results": tmp_path / "out", "sampler_types": ("dpm_solver",)}
    counts = {"n_training": 3, "n_held_out": 4, "n_samples": 2}
    plan = Plan(extent=256, materials=("fibre",), shipped=True, features=("none",), n_jobs=1, **counts, **folders)
    few = replace(plan.samplers[0], n_sampling_steps=2)
    make_data(plan, "fibre")
    assert draw_set(plan, "fibre", few).shape == (2, 256, 256)
    assert measure.facts(plan, "fibre", few)["changes"] == ["trained at 64 x 64 pixels"]
    sets = (read_set(plan, "fibre", kind) for kind in ("held_out", "held_out", "training"))
    options = {"n_phases": 2, "periodic": True, "boundary_phase": None, "features": [], "cache": tmp_path}
    found = measure.measure(*sets, trained_on=False, **options)  # of sets that the model has not seen
    assert found["data_copying"]["z"] is None
    assert found["nearest_training_image"]["n_exact_copies"] is None


def test_shipped_models_are_those_of_the_package(tmp_path, monkeypatch):
    (tmp_path / "fibre").mkdir()
    (tmp_path / "fibre" / "model.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    plan = Plan(shipped=True)
    assert load_model(plan.model_path("fibre")).info.provenance["material"] == "fibre"


def test_structures_depend_on_the_weights_and_not_on_the_card(tmp_path):
    shipped = Plan(shipped=True).model_path("fibre")
    model, settings = load_model(shipped), SamplingSettings(n_samples=1)
    other = tmp_path / "model.safetensors"
    save_model(other, model.network.state_dict(), replace(model.info, card=None))
    assert made_with(other, settings) == made_with(shipped, settings)
    state = model.network.state_dict()
    save_model(other, {k: v + (k == min(state)) for k, v in state.items()}, model.info)
    assert made_with(other, settings) != made_with(shipped, settings)


def test_commands_under_a_table_are_those_that_made_its_rows():
    found = [canned(material, eps=1) for material in ("alloy", "fibre", "carbonate", "ceramics", "pmma", "copolymer")]
    assert tables.commands(found) == "```sh\nthe command\n```"
    plan = Plan(n_held_out=64, changes={"channel_multipliers": [1, 2]})
    found[-1]["run"]["command"] = plan.command
    ours = "python benchmarks/paper/run.py all --scale small --extent 64 --n_held_out 64"
    assert tables.commands(found).splitlines()[1:-1] == [
        "the command --materials alloy fibre carbonate ceramics pmma",
        f"{ours} --set 'channel_multipliers=[1, 2]' --materials copolymer",
    ]


def test_scales_are_presets_and_samplers_the_papers_and_a_fast_one():
    for scale in ("small", "paper"):
        assert Plan(scale=scale).training == preset(scale).training
    assert Plan(scale="paper", extent=256).training.patch_size == 4
    for scale, fast in (("small", ("ddpm", 50)), ("paper", ("dpm_solver", 20))):
        samplers = Plan(scale=scale).samplers
        assert [(s.sampler, s.n_sampling_steps) for s in samplers] == [("ddim", 150), fast]
    chosen = Plan(sampler_types=("dpm_solver", "ddim"))
    assert [(s.sampler, s.n_sampling_steps) for s in chosen.samplers] == [("dpm_solver", 50), ("ddim", 150)]
    assert chosen.command.endswith(" --samplers dpm_solver ddim")
    assert Plan(extent=256, materials=("alloy",)).samplers[0].n_sampling_steps == 500
    changed = Plan(n_steps=7, changes={"channels": 24}).changed
    assert changed == ["channels: 40 -> 24", f"n_training_steps: {preset('small').training.n_training_steps} -> 7"]
    seeds = {Plan().data_options(kind)["seed"] for kind in ("training", "held_out")}
    assert len(seeds) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--set", "channels"), "FIELD=VALUE"),
        (("--set", "chanels=3"), "chanels"),
        (("--set", "n_training_steps=5"), "use --steps 5"),
        (("--n_samples", "0"), "n_samples must be at least 1, got 0"),
        (("--study_steps", "5", "0"), "study_steps must be at least 1, got 0"),
        (("--materials", "wood"), "must be one of alloy"),
        (("--steps", "0"), "n_training_steps must be"),
        (("--references", "/nowhere", "--materials", "carbonate"), "must have carbonate_256.npy or carbonate_64.npy"),
        (("--shipped", "--steps", "5"), "without steps and set"),
        (("--shipped", "--scale", "paper"), "must have scale small"),
        (("--data", "/nowhere"), "must be a complete data set"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(options, said, tmp_path, capsys):
    assert run.main(["data", "--work", str(tmp_path), *options]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_every_case_of_the_ablation_changes_the_recipe_and_is_called_once():
    plan = Plan(n_steps=100)
    names = [case.name for case in ablation.CASES]
    assert len(set(names)) == len(names)
    settings = [(*ablation.settings_of(plan, case, 8), case.isotropic) for case in ablation.CASES]
    assert len({repr(each) for each in settings}) == len(names)
    by_name = {case.name: case for case in ablation.CASES}
    assert ablation.settings_of(plan, by_name["steps_half"], 8)[0].n_training_steps == 50
    assert ablation.trained_as(by_name["sampler_ddim_150"]) == "base"
    assert ablation.trained_as(by_name["learned_variance_ddpm"]) == "learned_variance"
    for training, _, _ in settings:
        training.check_extent((64, 64))
    with pytest.raises(InputError, match="cases must be of base"):
        ablation.ablate(plan, "fibre", cases=["speed"])


def canned(
    material: str, *, scale: str = "small", eps: float, extent: int = 64, sampler: str = "ddim"
) -> dict[str, Any]:
    """Metrics with easily recognised numbers."""
    curve = {"discrepancy_percent": eps, "interval_percent": [0.5, 9.0], "floor_percent": 0.25}
    curve |= {"original_to_training_percent": 0.75}
    feature = {"value": 3.0, "interval": [2.0, 4.0], "floor": 1.0}
    run_facts = {
        "material": material,
        "scale": scale,
        "command": "the command",
        "changes": [],
        "source": "generator",
        "data_seconds": {"training": 10.0, "held_out": 5.0},
        "training_steps": 123,
        "batch_size": 8,
        "training_seconds": 77.0,
        "training_hardware": "a card",
        "sampler": sampler,
        "sampling_steps": 150 if sampler == "ddim" else 20,
        "sampling_seconds": 4.0,
        "sampling_hardware": None,
        "evaluation_hardware": "a processor",
        "evaluation_seconds": 2.0,
    }
    grains = {"original": 10.0, "original_std": 1.0, "generated": 10.4, "generated_std": 2.0, "difference": 0.4}
    return {
        "run": run_facts,
        "extent": [extent, extent],
        "n_images": {"original": 1000, "generated": 1000, "held_out": 1000, "training": 1000},
        "two_point_correlation": curve,
        "lineal_path": curve,
        "volume_fraction": {"original": 0.35, "difference": -0.0049, "interval": None, "floor": 0.0003},
        "grains": {"diameter": grains} if material == "alloy" else None,
        "data_copying": {"z": -2.5 if material == "alloy" else 1.0},
        "nearest_training_image": {"n_exact_copies": 0},
        "by_features": {
            "vgg19": {"name": "Frechet distance (VGG-19)", **dict.fromkeys(("frechet_distance", "precision"), feature)}
        },
    }


def write_canned(folder: Path, *results: dict[str, Any]) -> None:
    (folder / "metrics").mkdir(parents=True)
    for i, m in enumerate(results):
        (folder / "metrics" / f"{i}.json").write_text(json.dumps(m))


def row(text: str, material: str, sampler: str) -> list[str]:
    return next(
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith(f"| {material} | {sampler} |")
    )


def test_tables_hold_ours_with_interval_and_floor_beside_the_papers(tmp_path):
    eps = PAPER["fibre"].eps_s2  # above the paper's eps_L
    write_canned(
        tmp_path, canned("fibre", eps=eps, sampler="dpm_solver"), canned("fibre", eps=eps), canned("alloy", eps=5)
    )
    tables.write_tables(tmp_path)
    text = {name: (tmp_path / f"{name}.md").read_text() for name in tables.TABLES}
    assert row(text["table_2"], "fibre", "DDIM 150")[2:] == ["3.00 [2.00, 4.00]", "1.00", "2.22"]
    papers = f"{PAPER['fibre'].fid:.2f}"  # of the material, whatever ours was sampled with
    assert {row(text["table_2"], "fibre", name)[4] for name in ("DDIM 150", "DPM-Solver++ 20")} == {papers}
    assert row(text["table_3"], "fibre", "DDIM 150")[2:] == [
        "3.000 [2.000, 4.000]",
        "1.000",
        "–",
        "–",
        "0.760",
        "0.782",
    ]
    one = ["1.30 [0.50, 9.00]", "0.25", "0.75"]
    assert row(text["table_4"], "fibre", "DDIM 150")[2:] == [*one, "1.30", *one, "0.81", "missed: L"]
    assert row(text["further"], "fibre", "DDIM 150")[-1] == "reached"
    assert row(text["further"], "alloy", "DDIM 150")[-1] == "missed: grain size, z"
    for each in text.values():
        assert "FID" not in each.replace("paper: FID", "").replace("is no FID", "")
        assert "Scale `small`; training on a card; sampling on unknown; evaluation on a processor" in each
        assert "| 1000 | 1000 | 1000 | 123 x 8 | nothing | 15 | 77 | 4 | 2 |" in each
        assert "```sh\nthe command --materials alloy fibre\n```" in each
    order = [
        line.split("|")[1:3] for line in text["table_4"].splitlines() if line.startswith(("| alloy |", "| fibre |"))
    ]
    assert [(m.strip(), s.strip()) for m, s in order] == [
        ("alloy", "DDIM 150"),
        ("fibre", "DDIM 150"),
        ("fibre", "DPM-Solver++ 20"),
    ]


def test_the_summary_has_a_row_for_each_material_by_the_papers_sampler_where_it_was_measured():
    found = [canned("alloy", eps=1, sampler="ddpm"), canned("fibre", eps=1), canned("fibre", eps=1, sampler="ddpm")]
    text = tables.summary(found)
    rows = [line for line in text.split("\n\n")[1].splitlines() if not line.startswith(("| ---", "| material"))]
    assert [tuple(cell.strip() for cell in line.split("|")[1:3]) for line in rows] == [
        ("alloy", "DDPM 20"),
        ("fibre", "DDIM 150"),
    ]


def test_the_scale_of_the_paper_aims_at_half_and_other_extents_have_no_figures_beside_them(tmp_path):
    half = PAPER["fibre"].eps_l / 2
    assert tables.reached(canned("fibre", scale="paper", eps=half)) == "reached"
    assert tables.reached(canned("fibre", scale="paper", eps=half + 0.01)) == "missed: L"
    large = canned("fibre", eps=1, extent=256)
    assert (tables.paper(large, "eps_l", "{}"), tables.reached(large), tables.met(large)) == ("–", "–", "–")
    del large["n_images"]["training"]  # it was not looked for copies of
    assert "| – | 1000 | 1000 |" in tables.costs([large])
    assert tables.write_tables(tmp_path) == []
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "torn.json").write_text('{"run": ')
    with pytest.raises(InputError, match=r"torn.json must be JSON"):
        tables.write_tables(tmp_path)


def test_figures_stay_below_their_limit(tmp_path):
    figure = Figure(figsize=(7, 5))
    figure.subplots().imshow(np.random.default_rng(0).random((400, 600)), cmap="gray")
    path = figures.save(figure, tmp_path / "noise.png")
    assert path.stat().st_size <= figures.MAX_BYTES


@pytest.fixture(scope="module")
def structures() -> ModuleType:
    return importlib.import_module("generalisation_structures")


def test_other_structures_come_from_their_seed_and_the_layers_are_anisotropic(structures):
    found = {}
    for name, make in structures.STRUCTURES.items():
        one, other = (make(np.random.default_rng(seed), (96, 96)) for seed in (0, 1))
        assert np.array_equal(one, make(np.random.default_rng(0), (96, 96)))
        assert not np.array_equal(one, other)
        found[name] = one
    assert set(np.unique(found["coated_particles"])) == {0, 1, 2}
    assert found["grey_grains"].dtype == np.float32
    assert 0.4 <= found["overlapping_ellipses"].mean() < 0.45
    s2 = two_point_correlation(found["layers"][None], phase=1, periodic=True)
    curves = curves_along(s2, directions=DIRECTIONS_2D, max_steps=20).mean(axis=0)
    assert float(anisotropy(curves, directions=DIRECTIONS_2D)) > 30
    assert curves[1][10] > curves[0][10] + 0.1  # across (columns) reaches farther than down (rows)


def test_the_table_of_other_structures_has_each_phase_and_each_direction_with_its_floor():
    generalisation = importlib.import_module("generalisation")

    def measure(start: float) -> dict[str, Any]:
        keys = ("discrepancy_percent", "held_out_discrepancy_percent", "floor_percent")
        each = [dict(zip(keys, (start + k, 50.0, 0.5))) for k in range(5)]
        anisotropy = {"original": 40.0, "generated": 39.0, "floor": 2.0}
        directions = dict(zip(generalisation.DIRECTIONS, each[1:]))
        return {**each[0], "directions": directions, "anisotropy_percent": anisotropy}

    fraction = {"original": 0.2, "generated": 0.21, "difference": 0.01, "floor": None}
    phases = {
        str(p): {"two_point_correlation": measure(10 * p), "lineal_path": measure(1), "volume_fraction": fraction}
        for p in range(3)
    }
    facts = {"name": "x", "n_images": {"generated": 64, "original": 2000}, "training_steps": 30, "batch_size": 2}
    picked = generalisation.pick({"phases": phases, **phases["2"]})
    text = generalisation.report([{**facts, "seconds": {"training": 3.0}, "changed": [], **picked}])
    s2 = [line for line in text.splitlines() if line.startswith("| x | 1 | ")][0]
    assert s2.split(" | ")[2:] == [*(f"{10 + k:.1f} / 0.5" for k in range(5)), "40.0 ± 2.0", "39.0 |"]
    assert sum(line.startswith("| x |") for line in text.splitlines()) == 9
    assert "| x | 2 | 0.2000 | +0.0100 | – | 64 against 2000 | 30 x 2 | 3 | nothing |" in text
    two_phases = generalisation.pick(phases["2"] | {"grey_threshold": 0.4})
    assert [*two_phases["phases"]] == ["1"]


def test_figure_8_leaves_out_what_was_not_measured(tmp_path):
    rows = [
        {"sampler": sampler, "n_steps": n, **dict.fromkeys(HEADINGS, 1.0 / n)}
        for sampler in ("ddim", "dpm_solver")
        for n in (5, 50)
    ]
    study = {"n_original": 9, "n_generated": 9, "features": "vgg19"}
    study |= {"floor": {"eps_s2_percent": 0.1, "eps_l_percent": 0.2}}
    whole = figures.steps_figure(study | {"rows": rows}, tmp_path / "whole.png")
    assert whole.stat().st_size < figures.MAX_BYTES / 3
    part = figures.steps_figure(study | {"rows": [row | {"recall": None} for row in rows]}, tmp_path / "part.png")
    heights = [plt.imread(path).shape[0] for path in (whole, part)]
    assert heights[1] < heights[0]  # six diagrams are two rows, seven are three
