"""MCRpy's GUI with the diffusion actions, in three layers: the forms it describes, what Start runs, the real window.

The first needs nothing or Gooey, the second mostly nothing, the third Gooey, wxPython and Xvfb; what is absent is named
where a test is skipped.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_pipeline import blobs

from mcrpy_diffusion.commands import gui, gui_forms
from mcrpy_diffusion.commands import mcrpy_commands as commands
from mcrpy_diffusion.commands.cli import main
from mcrpy_diffusion.commands.options import add_option, option_of
from mcrpy_diffusion.commands.parser import make_parser
from mcrpy_diffusion.runtime import progress
from mcrpy_diffusion.settings import PRESETS, GenerationSettings, Option, SamplingSettings, TrainingSettings, preset

ROOT = Path(__file__).parents[1]
PATIENCE = 900  # seconds after which a process counts as hanging, on a busy machine too
HAS_GOOEY = importlib.util.find_spec("gooey") is not None and importlib.util.find_spec("pygtrie") is not None
needs_gooey = pytest.mark.skipif(not HAS_GOOEY, reason="Gooey and pygtrie are not installed")
COMMANDS = [command for command, _ in gui_forms.ACTIONS.values()]
STAGES = {"generate": GenerationSettings, "train": TrainingSettings, "sample": SamplingSettings}
BUILD_SPEC = """
import json, sys, types
import gooey, gooey.gui
from argparse import ArgumentParser
before = ArgumentParser.parse_args, gooey.Gooey, gooey.GooeyParser
application = types.ModuleType("gooey.gui.application")
application.run = lambda spec: print("SPEC" + json.dumps(spec))
sys.modules["gooey.gui.application"] = gooey.gui.application = application
from mcrpy_diffusion.commands import mcrpy_commands as commands
try:
    commands.gui([])
except SystemExit as left:
    print("LEFT", left.code)
assert before == (ArgumentParser.parse_args, gooey.Gooey, gooey.GooeyParser)
assert not hasattr(ArgumentParser, "original_parse_args")
assert "mcrpy.gui_mcrpy" not in sys.modules
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


