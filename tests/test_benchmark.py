"""The benchmark: costs, quality, tables, continuing after a stop, wrong options, and once from end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from test_pipeline import blobs
from test_train import TINY

from mcrpy_diffusion.benchmark import quality as real_sets
from mcrpy_diffusion.benchmark import record as records
from mcrpy_diffusion.benchmark import worker
from mcrpy_diffusion.benchmark.costs import break_evens, machines_of, method_cost, model_cost_of
from mcrpy_diffusion.benchmark.machine import describe_all, distinct
from mcrpy_diffusion.benchmark.page import console_tables
from mcrpy_diffusion.benchmark.plan import make_plan
from mcrpy_diffusion.benchmark.quality import RealSets, diversity, quality
from mcrpy_diffusion.benchmark.record import Record
from mcrpy_diffusion.benchmark.results import notes
from mcrpy_diffusion.benchmark.tables import cost_table, markdown, plain, quality_table
from mcrpy_diffusion.benchmark.tasks import prepare, worker_command
from mcrpy_diffusion.benchmark.worker import make_structures
from mcrpy_diffusion.commands.cli import main
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.models.checkpoint import ModelInfo, build_network, save_model
from mcrpy_diffusion.models.model_card import ModelCard

SMALL = {"extent_x": 16, "extent_y": 16, "features": "none"}
SMALL_TASK = {"seeds": [], "extent": [4, 4], "n_phases": 2, "n_jobs": 1}


@pytest.fixture(scope="module", autouse=True)
def _few_real_structures():
    """Statistics and features of fewer crops; their numbers are those of test_benchmark_quality.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(real_sets, "N_CROPS", 60)
        patch.setattr(real_sets, "N_FLOOR_SETS", 2)
        yield


@pytest.fixture
def reference(tmp_path):
    path = tmp_path / "blobs.npy"
    np.save(path, blobs((64, 48)))
    return path


def plan_of(reference, folder, **options):
    return make_plan({"reference": str(reference), "out": str(folder), **SMALL, **options})


# --- the plan --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ({}, "diffusion: DDPM, 50 steps"),
        ({"n_fast_steps": 7}, "diffusion: DDPM, 7 steps"),
        ({"preset": "paper"}, "diffusion: DPM-Solver++, 20 steps"),
    ],
)
def test_the_fast_sampler_is_the_presets_where_that_is_not_ddim(reference, tmp_path, options, title):
    plan = plan_of(reference, tmp_path / "out", **options)
    assert plan.title("diffusion_fast") == title
    assert plan.title("diffusion_ddim") == "diffusion: DDIM, 150 steps"


@pytest.mark.parametrize(
    ("recommended", "options", "title"),
    [
        ({"sampler": "dpm_solver", "n_sampling_steps": 12}, {}, "diffusion: DPM-Solver++, 12 steps"),
        ({"sampler": "dpm_solver", "n_sampling_steps": 12}, {"n_fast_steps": 7}, "diffusion: DPM-Solver++, 7 steps"),
        ({"sampler": "ddim", "n_sampling_steps": 150}, {}, "diffusion: DDPM, 50 steps"),
        (None, {}, "diffusion: DDPM, 50 steps"),
    ],
)
def test_the_fast_sampler_of_a_given_model_is_what_it_recommends(reference, tmp_path, recommended, options, title):
    card = None if recommended is None else ModelCard(name="blobs", sampling=recommended)
    info = ModelInfo(settings=TINY, n_phases=2, extent=(16, 16), periodic=True, card=card)
    save_model(tmp_path / "blobs.safetensors", build_network(info).state_dict(), info)
    plan = plan_of(reference, tmp_path / "out", model=str(tmp_path / "blobs.safetensors"), n_ddim_steps=10, **options)
    assert plan.title("diffusion_fast") == title


@pytest.fixture
def model(tmp_path):
    card = ModelCard(name="blobs", sampling={"sampler": "ddpm", "n_sampling_steps": 5})
    info = ModelInfo(settings=TINY, n_phases=2, extent=(16, 16), periodic=True, training_seconds=70.0, card=card)
    save_model(tmp_path / "blobs.safetensors", build_network(info).state_dict(), info)
    return str(tmp_path / "blobs.safetensors")


FEW = {"n_ddim_steps": 10, "n_fast_steps": 7}


