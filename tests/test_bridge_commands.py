"""MCRpy's commands with --method: MCRpy itself by default, this package alone with diffusion, for both versions."""

from __future__ import annotations

import argparse
import errno
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mcrpy_diffusion.commands import mcrpy_commands as commands
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge import mcrpy_arguments
from mcrpy_diffusion.mcrpy_bridge.results import save_characterization
from mcrpy_diffusion.mcrpy_bridge.viewer import single_points
from mcrpy_diffusion.runtime import console
from mcrpy_diffusion.settings import GenerationSettings

PARSE_ARGS = argparse.ArgumentParser.parse_args


# --- exit statuses ----------------------------------------------------------------------------------------------------


def test_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    def wrong() -> None:
        raise InputError("n must be at least 1,\ngot 0")

    def interrupted() -> None:
        raise KeyboardInterrupt

    def broken() -> None:
        raise RuntimeError("a fault")

    assert console.run(lambda: None) == 0
    assert console.run(lambda: 3) == 3
    assert capsys.readouterr().err == ""
    assert console.run(wrong) == 2
    assert capsys.readouterr().err == "error: n must be at least 1, got 0\n"
    assert console.run(interrupted) == 130
    assert capsys.readouterr().err == f"{console.CONTINUES}\n"
    assert console.run(interrupted, stopped="stopped") == 130
    assert capsys.readouterr().err == "stopped\n"
    with pytest.raises(RuntimeError, match="a fault"):
        console.run(broken)


def test_messages_are_shown_for_a_while_only(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("mcrpy_diffusion.somewhere")
    with console.messages_of(logger.name):
        logger.info("memory: 1 GiB")
    logger.info("not shown")
    assert capsys.readouterr().err == "memory: 1 GiB\n"
    assert not logger.handlers
    assert logger.level == logging.NOTSET


def test_what_the_system_refuses_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "work/0.npy")

    def broken_pipe() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    assert console.run(full) == 2
    assert capsys.readouterr().err == "error: work/0.npy: No space left on device\n"
    with pytest.raises(BrokenPipeError):
        console.run(broken_pipe)


# --- --method diffusion -----------------------------------------------------------------------------------------------


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, dict]]:
    """Stand in for the pipeline (not for MCRpy): remember what it is called with. In an empty folder."""
    calls: list[tuple[str, dict]] = []
    names = ("match", "reconstruct")
    pipeline = SimpleNamespace(**{name: lambda options, name=name: calls.append((name, options)) for name in names})
    monkeypatch.setitem(sys.modules, "mcrpy_diffusion.workflow.pipeline", pipeline)
    monkeypatch.chdir(tmp_path)
    return calls


def test_only_what_is_given_goes_to_the_pipeline(
    received: list, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = "--method diffusion --microstructure_filenames a.npy b.png --n_samples 4 --extent_x 32 --preset quick"
    arguments += " --non_periodic --limit_to 16 --eta 0.5 --training_data crops --n_jobs 2 --dry_run --seed 7"
    before = sys.argv
    assert commands.match(arguments.split()) == 0
    assert received == [
        (
            "match",
            {
                "microstructure_filenames": ["a.npy", "b.png"],
                "n_samples": 4,
                "extent_x": 32,
                "preset": "quick",
                "periodic": False,
                "limit_to": 16,
                "eta": 0.5,
                "training_data": "crops",
                "n_jobs": 2,
                "dry_run": True,
                "seed": 7,
            },
        )
    ]
    assert capsys.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())
    assert argparse.ArgumentParser.parse_args is PARSE_ARGS
    assert sys.argv is before


def test_a_default_that_is_given_counts_as_given(received: list) -> None:
    assert commands.reconstruct("--method=diffusion --descriptor_filename c.pickle --extent_x 64".split()) == 0
    assert received == [("reconstruct", {"descriptor_filename": "c.pickle", "extent_x": 64})]