def start(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Do what the Start button does."""
    line = [sys.executable, "-u", "-m", "mcrpy_diffusion", "gui", "--ignore-gooey", *map(str, words)]
    return subprocess.run(line, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=PATIENCE)


def inputs(command: str) -> dict[str, gui_forms.Field]:
    fields = gui_forms.form(command, make_parser().commands[command])
    assert len({field.name for field in fields}) == len(fields)
    return {field.name: field for field in fields}


# --- the forms ---


@pytest.mark.parametrize("command", COMMANDS)
def test_a_form_has_an_input_for_every_option_of_the_command(command: str) -> None:
    """First the parser's first group, then what beginners need, then the other groups, each in one piece."""
    parser = make_parser().commands[command]
    options = {action.dest: option_of(action) for action in parser._actions if action.help != argparse.SUPPRESS}
    fields = inputs(command)
    assert {field.removeprefix("non_") for field in fields} == {*options} - {"help"}
    shown = [field.group for field in fields.values()]
    assert len([1 for one, next_one in zip(shown, [*shown[1:], ""]) if one != next_one]) == len(set(shown))
    first = shown[0]
    for name, field in fields.items():
        option = options.get(name)
        text = field.arguments["help"].lower()
        if option is not None:
            assert text.startswith(option.help.lower())
            assert (field.group == gui_forms.BASIC) == (option.beginner and field.group != first)
    if command != "evaluate":
        assert shown[shown.index(gui_forms.BASIC) - 1] == first


def test_an_input_is_made_of_its_option() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("--files and more")
    add_option(group, Option("model", str, help="the model"), required=True, metavar="MODEL")
    add_option(group, Option("rate", float, help="slow: what it does", unit="px", low=0, choices=("slow",)))
    add_option(group, Option("kinds", str, help="which", choices=("a", "b"), is_list=True))
    add_option(parser, Option("counts", int, 3, "how many", low=1, is_list=True))
    fields = {field.name: field for field in gui_forms.form("evaluate", parser)}
    assert {field.group for field in fields.values()} == {"Files and more", "Options"}
    model, rate, kinds, counts = (fields[name].arguments for name in ("model", "rate", "kinds", "counts"))
    assert model["widget"] == "FileChooser"
    assert model["required"]
    assert rate["help"] == "slow: what it does (px; at least 0)"
    assert (rate["widget"], rate["choices"]) == ("Dropdown", ("slow",))
    assert kinds["widget"] == "Listbox"
    assert kinds["help"].endswith("(Ctrl-click selects several)")
    assert counts["help"] == "How many (at least 1; default: 3)"
    assert "several" in counts["gooey_options"]["validator"]["message"]


def test_the_parsers_help_says_nothing_of_the_window() -> None:
    assert not any("Ctrl" in parser.format_help() for parser in make_parser().commands.values())


@pytest.mark.parametrize("command", ["generate", "sample"])
def test_forms_without_a_preset_are_filled_with_the_settings_defaults(command: str) -> None:
    fields = inputs(command)
    for of_settings in dataclasses.fields(STAGES[command]):
        name = "n_steps" if of_settings.name == "n_sampling_steps" else of_settings.name
        wanted = of_settings.default
        if command == "sample" and of_settings.name in ("sampler", "n_sampling_steps"):
            wanted = None  # a model's card may recommend them
        default = fields[name].arguments["default"]
        if isinstance(default, str) and isinstance(wanted, tuple):  # a text field
            wanted = " ".join(map(str, wanted))
        assert (tuple(default) if isinstance(default, list) else default) == (
            str(wanted) if isinstance(wanted, bool) else wanted
        )


def test_a_training_form_leaves_to_the_preset_what_presets_do_not_share() -> None:
    fields = inputs("train")
    for of_settings in dataclasses.fields(TrainingSettings):
        values = [getattr(preset(name).training, of_settings.name) for name in PRESETS]
        arguments = fields[of_settings.name].arguments
        if len(set(values)) == 1:
            assert str(arguments["default"]) == str(values[0])
        else:
            assert arguments["default"] is None
            assert re.search(r"quick: .+, small: .+, paper: .+\)$", arguments["help"])
    assert re.search(r"quick: 1200, small: \d+, paper: 100000\)$", fields["n_training_steps"].arguments["help"])
    assert fields["preset"].arguments["default"] == "quick"


@pytest.mark.parametrize(
    ("kind", "many", "text", "good"),
    [
        (int, False, "12", True),
        (int, False, "-1", True),
        (int, False, "1.5", False),
        (int, False, "12 13", False),
        (int, False, "twelve", False),
        (float, False, "1e-4", True),
        (float, False, ".5", True),
        (float, False, "5.", True),
        (float, False, "0,5", False),
        (float, False, "1;ls", False),
        (int, True, "1 2  2", True),
        (int, True, "1, 2", False),
        (float, True, "1 0.5", True),
    ],
)
def test_text_fields_take_numbers_alone(kind: type, many: bool, text: str, good: bool) -> None:
    test = gui_forms.number(kind, many=many)["validator"]["test"]
    assert bool(re.match(test, text)) is good  # as Gooey's RegexValidator does


def test_switches_of_a_form_become_those_of_the_command() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--periodic", action=argparse.BooleanOptionalAction)
    parser.add_argument("--name")
    given = ["--periodic", "False", "--name", "True", "--periodic", "True"]
    assert gui_forms.command_line(given, parser) == ["--no-periodic", "--name", "True", "--periodic"]


@pytest.mark.parametrize(
    ("line", "current", "total"),
    [
        ("Iteration 10 of 500 : 1.2e-6", 10, 500),
        ("18:52:12  3/500  1.0e-02", 3, 500),
        ("Iteration 7 of 8 : sampling, 3 a second", 7, 8),
    ],
)
def test_the_bar_reads_the_progress_of_both_mcrpy_versions(line: str, current: int, total: int) -> None:
    found = re.search(gui.PROGRESS, line)
    assert found is not None
    assert (int(found["current"]), int(found["total"])) == (current, total)


def test_progress_as_lines_is_what_the_bar_reads(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.as_lines(), progress.Progress(3, "sampling", initial=1) as bar:
        bar.update()
        bar.update(loss="0.5")
    (line,) = capsys.readouterr().out.splitlines()  # the last, because less than half a second has gone by
    assert re.search(gui.PROGRESS, line)
    assert line.startswith("Iteration 3 of 3 : sampling, ")
    assert line.endswith(", loss 0.5")
    with progress.Progress(1, "sampling") as bar:
        bar.update()
    assert capsys.readouterr().out == ""


def test_progress_outlives_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, _: str) -> None:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Closed())
    with progress.as_lines(), progress.Progress(1, "training") as bar:
        bar.update()
    assert bar.done == 1