def test_options_without_effect_are_named(reference, tmp_path, model):
    def ignored(**options):
        return plan_of(reference, tmp_path / "out", **options).ignored

    few = ignored(model=model, **FEW)
    assert ignored() == ignored(preset="paper", n_training_samples=7, limit_to=5, n_samples_of={"gram": 5}) == few == ""
    assert "--n_training_samples, --preset: a model was given" in ignored(
        model=model, n_training_samples=7, preset="paper", n_ddim_steps=10
    )
    fast = {"methods": ("diffusion_fast",)}
    assert "--n_ddim_steps" in ignored(**fast, n_ddim_steps=3)
    assert "--max_iter" in ignored(**fast, max_iter=3)
    said = ignored(methods=("s2_lbfgsb",), n_samples_of={"gram": 5}, preset="paper", channels=8, max_iter=5)
    assert all(flag in said for flag in ("--preset", "--channels", "--n_samples_of gram"))
    assert "--max_iter" not in said
    assert "--limit_to" in ignored(methods=("gram",), limit_to=5)
    assert "--model" in ignored(methods=("gram",), model=model)


def test_a_preset_has_an_effect_where_the_given_model_recommends_ddim(reference, tmp_path):
    card = ModelCard(name="blobs", sampling={"sampler": "ddim", "n_sampling_steps": 150})
    info = ModelInfo(settings=TINY, n_phases=2, extent=(16, 16), periodic=True, card=card)
    save_model(tmp_path / "blobs.safetensors", build_network(info).state_dict(), info)
    given = {"model": str(tmp_path / "blobs.safetensors"), "preset": "paper", "n_ddim_steps": 10}
    assert plan_of(reference, tmp_path / "out", **given).ignored == ""
    given |= {"methods": ("diffusion_ddim",)}
    assert "--preset" in plan_of(reference, tmp_path / "out", **given).ignored


def test_the_command_warns_of_them_in_one_line(reference, tmp_path, model, capsys):
    command = ["benchmark", "--reference", str(reference), "--out", str(tmp_path / "out"), "--dry_run"]
    command += ["--extent_x", "16", "--extent_y", "16", "--model", model, "--n_training_samples", "7"]
    command += ["--methods", "diffusion_fast"]
    assert main([*command, "--n_fast_steps", "3"]) == 0
    assert capsys.readouterr().err.startswith("warning: --n_training_samples: a model was given")


def test_settings_without_effect_do_not_bind_the_folder(reference, tmp_path, model):
    out = tmp_path / "out"

    def prepared(**options):
        prepare(plan_of(reference, out, **options))
        return json.loads((out / "made_by.json").read_text())

    provenance = prepared(methods=("gram",), n_training_samples=7, channels=8, max_iter=9)
    assert {"seed", "extent_x", "isotropic", "max_iter"} <= set(provenance)
    assert not {"n_training_samples", "training", "model", "n_fast_steps", "fast_sampler", "limit_to"} & set(provenance)
    assert prepared(methods=("gram",), n_training_samples=8, max_iter=9) == provenance
    both = prepared(methods=("s2_lbfgsb", "diffusion_fast"), limit_to=5, model=model, n_fast_steps=7, max_iter=9)
    assert provenance.items() < both.items()
    assert (both["limit_to"], both["n_fast_steps"]) == (5, 7)
    assert "n_training_samples" not in both
    assert prepared(methods=("diffusion_fast",), model=model, n_fast_steps=7, n_training_samples=7, max_iter=1) == both
    for changed in ({"limit_to": 6}, {"max_iter": 10}, {"n_fast_steps": 8}, {"seed": 1}, {"model": None}):
        with pytest.raises(InputError, match=next(iter(changed))):
            prepared(**{"limit_to": 5, "model": model, "max_iter": 9, **FEW, **changed})


def test_a_folder_whose_record_holds_settings_without_effect_is_completed(reference, tmp_path, model):
    plan = plan_of(reference, tmp_path / "out", model=model, **FEW)
    prepare(plan)
    path = tmp_path / "out" / "made_by.json"
    before = json.loads(path.read_text()) | {"n_training_samples": 60}  # as it was written once
    path.write_text(json.dumps(before))
    prepare(plan_of(reference, tmp_path / "out", model=model, n_training_samples=7, **FEW))
    assert json.loads(path.read_text()) == before


# --- costs -----------------------------------------------------------------------------------------------------------


def write_lines(path, lines):
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def structure_line(seed, seconds, *, first=False, memory=100):
    return {"seed": seed, "seconds": seconds, "cpu_seconds": seconds / 2, "first": first, "peak_memory": memory}


def test_the_first_structure_of_a_process_is_no_warm_one(reference, tmp_path):
    plan = plan_of(reference, tmp_path / "out", n_samples=4)
    lines = [SETUP, structure_line(0, 9.0, first=True)]
    lines += [structure_line(1, 2.0), structure_line(2, 4.0, memory=300)]
    lines += [SETUP | {"seconds": 7.0}, structure_line(3, 5.0, first=True)]
    lines += [structure_line(9, 1000.0)]  # of more structures than are asked for
    write_lines(tmp_path / "out" / "s2_lbfgsb.jsonl", lines)
    cost = method_cost(plan, "s2_lbfgsb", {})
    assert cost["each"] == pytest.approx(3.0)
    assert cost["setup"] == pytest.approx(6.0 + (6.0 + 2.0) / 2)
    assert (cost["data"], cost["training"]) == (0.0, 0.0)
    assert cost["peak_memory"] == 300
    by_processor = method_cost(plan_of(reference, tmp_path / "out", n_samples=4, clock="cpu"), "s2_lbfgsb", {})
    assert by_processor["each"] == pytest.approx(1.5)
    assert by_processor["setup"] == pytest.approx(4.0 + (3.0 + 1.0) / 2)


