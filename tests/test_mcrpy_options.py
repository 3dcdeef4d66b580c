"""Each option of MCRpy's match and reconstruct with --method diffusion: honoured, or named in one warning."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_bridge_commands import received  # noqa: F401  stands in for the pipeline
from test_pipeline import SMALL, blobs

from mcrpy_diffusion.commands import mcrpy_commands as commands
from mcrpy_diffusion.commands import mcrpy_options
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials.reference import reference_from_characterization, reference_from_micrographs
from mcrpy_diffusion.mcrpy_bridge import results
from mcrpy_diffusion.mcrpy_bridge.environment import import_mcrpy
from mcrpy_diffusion.mcrpy_bridge.mcrpy_arguments import mcrpy_arguments
from mcrpy_diffusion.runtime.console import run
from mcrpy_diffusion.settings import GenerationSettings
from mcrpy_diffusion.settings.sampling import N_VOLUME_STEPS
from mcrpy_diffusion.workflow import match_plan, pipeline, run_log
from mcrpy_diffusion.workflow.match_plan import make_plan

COMMANDS = ("match", "reconstruct")


class _LeftError(Exception):
    pass


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser that the installed MCRpy builds for a command."""
    import_mcrpy(threads=1)
    found: list[argparse.ArgumentParser] = []

    def keep(parser: argparse.ArgumentParser, *_: Any) -> argparse.Namespace:
        found.append(parser)
        raise _LeftError

    with commands._wrapped_parser(keep), contextlib.suppress(_LeftError):
        commands._run_module(command)
    return found[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_arguments_read_from_the_source_are_those_of_mcrpys_parser(command: str) -> None:
    """A new MCRpy with another way to make its parser fails here."""
    actions = {a.option_strings[0]: a for a in parser_of(command)._actions if a.dest != "help"}
    assert len(actions) > 40
    read = mcrpy_arguments(command)
    assert list(read) == list(actions)
    for flag, action in actions.items():
        found = (read[flag]["dest"], read[flag].get("type"), read[flag].get("nargs"))
        kind = action.type if action.nargs != 0 else None
        assert found == (action.dest, kind, action.nargs or None), flag


def names_of(command: str) -> tuple[set[str], set[str]]:
    """Names of MCRpy's options that count with diffusion, and of those that are ignored."""
    names = {keywords["dest"] for keywords in mcrpy_arguments(command).values()}
    used = set(mcrpy_options.mcrpy_options_used(command))
    return used, names - used


def test_the_table_names_no_option_that_mcrpy_lacks() -> None:
    used = set.union(*(names_of(command)[0] for command in COMMANDS))
    assert used >= {*mcrpy_options.MCRPY_OPTIONS}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A micrograph with room for crops, one without, grey and of three phases, and a characterization of the second."""
    np.save(tmp_path / "large.npy", blobs((64, 48)))
    np.save(tmp_path / "small.npy", blobs((16, 16)))
    np.save(tmp_path / "grey.npy", np.random.default_rng(0).random((64, 48)))
    np.save(tmp_path / "three.npy", np.indices((64, 48)).sum(axis=0) % 3)
    settings = GenerationSettings(extent_x=16, extent_y=16, descriptor_types=("FFTCorrelations", "Variation"))
    results.save_characterization(blobs((16, 16)), settings, tmp_path / "one_characterization.pickle")
    results.save_characterization(blobs((16, 16), seed=1), settings, tmp_path / "two_characterization.pickle")
    return tmp_path


def plan_of(command: str, words: str, received: list, files: Path, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: F811
    """What the pipeline plans for a command line of MCRpy's."""
    monkeypatch.chdir(files)
    received.clear()
    assert getattr(commands, command)(["--method", "diffusion", *words.split()]) == 0
    ((_, options),) = received
    extents = {name: options.get(name, 16) for name in ("extent_x", "extent_y")}
    options = {**options, **extents}
    if command == "match":
        reference = reference_from_micrographs(options["microstructure_filenames"], options)
    else:
        reference = reference_from_characterization(options["descriptor_filename"])
    return make_plan(options, reference)


def content(plan: Any) -> dict[str, Any]:
    """All that a plan decides, and what the reference holds."""
    arrays = [m.phases.tolist() for m in plan.reference.micrographs]
    settings = {name: getattr(plan, name).to_dict() for name in ("generation", "training", "sampling")}
    names = ("folder", "information", "logfile_name", "logging_level", "suffix")
    return {**settings, **{name: str(getattr(plan, name)) for name in names}, "sha": plan.reference.sha256, "m": arrays}


HONOURED = {
    "match": {
        "microstructure_filenames": "--microstructure_filenames three.npy --use_multiphase",
        "descriptor_types": "--descriptor_types FFTCorrelations Variation",
        "descriptor_weights": "--descriptor_weights 2",
        "optimizer_type": "--optimizer_type TNC",
        "loss_type": "--loss_type RMS",
        "limit_to": "--limit_to 5",
        "max_iter": "--max_iter 7",
        "isotropic": "--isotropic",
        "use_multiphase": "--use_multiphase",
        "add_dimension": "--add_dimension 16",
    },
    "reconstruct": {
        "descriptor_filename": "--descriptor_filename two_characterization.pickle",
        "descriptor_types": "--descriptor_types Variation",
        "extent_x": "--extent_x 24",
        "extent_y": "--extent_y 24",
        "extent_z": "--extent_z 16",
    },
}
SHARED = {
    "data_folder": "--data_folder elsewhere",
    "information": "--information more",
    "logfile_name": "--logfile_name other",
    "logging_level": "--logging_level 30",
    "logfile_date": "--logfile_date",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_that_is_used_changes_the_plan(
    command: str,
    received: list,  # noqa: F811
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = "--descriptor_filename one_characterization.pickle"
    if command == "match":
        base = "--microstructure_filenames small.npy"
    before = content(plan_of(command, base, received, files, monkeypatch))
    cases = {**HONOURED[command], **SHARED}
    if command == "match":
        cases["periodic"] = "--non_periodic"
        cases["grey_values"] = "--microstructure_filenames grey.npy --grey_values"
    for name, words in cases.items():
        plan = plan_of(command, f"{base} {words}", received, files, monkeypatch)
        assert plan.ignored == "", name
        assert content(plan) != before, name
    named = {*cases, "use_multigrid_descriptor", "periodic", "grey_values"}  # False already; the others see below
    if command == "reconstruct":
        named |= {"descriptor_weights", "optimizer_type", "loss_type", "limit_to", "max_iter", "use_multiphase"}
        for words in ("--descriptor_weights 2", "--optimizer_type TNC", "--loss_type RMS", "--limit_to 5"):
            assert content(plan_of(command, f"{base} {words}", received, files, monkeypatch)) != before
    used, _ = names_of(command)
    assert named & used == used


def test_the_log_file_has_mcrpys_date(received: list, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(match_plan.time, "asctime", lambda: "Tue Nov 24 11:11:04 2026")
    words = "--microstructure_filenames large.npy --logfile_date --logfile_name log"
    plan = plan_of("match", words, received, files, monkeypatch)
    assert plan.logfile_name == "log-Tue-Nov-24-11-11-04-2026"  # as MCRpy's src/log.py
    with run_log.log_file(SimpleNamespace(folder=files, logfile_name=plan.logfile_name, logging_level=logging.INFO)):
        run_log.log_environment()
    assert "TF_USE_LEGACY_KERAS=1" in (files / f"{plan.logfile_name}.log").read_text()


def value_for(keywords: dict[str, Any]) -> list[str]:
    return [] if "action" in keywords else [{int: "3", float: "0.5"}.get(keywords["type"], "x")]


@pytest.mark.parametrize("command", COMMANDS)
def test_all_that_is_unused_is_named_in_one_warning(
    command: str,
    received: list,  # noqa: F811
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, names = names_of(command)
    unused = {flag: keywords for flag, keywords in mcrpy_arguments(command).items() if keywords["dest"] in names}
    assert len(unused) > 20
    words = [word for flag, keywords in unused.items() for word in (flag, *value_for(keywords))]
    given = "--microstructure_filenames large.npy" if command == "match" else "--descriptor_filename one_x.pickle"
    monkeypatch.chdir(files)
    assert getattr(commands, command)(["--method", "diffusion", *given.split(), *words]) == 0
    ((_, options),) = received
    assert set(options["ignored"]) == set(unused)
    assert capsys.readouterr().err == ""  # the pipeline says it, with what it finds itself
    if command == "match":
        plan = make_plan({**options, **SMALL}, reference_from_micrographs(["large.npy"], options))
        pipeline.run(plan, dry_run=True)
        (line,) = capsys.readouterr().err.splitlines()
        assert ignored_in(line) == [options["ignored"]]


@contextlib.contextmanager
def no_output() -> Iterator[None]:
    with open("/dev/null", "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def ignored_in(warning: str) -> list[list[str]]:
    """The flags that a warning names as ignored, for each reason: "warning: --a, --b: why; --c: why; ignored"."""
    reasons = warning.strip().removeprefix("warning: ").removesuffix("; ignored")
    return [reason.partition(": ")[0].split(", ") for reason in reasons.split("; ") if reason]


def warned(options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    function = pipeline.match if "microstructure_filenames" in options else pipeline.reconstruct
    with no_output():
        assert run(lambda: function({**SMALL, "dry_run": True, **options})) == 0
    return ignored_in(capsys.readouterr().err)


def test_options_without_effect_in_this_run_are_named_too(
    files: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str], blank_figures: None
) -> None:
    """Crops need no optimizer, a given model no training."""
    large, small = ({"microstructure_filenames": [str(files / f"{name}.npy")]} for name in ("large", "small"))
    of_mcrpy = {"max_iter": 5, "loss_type": "RMS", "limit_to": 4}
    of_reconstructions = ["--loss_type", "--max_iter"]
    assert warned({**large, **of_mcrpy}, capsys) == [of_reconstructions]
    assert warned({**small, **of_mcrpy}, capsys) == []
    assert warned({**large, **of_mcrpy, "ignored": ["--greedy"]}, capsys) == [["--greedy"], of_reconstructions]
    assert warned({**large, "periodic": False}, capsys) == []
    assert warned({**large, "periodic": True}, capsys) == [["--non_periodic"]]

    folder = tmp_path_factory.mktemp("trained")
    with no_output():
        pipeline.match({**SMALL, **large, "n_samples": 1, "data_folder": str(folder)})
    capsys.readouterr()  # what the training logged, where an earlier test left a handler that prints it
    model = {"model": str(folder / "model.safetensors")}
    of_training = ["--n_training_samples", "--n_training_steps"]
    assert warned({**large, **of_mcrpy, **model}, capsys) == [of_reconstructions, of_training]
    assert warned({**large, **model, "periodic": True}, capsys) == [of_training, ["--non_periodic"]]

    characterization = {"descriptor_filename": str(files / "one_characterization.pickle")}
    settled = {**characterization, "max_iter": 5, "use_multigrid_descriptor": False}
    assert warned(settled, capsys) == [["--no_multigrid_descriptor"]]
    assert warned({**characterization, **model, "max_iter": 5}, capsys) == [["--n_training_steps"]]

    few = {name: value for name, value in SMALL.items() if name != "n_training_samples"}
    reference = reference_from_characterization(characterization["descriptor_filename"])
    slow = {**few, **characterization, **model, "descriptor_types": ["Correlations"]}
    assert make_plan({**few, **characterization, **model}, reference).reconstructs_to_compare
    for preset in ("quick", "paper"):  # not as many as the preset would train on
        compared = make_plan({**few, **characterization, **model, "preset": preset}, reference)
        assert compared.generation.n_training_samples == match_plan.N_COMPARED
    assert not make_plan(slow, reference).reconstructs_to_compare
    assert not make_plan({**slow, "descriptor_types": ["Variation"]}, reference).request.targets  # it has no gradient
    assert make_plan({**slow, "n_training_samples": 4}, reference).reconstructs_to_compare
    log = (folder / "logfile.log").read_text()
    assert "settings: " in log
    assert json.dumps(str(folder)) in log


def test_a_volume_is_planned(files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One volume where no number is given, by the defaults of volumes; through the whole command."""
    monkeypatch.chdir(files)
    extent = "--extent_x 16 --extent_y 24"
    words = f"--method diffusion --microstructure_filenames large.npy {extent} --dry_run --add_dimension".split()
    assert commands.match([*words, "16"]) == 0
    said = capsys.readouterr().out
    assert "1 volume of 16 x 24 x 16 voxels" in said
    assert re.search(rf"sampling +ddpm, {N_VOLUME_STEPS} steps", said)
    for given, message in (("15", "extent must be a multiple"), ("0", "add_dimension must be at least 1, got 0")):
        assert commands.match([*words, given]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert not (files / "results").exists()


def test_3d_files_are_one_line(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(files)
    np.save("cube.npy", np.zeros((16, 16, 16), dtype=np.uint8))
    assert commands.merge(["one_characterization.pickle", "two_characterization.pickle", "merged.pickle"]) == 0

    def said(command: Any, words: Sequence[str]) -> str:
        capsys.readouterr()
        assert command(["--method", "diffusion", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "cube.npy" in said(commands.match, ["--microstructure_filenames", "cube.npy"])
    assert "3D" in said(commands.reconstruct, ["--descriptor_filename", "merged.pickle"])
    with pytest.raises(InputError, match="3D"):
        pipeline.reconstruct({"descriptor_filename": "merged.pickle"})