@pytest.mark.parametrize("missing", ["gooey", "wx"])
def test_what_is_missing_is_named_in_one_line(
    missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if missing == "wx":
        monkeypatch.setattr(gui, "_run_mcrpys", lambda _: importlib.import_module("wx.adv"))
    monkeypatch.setitem(sys.modules, missing, None)
    assert commands.gui([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"needs {missing}" in line
    assert "python3-wxgtk4.0" in line


@needs_gooey
def test_the_window_is_described_with_our_actions_and_mcrpys(tmp_path: Path) -> None:
    code = [sys.executable, "-c", BUILD_SPEC]
    done = subprocess.run(code, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert "LEFT 0" in done.stdout
    spec = json.loads(re.search("^SPEC(.*)$", done.stdout, re.MULTILINE)[1])  # type: ignore[index]
    assert [*spec["widgets"]][:3] == ["Characterize", "Reconstruct", "Match"]
    assert [*spec["widgets"]][-4:] == [title for _, title in gui_forms.ACTIONS.values()]
    assert spec["target"].endswith("-u -m mcrpy_diffusion gui")
    for name, widget in spec["widgets"].items():
        assert " " not in widget["command"]
        items = {item["id"]: item for group in widget["contents"] for item in group["items"]}
        if name in gui.METHOD_COMMANDS:
            first = widget["contents"][0]["items"][0]
            assert (first["id"], first["type"]) == ("--method", "Dropdown")
            assert first["data"]["choices"] == ["descriptor", "diffusion"]
            assert first["data"]["default"] == "descriptor"
            assert items["--model"]["type"] == "FileChooser"
            assert items["--n_samples"]["data"]["display_name"] == "n_samples"
        elif name.startswith("Diffusion"):
            fields = inputs(widget["command"].removeprefix("diffusion_")).values()
            shown = [group["name"] for group in widget["contents"]]
            assert shown == list(dict.fromkeys(field.group for field in fields))
    train = {item["id"]: item for g in spec["widgets"]["Diffusion: train"]["contents"] for item in g["items"]}
    assert train["--dataset"]["type"] == train["--out"]["type"] == "DirChooser"
    assert train["--dataset"]["required"]
    assert not train["--channels"]["required"]
    generate = {i["id"]: i for g in spec["widgets"]["Diffusion: generate data"]["contents"] for i in g["items"]}
    assert generate["--descriptor_types"]["data"]["default"] == ["FFTCorrelations"]
    assert "LinealPathFunction" in generate["--descriptor_types"]["data"]["choices"]
    assert generate["--micrograph"]["type"] == generate["--images"]["type"] == "MultiFileChooser"
    assert "*.tif" in generate["--micrograph"]["options"]["wildcard"]
    evaluate = {i["id"]: i for g in spec["widgets"]["Diffusion: evaluate"]["contents"] for i in g["items"]}
    for name in ("original", "generated", "held_out", "out"):
        assert evaluate[f"--{name}"]["type"] == "DirChooser"
    for action in ("Diffusion: sample", "Match"):
        shown = {i["id"]: i for g in spec["widgets"][action]["contents"] for i in g["items"]}
        assert shown["--model"]["type"] == "FileChooser"
        assert shown["--model"]["options"]["wildcard"].startswith("Models (*.safetensors")


# --- what Start runs ---


def test_each_diffusion_action_runs_as_its_form_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], blank_figures: None
) -> None:
    """In this process; that Start runs another one, the window shows below."""
    monkeypatch.chdir(tmp_path)

    def printed(*words: object) -> str:
        monkeypatch.setattr(sys, "argv", ["mcrpy_diffusion", gui.WITHOUT_WINDOW, *map(str, words)])
        assert gui.main() == 0
        return capsys.readouterr().out

    np.save("my micrograph.npy", blobs())
    extent = ("--extent_x", 16, "--extent_y", 16, "--n_training_samples", 30, "--periodic", "True")
    text = printed("diffusion_generate", "--micrograph", "my micrograph.npy", "--out", "data set", *extent)
    assert "mcrpy_diffusion generate --micrograph 'my micrograph.npy'" in text
    assert re.findall(gui.PROGRESS, text, re.MULTILINE)[-1] == ("30", "30")
    tiny = ("--preset", "quick", "--n_training_steps", 3, "--channels", 8, "--tensorboard", "False")
    text = printed("diffusion_train", "--dataset", "data set", "--out", "run", *tiny)
    assert text.splitlines()[-1] == "run/model.safetensors"
    few = ("--n_samples", 2, "--n_steps", 3)
    printed("diffusion_sample", "--model", "run/model.safetensors", "--out", "made", *few)
    assert len([*Path("made").glob("*.npy")]) == 2
    folders = ("--original", "data set", "--generated", "made", "--out", "re port", "--features", "none")
    text = printed("diffusion_evaluate", *folders, "--non_periodic")
    assert text.splitlines()[-1] == f"report: {(tmp_path / 're port' / 'report.html').as_uri()}"


def test_wrong_input_is_one_line_and_status_2(tmp_path: Path) -> None:
    done = start("diffusion_train", "--dataset", "missing", "--out", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "missing" in done.stderr


@needs_gooey
def test_the_method_of_match_goes_both_ways(tmp_path: Path) -> None:
    np.save(tmp_path / "my micrograph.npy", blobs())
    # a form hands over all its fields: these are MCRpy's defaults, which must not count for diffusion
    defaults = ("--limit_to", 16, "--max_iter", 500, "--learning_rate", 0.01, "--isotropic", "False")
    match = ("Match", "--microstructure_filenames", "my micrograph.npy", "--data_folder", "re sults")
    small = ("--extent_x", 16, "--extent_y", 16, "--n_samples", 2, "--n_training_steps", 3, "--n_sampling_steps", 3)
    chosen = ("--method", "diffusion", "--information", "a", "--beta_1", 0.8, "--periodic", "False")
    done = start(*match, *defaults, *small, *chosen, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--beta_1: used with --method descriptor only" in done.stderr
    assert "limit_to" not in done.stderr
    assert "learning_rate" not in done.stderr
    assert done.stdout.splitlines()[-1] == f"report: {(tmp_path / 're sults' / 'report_a.html').as_uri()}"
    assert len(re.findall(r"^Iteration \d+ of 3 : training,", done.stdout, re.MULTILINE)) >= 1
    few = ("--limit_to", 4, "--max_iter", 3, "--descriptor_types", "FFTCorrelations", "--n_samples", 2)
    done = start(*match, *few, "--method", "descriptor", "--information", "b", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--n_samples: used with --method diffusion" in done.stderr
    (structure,) = (p for p in (tmp_path / "re sults").glob("*_b.npy"))
    assert np.load(structure).shape == blobs().shape
    done = start(*match, *small, "--method", "diffusion", "--add_dimension", 15, cwd=tmp_path)
    assert done.returncode == 2
    assert "extent must be a multiple" in done.stderr


@needs_gooey
def test_reconstruct_by_diffusion_takes_mcrpys_positional_arguments(tmp_path: Path) -> None:
    np.save(tmp_path / "blobs.npy", blobs())
    done = start(
        "Characterize", "--microstructure_filenames", "blobs.npy", "--descriptor_types", "FFTCorrelations", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    asked = ("--method", "diffusion", "--dry_run", "--descriptor_types", "FFTCorrelations", "--limit_to", 16)
    done = start("Reconstruct", *asked, "--", "results/blobs_characterization.pickle", 32, 16, 1, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "16 structures of 32 x 16 pixels" in done.stdout
    assert "report" not in done.stdout


def test_the_decorator_runs_our_module_and_leaves_out_a_missing_image_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["mcrpy", gui.WITHOUT_WINDOW])
    seen: list[dict[str, object]] = []
    decorate = gui._decorator(lambda function=None, **options: seen.append(options))
    decorate(image_dir=str(tmp_path / "missing"), program_name="MCRpy", progress_regex="theirs")
    decorate(image_dir=str(tmp_path))
    assert "image_dir" not in seen[0]
    assert seen[1]["image_dir"] == str(tmp_path)
    assert seen[0]["program_name"] == "MCRpy"
    assert seen[0]["progress_regex"] == gui.PROGRESS
    assert seen[0]["target"] == f'"{sys.executable}" -u -m mcrpy_diffusion gui'


WORK = """
import signal, sys, time
from pathlib import Path
def save(*_):
    time.sleep(0.3)
    Path("saved").touch()
    sys.exit(3)
signal.signal(signal.SIGTERM, save if sys.argv[2] == "gentle" else signal.SIG_IGN)
Path("started").touch()
time.sleep(60)
"""


@pytest.mark.parametrize("shell", [False, True])
@pytest.mark.parametrize("kind", ["gentle", "deaf"])
def test_stop_asks_first_and_ends_what_does_not_listen(tmp_path: Path, kind: str, shell: bool) -> None:
    (tmp_path / "work.py").write_text(WORK)
    words = [sys.executable, "work.py", "--ignore-gooey", kind]
    around = ["sh", "-c", f"'{sys.executable}' work.py --ignore-gooey {kind}; exit $?"]
    process = subprocess.Popen(around if shell else words, cwd=tmp_path, stdout=subprocess.PIPE)
    last = time.monotonic() + PATIENCE
    while not (tmp_path / "started").exists() and time.monotonic() < last:
        time.sleep(0.02)
    before = time.monotonic()
    gui.stop(process.pid, seconds=1.5)
    assert kind == "gentle" or process.poll() is None  # the window is not held up until the end
    assert process.stdout is not None
    assert process.stdout.read() == b""  # until the last process has ended
    status = process.wait(PATIENCE)
    assert (tmp_path / "saved").exists() is (kind == "gentle")
    if kind == "gentle":
        assert status == 3
    else:
        assert status == (128 + signal.SIGKILL if shell else -signal.SIGKILL)
        assert time.monotonic() - before > 1.4


# --- the real window ---


@pytest.fixture(scope="module")
def display():
    """A private X server, as the number of its display."""
    for module in ("gooey", "pygtrie", "wx"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    if shutil.which("Xvfb") is None:
        pytest.skip("Xvfb is not installed")
    reading, writing = os.pipe()
    options = ["-screen", "0", "1280x1024x24", "-nolisten", "tcp", "-noreset"]
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(writing), *options], pass_fds=[writing], stderr=subprocess.DEVNULL
    )
    os.close(writing)
    try:
        with os.fdopen(reading) as number:  # kept open as long as the server runs
            line = number.readline()
            if not line:
                pytest.skip("Xvfb does not start")
            yield f":{line.strip()}"
    finally:
        server.terminate()
        server.wait()


def open_window(display: str, folder: Path, *steps: dict[str, object]) -> subprocess.CompletedProcess[str]:
    driver = [sys.executable, str(Path(__file__).with_name("gui_driver.py")), json.dumps(steps)]
    shown = {**environment(), "DISPLAY": display, "GDK_BACKEND": "x11"}
    return subprocess.run(driver, cwd=folder, env=shown, capture_output=True, text=True, timeout=PATIENCE)


def drive(display: str, folder: Path, *steps: dict[str, object]) -> dict:
    """Do the steps in a window; return what it showed."""
    done = open_window(display, folder, *steps)
    found = re.search("^SHOWN(.*)$", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    return json.loads(found[1])


def dataset(folder: Path) -> Path:
    """Make a small data set in a folder with a blank in its name."""
    np.save(folder / "my micrograph.npy", blobs())
    small = ["--extent_x", "16", "--extent_y", "16", "--n_training_samples", "30", "--out", str(folder / "data set")]
    assert main(["generate", "--micrograph", str(folder / "my micrograph.npy"), *small]) == 0
    return folder / "data set"


@pytest.mark.slow
def test_window_starts_shows_progress_and_finishes_and_says_what_is_wrong(display: str, tmp_path: Path) -> None:
    np.save(tmp_path / "my micrograph.npy", blobs())
    values = {"--micrograph": str(tmp_path / "my micrograph.npy"), "--out": str(tmp_path / "it's a data set")}
    numbers = {"--extent_x": "16", "--extent_y": "16", "--n_training_samples": "30"}
    shown = drive(
        display,
        tmp_path,
        {"select": "Diffusion: train"},
        {"select": "Diffusion: sample", "values": {"--model": "m", "--out": "o", "--n_samples": "many"}},
        {"select": "Diffusion: evaluate", "values": {"--original": "missing", "--generated": "x", "--out": "report"}},
        {"select": "Diffusion: generate data", "values": {**values, **numbers}},
    )
    assert shown["sidebar"][-4:] == [title for _, title in gui_forms.ACTIONS.values()]
    empty, wrong, failing, good = shown["steps"]
    required = "This field is required"
    assert empty["errors"] == {"--dataset": required, "--out": required}
    assert empty["status"] is None
    assert wrong["errors"] == {"--n_samples": "must be an integer"}
    assert failing["status"] == 2
    assert re.search(r"^error: .*\bx\b", failing["console"], re.MULTILINE)
    assert "error" in failing["subtitle"]
    assert good["status"] == 0, good["console"]
    assert good["bar"][-1] == good["progress"][-1] == 100
    assert good["title"] == "Finished"
    assert len([*(tmp_path / "it's a data set" / "samples").glob("*.npy")]) == 30


@pytest.mark.slow
def test_window_stops_a_training_that_then_goes_on_and_is_saved_when_it_closes(display: str, tmp_path: Path) -> None:
    endless = {"--n_training_steps": "100000", "--checkpoint_seconds": "100000"}  # nothing but stopping saves
    values = {"--dataset": str(dataset(tmp_path)), "--out": str(tmp_path / "run"), "--channels": "8", **endless}
    stop: dict[str, object] = {"stop_at": 2}
    steps = [{"select": "Diffusion: train", "values": values, **stop}, {"restart": True, **stop}]
    done = open_window(display, tmp_path, *steps, {"restart": True, "close_at": 2})
    assert "SHOWN" not in done.stdout  # closing it ended the process, and that after the training
    first, second = (json.loads(found) for found in re.findall("^STEP(.*)$", done.stdout, re.MULTILINE))
    for run in (first, second):
        assert run["status"] == 130, run["console"]
        assert "stopped; the same command continues" in run["console"]
        assert "Traceback" not in run["console"]
    trained = [
        [int(n) for n in re.findall(r"^Iteration (\d+) of 100000", run["console"], re.M)] for run in (first, second)
    ]
    assert trained[1][0] > trained[0][-1] > trained[0][0] > 0
    saved = [int(file.stem.removeprefix("step_")) for file in (tmp_path / "run" / "checkpoints").glob("step_*.pt")]
    assert max(saved) > trained[1][-1]


@pytest.mark.slow
def test_window_matches_by_both_methods(display: str, tmp_path: Path) -> None:
    np.save(tmp_path / "my micrograph.npy", blobs())
    values = {
        "--microstructure_filenames": str(tmp_path / "my micrograph.npy"),
        "--data_folder": str(tmp_path / "re sults"),
    }
    small = {"--extent_x": "16", "--extent_y": "16", "--n_samples": "2", "--n_sampling_steps": "3"}
    few = {"--max_iter": "20", "--limit_to": "4", "--descriptor_types": ["FFTCorrelations"], "--information": "own"}
    shown = drive(
        display,
        tmp_path,
        {"select": "Match", "values": {**values, **few}},
        {
            "select": "Match",
            "values": {"--method": "diffusion", **small, "--n_training_steps": "3", "--information": ""},
        },
    )
    own, diffusion = shown["steps"]
    assert own["status"] == 0, own["console"]
    assert own["bar"][-1] > 0
    assert diffusion["status"] == 0, diffusion["console"]
    assert diffusion["console"].splitlines()[-1] == f"report: {(tmp_path / 're sults' / 'report.html').as_uri()}"
    assert len([*(tmp_path / "re sults").glob("my micrograph_reconstructed_*.npy")]) == 2


def test_without_a_display_one_line(tmp_path: Path) -> None:
    if not HAS_GOOEY or importlib.util.find_spec("wx") is None:
        pytest.skip("Gooey or wxPython is not installed")
    blind = {k: v for k, v in environment().items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    line = [sys.executable, "-m", "mcrpy_diffusion", "gui"]
    done = subprocess.run(line, cwd=tmp_path, env=blind, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: MCRpy's GUI needs a display")