def test_steps_without_a_line_after_a_kill_count_as_much_as_the_others(reference, tmp_path):
    info = ModelInfo(settings=TINY, n_phases=2, extent=(8, 8), periodic=True, step=100, training_seconds=70.0)
    plan = plan_of(reference, tmp_path / "out", clock="cpu")
    line = {"stage": "training", "peak_memory": 5, "seconds": 30.0, "cpu_seconds": 20.0}
    for clock, lines, seconds in (
        ("cpu", [line | {"steps": 40}], 50.0),
        ("cpu", [line | {"steps": 40}, line | {"steps": 60}], 40.0),
        ("wall", [line | {"steps": 40}], 70.0),  # the model knows
    ):
        write_lines(tmp_path / "out" / "model.jsonl", lines)
        plan.model_path.parent.mkdir(exist_ok=True)
        save_model(plan.model_path, build_network(info).state_dict(), info)
        cost = model_cost_of(plan_of(reference, tmp_path / "out", clock=clock))
        assert cost["training"] == pytest.approx(seconds)


MACHINE = {"processor": "P", "graphics_card": None, "n_jobs": 1, "threads": 1, "cores": 2, "memory": 2**30}
SETUP = {"setup": True, "seconds": 5.0, "cpu_seconds": 4.0, "machine": MACHINE, "versions": {"numpy": "1.26"}}
TRAINING = {"stage": "training", "peak_memory": 5, "seconds": 30.0, "cpu_seconds": 20.0}
DATA = TRAINING | {"stage": "data"}


@pytest.mark.parametrize(
    ("clock", "lines", "costs", "said"),
    [
        ("wall", [SETUP, DATA | {"samples": 20}, TRAINING | {"steps": 100}], (30, 70, 5), []),
        ("cpu", [SETUP, DATA | {"samples": 20}, TRAINING | {"steps": 100}], (20, 20, 4), []),
        (
            "cpu",
            [SETUP, DATA | {"samples": 5}, SETUP, DATA | {"samples": 5}, TRAINING | {"steps": 200}],
            (80, 10, 4),
            ["10 of 20 samples"],
        ),
        (
            "cpu",
            [SETUP, DATA | {"samples": 20}, TRAINING | {"steps": 80}],
            (20, 25, 4),
            ["80 of 100 steps"],
        ),
        (
            "cpu",
            [DATA | {"samples": 0}],
            (None, 70, None),
            ["data are not known", "wall clock", "start of the process"],
        ),
        ("wall", [SETUP], (None, 70, 5), ["data are not known"]),
    ],
)
def test_the_cost_of_the_model_is_known_after_kills(reference, tmp_path, clock, lines, costs, said):
    info = ModelInfo(settings=TINY, n_phases=2, extent=(8, 8), periodic=True, step=100, training_seconds=70.0)
    plan = plan_of(reference, tmp_path / "out", clock=clock, n_training_samples=20)
    write_lines(tmp_path / "out" / "model.jsonl", lines)
    plan.model_path.parent.mkdir()
    save_model(plan.model_path, build_network(info).state_dict(), info)
    cost = model_cost_of(plan)
    assert (cost["data"], cost["training"], cost["setup"]) == costs
    assert len(cost["notes"]) == len(said)
    assert all(part in note for part, note in zip(said, cost["notes"]))
    assert all(note in notes(plan, [], {}) for note in cost["notes"])


def test_data_and_training_count_for_diffusion_alone(reference, tmp_path):
    plan = plan_of(reference, tmp_path / "out", n_samples=2)
    for name, each in (("diffusion_ddim", 1.0), ("s2_lbfgsb", 3.0), ("s2_accelerated", 0.5)):
        write_lines(tmp_path / "out" / f"{name}.jsonl", [structure_line(0, each), structure_line(1, each)])
    model = {"data": 10.0, "training": 80.0, "setup": 10.0, "peak_memory": 5}
    rows = [
        {"method": name, "is_diffusion": name.startswith("diffusion"), "cost": method_cost(plan, name, model)}
        for name in ("s2_lbfgsb", "s2_accelerated", "diffusion_ddim")
    ]
    # T_data + T_train + n t_diffusion < n t_mcrpy
    assert break_evens(rows) == {"s2_lbfgsb": {"diffusion_ddim": 51}, "s2_accelerated": {"diffusion_ddim": None}}


