"""README and docs/ say what is so: links, options and their defaults, and every Python program runs as it stands."""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import mcrpy_diffusion
from mcrpy_diffusion.commands.parser import make_parser
from mcrpy_diffusion.materials.reference import reference_from_micrographs
from mcrpy_diffusion.settings import MATERIALS, PRESETS, AlloySettings, FibreSettings, preset
from mcrpy_diffusion.workflow.match_plan import make_plan

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks/README.md"]
PAGES += [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
ELSEWHERE = "optimizer_type"  # the block with it is run by tests/test_plugin_optimizer.py, which makes what it needs

# --- links -----------------------------------------------------------------------------------------------------------


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.+)$", without_code(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    found = []
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings_that_are_there(page: Path) -> None:
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text("# One `b`_c: 2\n[x](#one-b_c-2) [y](#two) [z](b.md) [w](a.md#one-b_c-2)\n```\n[c](d)\n```\n")
    assert broken_links(page) == ["#two", "b.md"]


def test_every_page_is_reached_from_the_readme() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f"](docs/{page.name}" in text, page


# --- options ---------------------------------------------------------------------------------------------------------


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def make_options() -> ModuleType:
    return load(ROOT / "docs" / "make_options.py")


def test_the_list_of_options_is_that_of_the_parsers(make_options: ModuleType) -> None:
    there = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert there == make_options.text(), "run: python docs/make_options.py"


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    return {flag for action in parser._actions for flag in action.option_strings if action.help != argparse.SUPPRESS}


def test_the_list_names_every_option_of_every_parser(make_options: ModuleType) -> None:
    text = make_options.text()
    for command, parser in make_parser().commands.items():
        part = text.split(f"## mcrpy_diffusion {command}\n")[1].split("\n## ")[0]
        assert options_of(parser) - {"-h", "--help"} == set(re.findall(r"`(--[\w-]+)`", part))
    for command in ("match", "reconstruct", "characterize"):
        part = text.split(f"## mcrpy_{command}\n")[1].split("\n## ")[0]
        assert options_of(make_options.parser_with_ours(command)) == set(re.findall(r"`(--[\w-]+)`", part))


def all_options(make_options: ModuleType) -> set[str]:
    """Return the options of all commands: ours from the parsers, MCRpy's from its source."""
    found = {"--help", "--version", "--information"}
    for parser in make_parser().commands.values():
        found |= options_of(parser)
    for command in ("match", "reconstruct", "characterize"):
        found |= options_of(make_options.parser_with_ours(command))
    spec = importlib.util.find_spec("mcrpy")
    assert spec is not None
    assert spec.origin is not None
    for file in Path(spec.origin).parent.glob("*.py"):
        found |= set(re.findall(r"add_argument\(\s*['\"](--\w+)", file.read_text(encoding="utf-8")))
    return found


def test_no_page_names_an_option_that_is_not_there(make_options: ModuleType) -> None:
    known = all_options(make_options)
    known |= {"--num_processes", "--multi_gpu", "--nproc_per_node"}  # of Accelerate and torchrun
    known |= {"--no-install-recommends", "--check", "--cov"}  # of apt-get, ruff and pytest
    known |= {"--skip_certain_times"}  # the former name of --skip_high_snr
    scripts = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "benchmarks").rglob("*.py"))
    known |= set(re.findall(r'"(--\w+)"', scripts))
    for page in PAGES:
        named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", page.read_text(encoding="utf-8")))
        assert named - known == set(), page.name