def test_options_without_meaning_are_handed_on_to_be_named(received: list, capsys: pytest.CaptureFixture[str]) -> None:
    """In one warning with what the pipeline finds: tests/test_mcrpy_options.py."""
    arguments = "--method diffusion --microstructure_filenames a.npy --tolerance 1e-3 --greedy --max_iter 100"
    assert commands.match(arguments.split()) == 0
    ignored = ["--tolerance", "--greedy"]
    assert received[0][1] == {"microstructure_filenames": ["a.npy"], "max_iter": 100, "ignored": ignored}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("match", "--add_dimension much", "invalid int value: 'much'"),
        ("match", "--preset fast", "invalid choice: 'fast'"),
        ("match", "--n_samples many", "invalid int value: 'many'"),
        ("match", "--nonsense", "unrecognized arguments: --nonsense"),
        ("match", "--descriptor_types Nonsense", "invalid choice: 'Nonsense'"),
        ("match", "--optimizer_type Nonsense", "invalid choice: 'Nonsense'"),
        ("match", "--n_samples 0", "n_samples must be at least 1, got 0"),
        ("match", "--eta 2", "eta must be between 0 and 1, got 2.0"),
        ("match", "--tolerance much", "invalid float value: 'much'"),
        ("match", "--extent_z 1", "unrecognized arguments: --extent_z 1"),
        ("match", "--n_samp 3", "unrecognized arguments: --n_samp 3"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(
    received: list, capsys: pytest.CaptureFixture[str], command: str, arguments: str, message: str
) -> None:
    assert getattr(commands, command)(["--method", "diffusion", *arguments.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert received == []
    assert argparse.ArgumentParser.parse_args is PARSE_ARGS


def test_the_third_dimension_by_mcrpys_names(received: list, capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.reconstruct("--method diffusion --descriptor_filename c.pickle --extent_z 32".split()) == 0
    assert commands.match("--method diffusion --microstructure_filenames a.npy --add_dimension 16".split()) == 0
    assert received == [
        ("reconstruct", {"descriptor_filename": "c.pickle", "extent_z": 32}),
        ("match", {"microstructure_filenames": ["a.npy"], "add_dimension": 16}),
    ]
    assert capsys.readouterr().err == ""


def test_errors_of_the_pipeline(received: list, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(_: dict) -> None:
        raise KeyboardInterrupt

    def refuse(_: dict) -> None:
        raise InputError("a.npy is missing")

    pipeline = sys.modules["mcrpy_diffusion.workflow.pipeline"]
    for function, status, line in ((stopped, 130, console.CONTINUES), (refuse, 2, "error: a.npy is missing")):
        pipeline.match = function  # type: ignore[attr-defined]
        assert commands.match(["--method", "diffusion"]) == status
        assert capsys.readouterr().err == line + "\n"


ONLY_OURS = """
import sys
from mcrpy_diffusion.commands import mcrpy_commands as commands
try:
    status = getattr(commands, sys.argv[1])(sys.argv[2:])
except SystemExit as left:
    status = left.code
loaded = {name.partition(".")[0] for name in sys.modules}
print("LOADED", sorted(loaded & {"mcrpy", "tensorflow", "keras", "tf_keras", "torch", "matplotlib"}), status)
"""


@pytest.mark.parametrize("words", ["match --dry_run --microstructure_filenames a.npy", "match -h", "reconstruct -h"])
def test_with_diffusion_neither_mcrpy_nor_a_framework_is_loaded(words: str, tmp_path: Path) -> None:
    """Until a file of MCRpy's is read or written, or a network is trained."""
    np.save(tmp_path / "a.npy", np.indices((96, 96)).sum(axis=0) // 4 % 2)
    command = [sys.executable, "-c", ONLY_OURS, *words.split(), "--method", "diffusion"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines()[-1] == "LOADED [] 0", done.stderr


def test_help_of_diffusion_shows_what_counts_and_the_values_of_the_preset(capsys: pytest.CaptureFixture[str]) -> None:
    texts = {}
    for preset in ("quick", "paper"):
        with pytest.raises(SystemExit) as ended:
            commands.match(["--method", "diffusion", "--preset", preset, "-h"])
        assert ended.value.code == 0
        texts[preset] = " ".join(capsys.readouterr().out.split())
    for option in ("microstructure_filenames", "non_periodic", "limit_to", "n_samples", "dry_run"):
        assert f" --{option} " in texts["quick"].partition("options:")[2]
    assert "--add_dimension" in texts["quick"]
    assert "--extent_z" not in texts["quick"]
    ignored = texts["quick"].partition("Accepted and ignored:")[2]
    assert "--greedy" in ignored
    assert "--limit_to" not in ignored
    for preset, n_steps in (("quick", 1200), ("paper", 100000)):
        assert f"number of training steps (at least 1; default: {n_steps})" in texts[preset]


def test_help_shows_a_group_of_diffusion_options(capsys: pytest.CaptureFixture[str]) -> None:
    for command, in_match in ((commands.match, True), (commands.reconstruct, False)):
        with pytest.raises(SystemExit) as ended:
            command(["-h"])
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert text.startswith(f"usage: mcrpy_{'match' if in_match else 'reconstruct'} ")
        own, _, ours = text.partition("diffusion options (with --method diffusion):")
        assert "--method {descriptor,diffusion}" in own
        for option in ("n_samples", "preset", "model", "seed", "n_sampling_steps", "eta", "n_jobs", "dry_run"):
            assert f"  --{option}" in ours
        assert ("--training_data" in ours) == in_match
        assert ("  --extent_x" in ours) == in_match  # MCRpy's reconstruct has its own
        assert "  --extent_x" in text


# --- --method descriptor ----------------------------------------------------------------------------------------------

REPOSITORY = """
import argparse
import errno

def main(args):
    print(sorted(vars(args).items()))

def cli_main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--microstructure_filenames", nargs="+")
    parser.add_argument("--tolerance", type=float, default=1e-10)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--non_periodic", dest="periodic", action="store_false")
    parser.set_defaults(periodic=True, answer=42)
    main(parser.parse_args())

if __name__ == "__main__":
    cli_main()
"""


@pytest.fixture(params=["cli_main() of the repository", "code under __main__ of PyPI"])
def stub_match(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A command in the form of either version, as a module of MCRpy: mcrpy.stub_match."""
    from mcrpy_diffusion.mcrpy_bridge.environment import import_mcrpy

    mcrpy = import_mcrpy(threads=1)
    source = REPOSITORY
    if "PyPI" in request.param:
        head, _, rest = REPOSITORY.partition("def cli_main():\n")
        body = rest.partition("\nif __name__")[0]
        source = f"{head}\nif __name__ == '__main__':\n{body}"
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "stub_match.py").write_text(source)
    monkeypatch.setattr(mcrpy, "__path__", [*mcrpy.__path__, str(tmp_path / "more")])
    return "stub_match"


def test_either_version_sees_its_own_options_only(
    stub_match: str, received: list, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = [
        ("answer", 42),
        ("microstructure_filenames", ["a.npy"]),
        ("periodic", True),
        ("profile", False),
        ("tolerance", 0.5),
    ]
    for extra in ("", "--method descriptor"):
        arguments = f"--microstructure_filenames a.npy --tolerance 0.5 {extra}".split()
        assert commands._run_with_method(stub_match, arguments) == 0
        assert capsys.readouterr() == (f"{expected}\n", "")
    arguments = "--microstructure_filenames a.npy --tolerance 0.5 --n_samples 3 --seed 0 --dry_run".split()
    assert commands._run_with_method(stub_match, arguments) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{expected}\n"
    (warning,) = captured.err.splitlines()
    assert warning.startswith("mcrpy_stub_match: warning: ")
    assert all(word in warning for word in ("--n_samples", "--seed", "--dry_run", "--method diffusion"))
    assert received == []


def test_the_arguments_of_either_version_are_read_from_its_source(
    stub_match: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mcrpy_arguments, "mcrpy_folder", lambda: tmp_path / "more")
    assert mcrpy_arguments.mcrpy_arguments(stub_match) == {
        "--microstructure_filenames": {"dest": "microstructure_filenames", "nargs": "+"},
        "--tolerance": {"dest": "tolerance", "type": float},
        "--profile": {"dest": "profile", "action": "store_true"},
        "--non_periodic": {"dest": "periodic", "action": "store_false"},
    }


@pytest.mark.parametrize("source", ["", "def cli_main(:", "parser.add_argument(name, type=int)", "p.add_argument()"])
def test_a_source_of_another_form_is_one_error(source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mcrpy_arguments, "mcrpy_folder", lambda: tmp_path)
    (tmp_path / "match.py").write_text(source)
    with pytest.raises(InputError, match=r"match\.py"):
        mcrpy_arguments.mcrpy_arguments("match")


def test_the_parser_is_put_back_where_a_command_fails_before_it_parses(stub_match: str, tmp_path: Path) -> None:
    (tmp_path / "more" / "stub_match.py").write_text("raise RuntimeError('broken')")
    with pytest.raises(RuntimeError, match="broken"):
        commands._run_with_method(stub_match, [])
    assert argparse.ArgumentParser.parse_args is PARSE_ARGS


def test_mcrpys_abbreviations_stay(stub_match: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--pr is --profile to MCRpy, and must not become ambiguous by our --preset; ours are not abbreviated."""
    assert commands._run_with_method(stub_match, ["--pr", "--non", "--mic", "a.npy"]) == 0
    assert "('profile', True)" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        commands._run_with_method(stub_match, ["--n_samp", "3"])
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err  # errors of --method descriptor look as MCRpy's do


def blob_file(folder: Path) -> Path:
    rows, columns = np.indices((16, 16))
    phases = ((rows - 7) ** 2 + (columns - 6) ** 2 < 20).astype(np.int64)
    np.save(folder / "blob.npy", phases)
    return folder / "blob.npy"


MCRPY_ITSELF = "runpy.run_module('mcrpy.{}', run_name='__main__')"
OURS = "assert commands.{}() == 0"


def run_seeded(call: str, lines: dict[str, str], folder: Path) -> dict[str, dict[str, bytes]]:
    """Run commands in turn in a process of their own; return their result files (all but the log, which has times)."""
    code = [
        "import os, runpy, sys",
        "import numpy as np",
        "from mcrpy_diffusion.commands import mcrpy_commands as commands",
    ]
    for command, words in lines.items():
        code += ["np.random.seed(3)", f"sys.argv[1:] = {words.split()}", call.format(command)]
        code += [f"os.rename('results', 'results_{command}')"]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(Path(__file__).parents[1])}
    line = [sys.executable, "-c", "\n".join(code)]
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = {}
    for command in lines:
        files = [file for file in (folder / f"results_{command}").iterdir() if file.suffix != ".log"]
        found[command] = {file.name: file.read_bytes() for file in files}
        shutil.rmtree(folder / f"results_{command}")
    return found


@pytest.mark.slow
def test_method_descriptor_is_mcrpy_byte_for_byte(tmp_path: Path) -> None:
    blob_file(tmp_path)
    settings = GenerationSettings(extent_x=16, extent_y=16)
    save_characterization(np.load(tmp_path / "blob.npy"), settings, tmp_path / "blob_characterization.pickle")
    shared = "--descriptor_types FFTCorrelations --limit_to 8 --no_multigrid_descriptor --max_iter 10"
    match = f"--microstructure_filenames blob.npy {shared}"
    reconstruct = f"--descriptor_filename blob_characterization.pickle --extent_x 16 --extent_y 16 {shared}"
    theirs = run_seeded(MCRPY_ITSELF, {"match": match, "reconstruct": reconstruct}, tmp_path)
    ours = run_seeded(OURS, {"match": f"{match} --method descriptor", "reconstruct": reconstruct}, tmp_path)
    results = ["convergence_data.pickle", "last_frame.npy"]
    assert sorted(theirs["match"]) == ["blob.npy", "blob_characterization.pickle", *results]
    assert sorted(theirs["reconstruct"]) == results
    assert ours == theirs


# --- the other commands -----------------------------------------------------------------------------------------------


def test_the_other_commands_run_mcrpys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mcrpy

    monkeypatch.chdir(tmp_path)
    handlers = logging.getLogger().handlers[:]
    blob = blob_file(tmp_path)
    arguments = ["--microstructure_filenames", str(blob), "--descriptor_types", "FFTCorrelations", "--limit_to", "4"]
    assert commands.characterize(arguments) == 0
    pickled = tmp_path / "results" / "blob_characterization.pickle"
    assert mcrpy.load(str(pickled))["FFTCorrelations"].shape[-2:] == (7, 7)
    assert commands.merge([str(pickled), str(pickled), "merged.pickle"]) == 0
    assert len(mcrpy.load("merged.pickle")["FFTCorrelations"]) == 3
    assert commands.smooth([str(blob)]) == 0
    assert np.load("blob_smoothed.npy").shape == (16, 16)
    assert commands.view([str(blob), "--savefig"]) == 0
    assert (tmp_path / "blob_MS.png").stat().st_size > 1000
    for handler in set(logging.getLogger().handlers) - set(handlers):  # a command owns its process; this one lives on
        logging.getLogger().removeHandler(handler)
        handler.close()


@pytest.mark.skipif(importlib.util.find_spec("gooey") is not None, reason="Gooey is installed: the GUI starts")
def test_the_gui_without_gooey_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.gui([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "gooey" in line
    assert "pip install" in line


def test_numbers_are_accepted_by_lines_within_the_viewer_only() -> None:
    from matplotlib.lines import Line2D

    original = Line2D.set_data
    with single_points():
        line = Line2D([0, 1], [0, 1])
        line.set_data(np.float32(2), np.float32(3))
        assert line.get_xydata().tolist() == [[2, 3]]
        line.set_data([[4, 5], [6, 7]])
        assert line.get_xydata().tolist() == [[4, 6], [5, 7]]
    assert Line2D.set_data is original