def measured(versions=None, **changes):
    return {"machine": MACHINE | changes, "versions": {"torch": "2.4", "numpy": "1.26"} | (versions or {})}


def test_the_machine_of_the_measurement_is_reported_not_the_present_one(reference, tmp_path):
    plan = plan_of(reference, tmp_path / "out", n_jobs=2)
    write_lines(tmp_path / "out" / "gram.jsonl", [SETUP | measured(), structure_line(0, 1.0)])
    write_lines(tmp_path / "out" / "diffusion_fast.jsonl", [SETUP | measured(), structure_line(0, 1.0)])
    write_lines(tmp_path / "out" / "model.jsonl", [SETUP | measured(threads=4)])
    assert machines_of(plan, "gram") == [measured()]
    assert machines_of(plan, "diffusion_fast") == [measured(), measured(threads=4)]
    (now,) = machines_of(plan, "s2_lbfgsb")  # nothing is recorded
    assert now["machine"]["n_jobs"] == 2


def test_methods_are_grouped_by_what_they_were_measured_on():
    one = [
        ("gram", measured()),
        ("gram", measured()),
        ("diffusion_fast", measured(graphics_card="G", memory=2**30 + 1)),
    ]
    groups = distinct(one)
    assert [group["methods"] for group in groups] == [["gram", "diffusion_fast"]]
    assert groups[0]["machine"]["graphics_card"] == "G"
    more = [*one, ("s2_tnc", measured(threads=4, n_jobs=2)), ("s2_tnc", measured({"torch": "2.5"}))]
    assert [group["methods"] for group in distinct(more)] == [["gram", "diffusion_fast"], ["s2_tnc"], ["s2_tnc"]]
    said = describe_all(distinct(more))
    assert all(part in said for part in ("4 threads", "2 processes", "torch 2.4", "torch 2.5"))
    assert "numpy" not in said  # the same everywhere


def test_seconds_of_different_machines_get_a_note(reference, tmp_path):
    plan = plan_of(reference, tmp_path / "out", methods=("gram", "s2_tnc"))
    rows = [{"method": "gram", "n": 1, "n_asked": 1, "cost": None, "measured_on": [measured()]}]
    rows += [rows[0] | {"method": "s2_tnc"}]
    assert notes(plan, rows, {}) == []
    rows[1]["measured_on"] = [measured(threads=2)]
    assert "not all seconds were measured on the same machine" in notes(plan, rows, {})[0]


def test_structures_without_a_record_have_no_cost(reference, tmp_path):
    assert method_cost(plan_of(reference, tmp_path / "out"), "gram", {}) is None


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "[" * 100_000,
        '{"seed": 0}',
        '{"x": 1}',
        '{"setup": true}',
        '{"stage": "data", "seconds": 1.0, "cpu_seconds": 1.0}',
        json.dumps(structure_line("0", 1.0)),
        json.dumps(structure_line([0], 1.0)),
        json.dumps(structure_line(0, 1.0, memory=None)),
        json.dumps(structure_line(0, float("nan"))),
        f'{{"setup": true, "seconds": 1{"0" * 400}, "cpu_seconds": 1}}',
        json.dumps(SETUP | {"machine": {"processor": "P"}, "versions": {}}),
        json.dumps(SETUP | {"machine": [], "versions": {}}),
        json.dumps(SETUP | {"versions": None}),
        json.dumps(TRAINING),
        json.dumps(SETUP | {"stage": "sleep", "peak_memory": 1}),
        json.dumps(SETUP | {"stage": "training", "peak_memory": 1, "steps": "all"}),
    ],
)
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / "x.jsonl").write_text(text + "\n")
    with pytest.raises(InputError, match="is damaged; delete it"):
        Record(tmp_path / "x.jsonl")


def test_a_damaged_record_is_named_before_hours_of_work(reference, tmp_path, capsys):
    write_lines(tmp_path / "out" / "gram.jsonl", [{"seed": 0}])
    command = ["benchmark", "--reference", str(reference), "--out", str(tmp_path / "out"), "--extent_x", "16"]
    assert main([*command, "--extent_y", "16", "--features", "none"]) == 2
    error = capsys.readouterr().err
    assert "gram.jsonl is damaged; delete it" in error
    assert error.count("\n") == 1
    assert not list((tmp_path / "out").glob("*.log"))  # no worker was started