def test_the_readmes_table_of_options_has_the_commands_defaults() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.split("The most used options")[1].split("\n\n")[1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert len(rows) > 6
    plan = make_plan({}, reference_from_micrographs([str(ROOT / "examples" / "bicontinuous.npy")], {}))
    defaults: dict[str, object] = {**vars(plan.generation), **vars(plan.sampling)}
    defaults |= {"method": "descriptor", "preset": "quick", "training_data": "auto", "model": "", "dry_run": ""}
    for flags, said, _ in rows:
        words = re.findall(r"[\w.]+", said) or [""]
        for name in re.findall(r"`--(\w+)`", flags):
            wanted = f"{defaults[name]:g}" if isinstance(defaults[name], float) else str(defaults[name])
            of_the_preset = "preset" in words and name in vars(plan.sampling)
            assert wanted in words or of_the_preset, (name, said)


def test_the_readmes_table_of_presets_has_their_numbers() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in PRESETS:
        row = re.search(rf"^\| `{name}` \| .*$", text.split("## Presets")[1], re.MULTILINE)
        assert row
        chosen = preset(name)
        assert f"{chosen.training.n_training_steps:,}".replace("1,200", "1200") in row[0]
        assert f"steps of {chosen.training.batch_size} images" in row[0]
        assert f"with {chosen.sampling.n_sampling_steps} steps" in row[0]


def test_the_readmes_table_of_recipes_has_their_defaults() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## Training data for six materials")[1]
    rows = {material: line for line in text.splitlines() for material in re.findall(r"`(\w+)`", line.split(" | ")[0])}
    alloy, fibre = AlloySettings(), FibreSettings()
    ratios = " : ".join(f"{value:g}" for value in alloy.size_ratios)
    fractions = " : ".join(f"{value:g}".lstrip("0") for value in alloy.volume_fractions)
    assert f"size ratios {ratios} with volume fractions {fractions} (" in rows["alloy"]
    assert f"grains {alloy.grain_size:g} pixels (`--grain_size`)" in rows["alloy"]
    assert f"boundaries {alloy.boundary_width:g} (`--boundary_width`)" in rows["alloy"]
    assert f"volume fraction {fibre.volume_fraction:g};".replace("0.", ".") in rows["fibre"]
    assert f"`--radius` {fibre.radius:g} pixels" in rows["fibre"]
    assert f"`--min_gap` {fibre.min_gap:g}" in rows["fibre"]
    assert set(MATERIALS) <= set(rows)


# --- Python programs -------------------------------------------------------------------------------------------------

RUN = """
import re, sys
from pathlib import Path
for name in sys.argv[1:]:
    text = Path(name).read_text(encoding="utf-8")
    for found in re.finditer(r"```python\\n(.*?)```", text, re.DOTALL):
        if "optimizer_type" not in found[1]:
            line = text[: found.start()].count("\\n") + 1
            exec(compile("\\n" * line + found[1], name, "exec"), {"__name__": "program"})
            print("RAN", Path(name).name, line, flush=True)
"""
TINY = {"channels": 8, "channel_multipliers": (1, 2), "n_timesteps": 50, "n_training_steps": 2, "batch_size": 4}


def programs(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.slow
def test_the_programs_of_readme_and_docs_run_as_they_stand_and_in_order(tmp_path: Path) -> None:
    """In a folder with the examples, and a model in results/ as README's first command leaves one."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    stripes = np.tile(np.arange(32) // 4 % 2, (64, 1)).astype(np.uint8)
    sizes = {"extent_x": 16, "extent_y": 16, "n_training_samples": 20, "training_data": "crops"}
    dataset = mcrpy_diffusion.make_dataset(stripes, tmp_path / "stripes", **sizes)
    mcrpy_diffusion.train_model(dataset, tmp_path / "results", **TINY)
    pages = [page for page in PAGES if programs(page)]
    assert [page.name for page in pages[:1]] == ["README.md"]
    n_programs = sum(ELSEWHERE not in program for page in pages for program in programs(page))
    assert sum(ELSEWHERE in program for page in pages for program in programs(page)) == 1
    assert n_programs >= 6
    line = [sys.executable, "-c", RUN, *map(str, pages)]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert done.stdout.count("RAN") == n_programs
    assert (tmp_path / "work" / "python" / "report" / "report.html").is_file()


def test_every_program_names_what_it_uses() -> None:
    """So that each runs alone, given its files."""
    for page in PAGES:
        for program in programs(page):
            compile(program, page.name, "exec")
            assert re.search(r"^(import|from) ", program, re.MULTILINE)


USER = """
from typing import assert_type

import numpy as np

import mcrpy_diffusion

micrograph = mcrpy_diffusion.read_micrograph("m.npy")
assert_type(micrograph, mcrpy_diffusion.Micrograph)
dataset = mcrpy_diffusion.make_dataset(micrograph, "dataset", n_training_samples=2)
assert_type(dataset, mcrpy_diffusion.Dataset)
mcrpy_diffusion.make_dataset(["a.npy", "b.png"], "dataset")
mcrpy_diffusion.make_dataset(np.zeros((64, 64)), "dataset")
mcrpy_diffusion.make_dataset({"settings": None}, "dataset")
assert_type(mcrpy_diffusion.make_material("fibre", "dataset", radius=4.0), mcrpy_diffusion.Dataset)
model = mcrpy_diffusion.train_model(dataset, "run", preset_name="quick", on_step=lambda step, loss: None)
assert_type(model, mcrpy_diffusion.Model)
assert_type(mcrpy_diffusion.load_model("m"), mcrpy_diffusion.Model)
structures = model.sample(2, shape=(64, 64), seed=1)
original = dataset.load()
metrics = mcrpy_diffusion.evaluate_structures(
    original, structures, n_phases=2, periodic=False, held_out=mcrpy_diffusion.held_out_structures(micrograph)
)
print(metrics["volume_fraction"], structures.mean())
paths = mcrpy_diffusion.write_report("r", name="m", metrics=metrics, original=original, generated=structures)
print(paths[0].name, mcrpy_diffusion.mcrpy_loss(structures, {}).mean(), mcrpy_diffusion.preset("quick").training)
mcrpy_diffusion.register()
with mcrpy_diffusion.plugin_options(model="m"):
    pass
"""
WRONG = {
    "mcrpy_diffusion.lod_model('m')": "attr-defined",
    "mcrpy_diffusion.load_model('m').sample('two')": "arg-type",
    "mcrpy_diffusion.make_dataset(1, 'folder')": "arg-type",
    "mcrpy_diffusion.evaluate_structures(x, x, periodic=False)": "call-arg",
}
CHECK = """[mypy]
strict = True
disallow_any_generics = False
follow_imports = silent
ignore_missing_imports = True
mypy_path = {root}
# as much of the rest as annotations need
[mypy-torch.*]
follow_imports = skip
[mypy-matplotlib.*]
follow_imports = skip
[mypy-scipy.*]
follow_imports = skip
"""


@pytest.mark.slow
def test_a_users_program_passes_a_strict_type_check_and_wrong_ones_do_not(tmp_path: Path) -> None:
    assert (ROOT / "mcrpy_diffusion" / "py.typed").is_file()
    (tmp_path / "mypy.ini").write_text(CHECK.format(root=ROOT))
    (tmp_path / "right.py").write_text(USER.replace("from typing import", "from typing_extensions import"))
    wrong = "import numpy as np\nimport mcrpy_diffusion\nx = np.zeros((1, 8, 8))\n" + "\n".join(WRONG) + "\n"
    (tmp_path / "wrong.py").write_text(wrong)
    for i, program in enumerate(programs(ROOT / "README.md")):
        (tmp_path / f"right_{i}.py").write_text(program)
    files = sorted(path.name for path in tmp_path.glob("*.py"))
    line = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", *files]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    errors = [each for each in done.stdout.splitlines() if ": error:" in each]
    assert not [each for each in errors if each.startswith("right")], done.stdout
    for number, code in enumerate(WRONG.values(), start=4):
        assert any(each.startswith(f"wrong.py:{number}:") and f"[{code}]" in each for each in errors), done.stdout


def test_public_names_are_there_and_documented() -> None:
    documented = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    for name in mcrpy_diffusion.__all__:
        value = getattr(mcrpy_diffusion, name)
        assert value.__doc__, name
        assert re.search(rf"\b{name}\b", documented), name
        assert name in dir(mcrpy_diffusion)
    with pytest.raises(AttributeError, match="lod_model"):
        mcrpy_diffusion.lod_model  # noqa: B018
