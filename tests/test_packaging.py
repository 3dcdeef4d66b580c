"""The files around the code agree with each other: README, .ci/run, setup.cfg, constraints.txt, the folders."""

from __future__ import annotations

import configparser
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def commands_of_readme() -> list[str]:
    """Return the commands of README's shell blocks, in their order."""
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line and not line.startswith("#")]


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line.split("#")[0]) for line in lines if line.split("#")[0].strip()]


def test_readme_opens_with_the_main_job_and_the_tests() -> None:
    main_job, tests, *_ = commands_of_readme()
    assert main_job.startswith("python3 -m venv .venv && .venv/bin/pip install -c constraints.txt . && ")
    assert ".venv/bin/mcrpy_match --method diffusion --microstructure_filenames examples/bicontinuous.npy" in main_job
    assert (ROOT / "examples" / "bicontinuous.npy").is_file()
    assert tests.startswith("python3 -m venv .venv && .venv/bin/pip install -c constraints.txt '.[test]' && ")
    assert tests.endswith(".venv/bin/pytest --cov")


def test_ci_runs_the_test_command_of_the_readme() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert lines[-1] == commands_of_readme()[1]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_files_that_the_readme_names_are_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / target).exists(), target


def test_every_folder_with_code_is_a_package(setup: configparser.ConfigParser) -> None:
    folders = {p.parent.relative_to(ROOT) for top in ("mcrpy_diffusion", "plugins") for p in (ROOT / top).rglob("*.py")}
    names = {".".join(folder.parts) for folder in folders}
    expected = {re.sub("^plugins", "mcrpy_diffusion.plugins", name) for name in names}
    assert set(setup["options"]["packages"].split()) == expected


def test_every_file_that_is_no_code_is_package_data(setup: configparser.ConfigParser) -> None:
    patterns = setup["options.package_data"]["mcrpy_diffusion"].split(", ")
    package = ROOT / "mcrpy_diffusion"
    covered = {file for pattern in patterns for file in package.glob(pattern)}
    files = {p for p in package.rglob("*") if p.is_file() and p.suffix not in (".py", ".pyc")}
    assert files == covered
    assert {"models/*.safetensors", "models/*.md"} <= set(patterns)


def test_console_scripts_name_modules_that_are_there(setup: configparser.ConfigParser) -> None:
    scripts = dict(line.split(" = ") for line in setup["options.entry_points"]["console_scripts"].strip().splitlines())
    assert set(scripts) == {"mcrpy_diffusion", "mcrpy"} | {
        f"mcrpy_{name}" for name in ("match", "reconstruct", "characterize", "view", "merge", "smooth")
    }
    for target in scripts.values():
        module, function = target.split(":")
        spec = find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        assert f"def {function}(" in Path(spec.origin).read_text(encoding="utf-8")


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_constraints_pin_each_requirement_once_within_its_range(setup: configparser.ConfigParser, python: str) -> None:
    environment = {"python_version": python, "python_full_version": f"{python}.0"}  # the rest is this machine's
    pinned: dict[str, str] = {}
    for pin in pins():
        if pin.marker is None or pin.marker.evaluate(environment):
            (specifier,) = pin.specifier
            assert specifier.operator == "=="
            assert canonicalize_name(pin.name) not in pinned
            pinned[canonicalize_name(pin.name)] = specifier.version
    wanted = setup["options"]["install_requires"] + "".join(setup["options.extras_require"].values())
    for line in wanted.strip().splitlines():
        requirement = Requirement(line)
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)])