def test_damaged_files_of_its_own_folder_are_named(reference, tmp_path):
    plan = plan_of(reference, tmp_path / "out", n_samples=1)
    prepare(plan)
    (tmp_path / "out" / "gram").mkdir()
    (tmp_path / "out" / "gram" / "0.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match="0.npy' is not a valid .npy file"):
        plan.structures("gram")
    for text in ("{", "[]"):
        (tmp_path / "out" / "made_by.json").write_text(text)
        with pytest.raises(InputError, match="made_by.json"):
            prepare(plan)


# --- the worker ------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    pass


def test_a_task_continues_after_a_kill(tmp_path, monkeypatch):
    made, last = [], [3]

    def maker(task):
        def make(seeds):
            if len(made) == last[0]:
                raise Killed
            made.extend(seeds)
            return [np.full((4, 4), seed, np.uint8) for seed in seeds]

        return make, 1

    monkeypatch.setattr(worker, "_mcrpy", maker)
    folder, record = tmp_path / "s2", tmp_path / "s2.jsonl"
    task = {"kind": "mcrpy", "folder": str(folder), "record": str(record), **SMALL_TASK, "seeds": [5, 6, 7, 8, 9]}
    with pytest.raises(Killed):
        make_structures(task)
    record.write_bytes(record.read_bytes() + b'{"seed": 8, "sec')  # torn by the kill
    (folder / "6.npy").unlink()
    last[0] = -1
    make_structures(task)
    assert made == [5, 6, 7, 6, 8, 9]
    assert sorted(Record(record).seeds) == [5, 6, 7, 8, 9]
    assert [line["seed"] for line in Record(record).lines if line.get("first")] == [5, 6]  # one for each start
    assert all(np.load(folder / f"{seed}.npy").max() == seed for seed in task["seeds"])
    make_structures(task)
    assert len(made) == 6


def test_structures_of_a_batch_share_its_seconds(tmp_path, monkeypatch):
    def maker(task):
        def make(seeds):
            time.sleep(0.2)
            return np.zeros((len(seeds), 4, 4), np.uint8)

        return make, 2

    monkeypatch.setattr(worker, "_diffusion", maker)
    task = {"kind": "diffusion", "folder": str(tmp_path / "d"), "record": str(tmp_path / "d.jsonl"), **SMALL_TASK}
    task["seeds"] = [0, 1, 2]
    make_structures(task)
    lines = Record(tmp_path / "d.jsonl").seeds
    assert lines[0]["seconds"] == lines[1]["seconds"] >= 0.1
    assert lines[2]["seconds"] >= 0.2
    assert not any(line["first"] for line in lines.values())


STAGE = f"""
import os, subprocess, sys, time
import {records.__name__} as records
records.RECORD_EVERY_SECONDS = 0.1
burn = "import time; exec('while time.process_time() < 0.4: pass'); time.sleep(600)"
done = 5
with records.Record(sys.argv[1]).recording("data", lambda: done):
    child = subprocess.Popen([sys.executable, "-c", burn])
    time.sleep(1)
    done = 8
    time.sleep(1)
    child.kill()
    os._exit(1)
"""


def test_a_kill_leaves_the_seconds_of_a_stage_until_then(tmp_path):
    assert subprocess.run([sys.executable, "-c", STAGE, str(tmp_path / "m.jsonl")]).returncode == 1
    lines = Record(tmp_path / "m.jsonl").lines
    assert len(lines) > 5
    assert {line["stage"] for line in lines} == {"data"}
    assert sum(line["samples"] for line in lines) == 3
    assert 1.5 < sum(line["seconds"] for line in lines) < 60
    assert sum(line["cpu_seconds"] for line in lines) > 0.25  # the child's, which has not ended


def test_a_stage_that_fails_is_recorded_with_its_count(tmp_path):
    record, done = Record(tmp_path / "m.jsonl"), [0]

    def work():
        with record.recording("training", lambda: done[0]):
            done[0] = 7
            raise Killed

    with pytest.raises(Killed):
        work()
    (line,) = Record(tmp_path / "m.jsonl").lines
    assert (line["stage"], line["steps"]) == ("training", 7)
    assert line["seconds"] >= 0


def test_a_worker_ends_with_the_process_that_started_it():
    code = f"import time; from {worker.__name__} import _end_with_parent; _end_with_parent(); print(1, flush=True)"
    code += "; time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"1\n"
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(timeout=600) == 1


@pytest.mark.parametrize("variables", [{}, {"PYTHONSAFEPATH": "1"}, {"PYTHONSAFEPATH": ""}])
@pytest.mark.parametrize("named", [False, True])
def test_a_worker_imports_from_the_working_folder_only_where_pythonpath_names_it(tmp_path, variables, named):
    (tmp_path / "numpy.py").write_text("raise SystemExit('numpy of the working folder')")
    task = {"kind": "mcrpy", "folder": str(tmp_path / "s2"), "record": str(tmp_path / "s2.jsonl"), **SMALL_TASK}
    (tmp_path / "task.json").write_text(json.dumps(task))
    given = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    given |= variables | ({"PYTHONPATH": str(tmp_path)} if named else {})
    command = worker_command(tmp_path / "task.json")
    open_end, held = os.pipe()  # it ends once its standard input is closed
    done = subprocess.run(command, cwd=tmp_path, env=given, stdin=open_end, capture_output=True, text=True)
    os.close(open_end)
    os.close(held)
    assert (done.returncode, done.stderr.strip()) == ((1, "numpy of the working folder") if named else (0, ""))


# --- training part and held-out part ----------------------------------------------------------------------------------


def test_no_method_sees_the_held_out_part(reference, tmp_path):
    plan = plan_of(reference, tmp_path / "out")
    assert plan.has_held_out
    assert plan.training_part.shape == (48, 48)
    np.testing.assert_array_equal(np.concatenate([plan.training_part, plan.held_out_part]), blobs((64, 48)))


def test_a_small_micrograph_is_compared_with_itself(reference, tmp_path):
    plan = plan_of(reference, tmp_path / "out", extent_x=48, extent_y=48)
    assert not plan.has_held_out
    np.testing.assert_array_equal(plan.training_part, blobs((64, 48)))
    assert "too small" in notes(plan, [], {})[0]


def test_without_a_held_out_part_the_model_is_trained_on_reconstructions(reference, tmp_path):
    plan = plan_of(reference, tmp_path / "out", held_out_fraction=0.0)
    assert not plan.has_held_out
    for said in (notes(plan, [], {})[0], plan.describe()):
        assert "MCRpy's reconstructions" in said
        assert "too small" not in said
    assert "model" not in plan_of(reference, tmp_path, held_out_fraction=0.0, methods=("gram",)).division


def test_the_reference_itself_is_no_new_structure(tmp_path):
    np.save(tmp_path / "r.npy", blobs((16, 16)))
    real = RealSets.of(plan_of(tmp_path / "r.npy", tmp_path / "out"))
    shifted = np.stack([np.roll(blobs((16, 16)), (i, 2 * i), (0, 1)) for i in range(3)])
    found = quality(shifted, real)
    assert found["eps_s2_percent"]["seen"] == pytest.approx(0, abs=1e-9)
    assert found["eps_l_percent"]["seen"] == pytest.approx(0, abs=1e-9)
    assert found["eps_s2_percent"]["held_out"] is None
    assert found["copies"]["n_exact"] == 3
    assert found["diversity"] == {"relative": None, "distance": 0.0, "n_images": 3}


def test_independent_real_structures_have_the_diversity_1():
    real = (np.random.default_rng(0).random((9, 16, 16)) < 0.5).astype(np.uint8)
    more = (np.random.default_rng(1).random((40, 16, 16)) < 0.5).astype(np.uint8)
    assert diversity(real, real, periodic=True)["relative"] == 1
    assert diversity(more, real, periodic=True)["relative"] == pytest.approx(1, abs=0.03)
    assert diversity(np.repeat(real[:1], 5, axis=0), real, periodic=True)["relative"] == 0
    assert diversity(real[:1], real, periodic=True) is None


# --- tables ----------------------------------------------------------------------------------------------------------


def canned():
    cost = {"each": 2.0, "setup": 8.0, "data": 0.0, "training": 0.0, "peak_memory": 512 * 2**20}
    cost |= {"training_peak_memory": None, "fixed": 8.0}
    good = {
        "volume_fraction": {"seen": 0.001, "held_out": -0.02},
        "eps_s2_percent": {"seen": 1.25, "held_out": 30.0},
        "eps_l_percent": {"seen": 4.0, "held_out": None},
        "frechet_distance": 123.456,
        "precision": 0.5,
        "recall": None,
        "diversity": {"relative": 0.9},
        "copies": {"minimum_mse": 0.08, "n_exact": 0},
    }
    model = {"data": 0.25, "training": 130.0, "training_peak_memory": 1024 * 2**20, "fixed": 138.25, "each": 0.15}
    rows = [
        {"method": "s2_lbfgsb", "title": "S2", "n": 20, "cost": cost, "quality": good},
        {"method": "gram", "title": "Gram", "n": 0, "cost": None, "quality": None, "failed": "no memory"},
        {"method": "diffusion_fast", "title": "fast", "n": 18, "cost": cost | model, "quality": good},
    ]
    rows = [{"failed": None, "n_asked": 20, "is_diffusion": "diff" in row["method"], **row} for row in rows]
    return {
        "clock": "wall",
        "has_held_out": True,
        "counts": {"grid": 7, "independent": 16},
        "methods": rows,
        "floors": {
            "20": good | {"volume_fraction": {"seen": 0.001, "held_out": 0.02}, "diversity": None, "copies": None}
        },
        "break_even": {"s2_lbfgsb": {"diffusion_fast": 71}},
        "notes": ["gram failed: no memory"],
        "measured_on": distinct([("s2_lbfgsb", measured()), ("diffusion_fast", measured())]),
    }


def test_tables_from_known_numbers():
    costs, good = cost_table(canned()), quality_table(canned())
    assert costs.rows == (
        ("s2_lbfgsb", "20", "2.00", "", "", "8.00", "512", "71"),
        ("gram", "0 of 20", "failed", "–", "–", "–", "–", "–"),
        ("diffusion_fast", "18 of 20", "0.15", "0.25", "130", "8.00", "512 / 1024", ""),
    )
    row = ("+0.0010 / -0.0200", "1.2 / 30.0", "4.0 / –", "123", "0.50", "–")
    assert good.rows[0] == ("s2_lbfgsb", "20", *row, "0.90", "0.080", "0")
    assert good.rows[1] == ("gram", "0", *["–"] * 9)
    assert good.rows[3] == ("real crops", "20", "±0.0010 / ±0.0200", *row[1:], "–", "–", "–")
    for table in (costs, good):
        assert {len(cells) for cells in table.rows} == {len(table.columns)}
        head, rule, *lines = plain(table).splitlines()
        assert len(lines) == len(table.rows)
        assert len(rule) == max(map(len, [head, *lines]))
        assert markdown(table).count("\n|") == 2 + len(table.rows)
    assert "gram failed: no memory" in console_tables(canned())
    results = canned() | {"has_held_out": False, "floors": {}, "break_even": {"s2_lbfgsb": {"diffusion_fast": None}}}
    assert cost_table(results).rows[0][-1] == "never"
    assert quality_table(results).rows[0][2] == "+0.0010"  # one side only


def test_a_given_model_without_seconds_of_its_training_does_not_pass_for_free(reference, tmp_path, model):
    known = plan_of(reference, tmp_path / "out", model=model, **FEW)
    cost = model_cost_of(known)
    assert (cost["data"], cost["training"], cost["setup"]) == (None, 70.0, None)
    assert "those in its file" in " ".join(notes(known, [], {}))
    info = ModelInfo(settings=TINY, n_phases=2, extent=(16, 16), periodic=True)
    save_model(model, build_network(info).state_dict(), info)
    plan = plan_of(reference, tmp_path / "out", model=model, **FEW)
    assert model_cost_of(plan)["training"] is None
    assert "its training and of its data are not known" in " ".join(notes(plan, [], {}))


# --- wrong input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--methods", "magic"], "methods"),
        (["--n_samples", "0"], "n_samples must be"),
        (["--n_samples", "many"], "invalid int value: 'many'"),
        (["--n_samples_of", "magic", "3"], "n_samples_of must name one of"),
        (["--n_samples_of", "gram", "-3"], "n_samples_of"),
        (["--n_samples_of", "gram", "0"], "n_samples_of"),
        (["--n_samples_of", "gram"], "expected 2 arguments"),
        (["--extent_x", "128"], "smaller than the extent"),
        (["--extent_x", "36", "--extent_y", "36"], "multiple of 8"),
        (["--limit_to", "9"], "limit_to must be between 1 and 8"),
        (["--limit_to", "0"], "limit_to must be"),
        (["--max_iter", "0"], "max_iter must be"),
        (["--held_out_fraction", "nan"], "held_out_fraction must be"),
        (["--n_jobs", "0"], "n_jobs must be"),
        (["--features", "inception"], "features"),
        (["--clock", "sun"], "clock"),
        (["--model", "missing.safetensors"], "missing.safetensors"),
        (["--model", "missing.safetensors", "--channels", "8"], "without --channels"),
        (["--n_ddim_steps", "1001"], "between 1 and 1000, got 1001"),
        (["--n_ddim_steps", "0"], "n_ddim_steps must be"),
        (["--n_fast_steps", "0"], "n_fast_steps must be"),
        (["--channels", "0"], "channels must be"),
        (["--seed", "-1"], "seed must be"),
        (["--reference", "missing.npy"], "missing.npy"),
    ],
)
def test_wrong_options_give_one_line_and_status_2(reference, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    command = ["benchmark", "--reference", str(reference), "--out", "out", "--extent_x", "16", "--extent_y", "16"]
    assert main([*command, *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["blobs.npy"]


def test_pickled_references_are_refused(tmp_path, capsys):
    np.save(tmp_path / "evil.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert main(["benchmark", "--reference", str(tmp_path / "evil.npy"), "--out", str(tmp_path / "out")]) == 2
    assert "Python objects" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(reference, tmp_path, capsys):
    command = ["benchmark", "--reference", str(reference), "--out", str(tmp_path / "out"), "--extent_x", "16"]
    assert main([*command, "--extent_y", "16", "--dry_run", "--n_samples_of", "gram", "3"]) == 0
    shown = capsys.readouterr().out
    assert "48 x 48 pixels for all methods, 16 x 48 held out" in shown
    assert "gram              3  MCRpy: Gram matrices" in shown
    assert not (tmp_path / "out").exists()


# --- from end to end -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a tiny benchmark, one of whose methods fails, and its command."""
    folder = tmp_path_factory.mktemp("benchmark")
    np.save(folder / "blobs.npy", blobs((96, 64)))
    out = folder / "out"
    out.mkdir()
    (out / "gram").write_text("in the way of a folder")
    command = ["benchmark", "--reference", str(folder / "blobs.npy"), "--out", str(out), "--n_samples", "2"]
    command += ["--methods", "s2_lbfgsb", "gram", "diffusion_fast", "--extent_x", "32", "--extent_y", "32"]
    command += ["--max_iter", "5", "--n_training_samples", "20", "--n_training_steps", "3", "--channels", "16"]
    command += ["--n_fast_steps", "3", "--seed", "4"]
    assert main(command) == 0
    return out, command


def test_everything_is_written_and_a_failing_method_loses_no_other(finished):
    out, _ = finished
    results = json.loads((out / "benchmark.json").read_text())
    rows = {row["method"]: row for row in results["methods"]}
    assert "File exists" in rows["gram"]["failed"]
    assert rows["gram"]["cost"] is None
    for method in ("s2_lbfgsb", "diffusion_fast"):
        assert (rows[method]["n"], rows[method]["failed"]) == (2, None)
        assert sorted(p.name for p in (out / method).glob("*.npy")) == ["4.npy", "5.npy"]
        assert rows[method]["cost"]["each"] > 0
        assert rows[method]["cost"]["peak_memory"] > 100 * 2**20
        assert rows[method]["quality"]["eps_s2_percent"]["held_out"] > 0
        assert rows[method]["quality"]["frechet_distance"] > 0
        structure = np.load(out / method / "4.npy")
        assert (structure.shape, structure.dtype) == ((32, 32), np.uint8)
        assert structure.max() <= 1
    assert rows["diffusion_fast"]["cost"]["training"] > 0
    made = Record(out / "model.jsonl").lines
    assert made[0]["setup"]
    assert sum(line.get("samples", 0) for line in made) == 20
    assert sum(line.get("steps", 0) for line in made) == 3
    assert rows["diffusion_fast"]["cost"]["setup"] > made[0]["seconds"] > 0.1
    assert set(results["break_even"]) == {"s2_lbfgsb"}
    assert results["floors"]["2"]["frechet_distance"] > 0
    np.testing.assert_array_equal(np.load(out / "training_part.npy"), blobs((96, 64))[:64])
    page = (out / "benchmark.html").read_text()
    assert page.count("<table") == 2
    assert page.count("data:image/png") == 3 * 2 + 6 + 2 * 2  # three pictures for light and dark, crops, structures
    assert "gram failed" in page.lower()
    assert "| s2_lbfgsb | 2 |" in (out / "benchmark.md").read_text()
    assert (out / "benchmark.png").stat().st_size > 10_000


def test_the_same_command_again_makes_nothing_anew(finished, capsys, monkeypatch):
    out, command = finished
    measured_on = json.loads((out / "benchmark.json").read_text())["measured_on"]
    threads = measured_on[0]["machine"]["threads"]
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads + 3))
    before = {path: path.stat().st_mtime_ns for path in [*out.glob("*/*.npy"), out / "model" / "model.safetensors"]}
    lines = (out / "s2_lbfgsb.jsonl").read_text()
    assert main([*command, "--methods", "s2_lbfgsb", "diffusion_fast", "--features", "none", "--n_jobs", "2"]) == 0
    results = json.loads((out / "benchmark.json").read_text())
    assert results["measured_on"] == measured_on
    assert results["machine"]["threads"] == threads
    assert results["versions"]["numpy"] == np.__version__
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (out / "s2_lbfgsb.jsonl").read_text() == lines
    assert "diffusion_fast" in capsys.readouterr().out
    assert main([*command, "--max_iter", "6"]) == 2
    assert "max_iter: 5 -> 6" in capsys.readouterr().err


def test_mcrpy_makes_the_structure_of_the_seed(finished):
    """The worker's structure is what mcrpy.reconstruct returns here, and what the accelerated way makes."""
    from mcrpy_diffusion.mcrpy_bridge.plain_reconstruction import accelerated_maker, plain_maker
    from mcrpy_diffusion.settings import GenerationSettings

    out, _ = finished
    settings = GenerationSettings.from_dict(json.loads((out / "s2_lbfgsb.task.json").read_text())["generation"])
    assert settings.max_iter == 5
    part = np.load(out / "training_part.npy")
    there = np.load(out / "s2_lbfgsb" / "5.npy")
    np.testing.assert_array_equal(plain_maker(part, settings)(5), there)
    np.testing.assert_array_equal(accelerated_maker(part, settings)(5), there)
