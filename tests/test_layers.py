"""Who may import whom: reads the imports of every file, and fails on an arrow that the table does not hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "mcrpy_diffusion"

BASE = {"config", "console", "errors", "files", "frameworks", "memory", "parallel", "progress", "training_log"}
LIBRARY = {
    "card_check",
    "checkpoint",
    "model_card",
    "pretrained",
    "preview",
    "records",
    "training_state",
    "data",
    "diffusion",
    "materials",
    "metrics",
}
STAGES = {"generate", "train", "sample", "evaluate", "report", "export"}
EVALUATION = {"evaluate_copies", "evaluate_features", "evaluate_sets", "evaluate_shapes"}  # parts of a stage
WHOLE_WAY = {"api", "pipeline", "compare", "studies"}  # these put stages together

# What a module or subpackage may import of ours, besides itself.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "frameworks": set(),
    "progress": set(),
    "console": {"errors"},
    "files": {"errors"},
    "memory": {"errors"},
    "parallel": set(),
    "training_log": {"errors", "files"},
    "training_state": {"errors", "files", "data"},
    "preview": {"files", "sample"},
    "config": {"errors"},
    "records": {"config", "errors", "files", "data"},
    "data": {"errors"},
    "diffusion": {"errors"},
    "metrics": {"errors"},
    "card_check": {"errors"},
    "checkpoint": {"card_check", "config", "errors", "files", "data", "diffusion", "model_card", "training_state"},
    "model_card": {"card_check", "errors"},
    "pretrained": {"checkpoint", "errors", "model_card"},
    "materials": {"config", "errors", "files", "progress", "data", "metrics"},
    "figures": {"evaluate_copies", "files"},
    **dict.fromkeys(STAGES, BASE | LIBRARY),
    **dict.fromkeys(EVALUATION, BASE | LIBRARY),
    "evaluate_shapes": BASE | LIBRARY | {"evaluate_sets"},
    "evaluate": BASE | LIBRARY | EVALUATION,
    "report": BASE | LIBRARY | {"evaluate_copies", "figures"},
    "export": BASE | LIBRARY | {"sample"},
    **{module: BASE | LIBRARY | STAGES | EVALUATION | {"mcrpy_bridge"} for module in WHOLE_WAY},
    "studies": BASE | LIBRARY | STAGES | {"figures"},
    "api": BASE | LIBRARY | STAGES | {"mcrpy_bridge", "pipeline"},
    "benchmark": BASE | LIBRARY | STAGES | WHOLE_WAY | {"figures", "mcrpy_bridge"},
    "mcrpy_bridge": BASE | LIBRARY | STAGES | WHOLE_WAY | {"plugins", ""},
    "plugins": BASE | LIBRARY | STAGES | {"mcrpy_bridge"},
    "cli": BASE | STAGES | WHOLE_WAY | {"benchmark", "mcrpy_bridge", "pretrained", ""},
    "__main__": {"cli"},
    "": {"errors", "mcrpy_bridge", "sample"},  # __init__.py, for type checkers only
}
# Exceptions of single files.
ALLOWED_FILES = {
    "materials/descriptor_based.py": {"mcrpy_bridge"},
    "mcrpy_bridge/gui.py": {"cli"},  # its Start button runs our commands, its forms show their options
}

MCRPY = {"mcrpy", "tensorflow", "tf_keras", "keras"}
MCRPY_USERS = ("mcrpy_bridge/", "plugins/", "materials/descriptor_based.py")
TORCH_USERS = ("diffusion/", "plugins/", "train.py", "sample.py")  # others import it where they use it


@dataclass(frozen=True)
class Import:
    """One imported module, and whether importing the file imports it."""

    module: str
    at_import: bool
    line: int


def imports(source: str, file: str) -> Iterator[Import]:
    """Find the imports of a file, given by its path inside the package; those for type checkers are left out."""
    tree = ast.parse(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        above = list(_ancestors(node, parents))
        if any(isinstance(a, ast.If) and "TYPE_CHECKING" in ast.unparse(a.test) for a in above):
            continue
        at_import = not any(isinstance(a, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) for a in above)
        for module in _modules(node, file):
            yield Import(module, at_import, node.lineno)


def _ancestors(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> Iterator[ast.AST]:
    while node in parents:
        node = parents[node]
        yield node


def _modules(node: ast.Import | ast.ImportFrom, file: str) -> list[str]:
    """Return the full names; `from package import name` counts as package.name, which may be a module."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        folder = [PACKAGE, *Path(file).parts[:-1]]
        base = ".".join([*folder[: len(folder) - node.level + 1], *([node.module] if node.module else [])])
    return [f"{base}.{alias.name}" for alias in node.names]


def unit_of(module: str) -> str:
    """Return the row of the table for a module of ours; a name of the package itself, as in its __init__, is ""."""
    first = module.split(".")[1] if "." in module else ""
    return first if first in ALLOWED else ""


def violations(source: str, file: str) -> list[str]:
    """Name every import that the rules forbid in a file, given by its path inside the package."""
    unit = Path(file).parts[0].removesuffix(".py").removesuffix("__init__") if file != "__main__.py" else "__main__"
    if unit not in ALLOWED:
        return [f"{file}: {unit} is not in the table of tests/test_layers.py"]
    allowed = ALLOWED[unit] | ALLOWED_FILES.get(file, set()) | {unit}
    found = []
    for item in imports(source, file):
        top = item.module.split(".")[0]
        where = f"{file}:{item.line} imports {item.module}"
        if top == PACKAGE and unit_of(item.module) not in allowed:
            found.append(f"{where}: allowed of ours: {', '.join(sorted(allowed)) or 'nothing'}")
        if top in MCRPY and not file.startswith(MCRPY_USERS):
            found.append(f"{where}: only {', '.join(MCRPY_USERS)} may")
        if top in MCRPY and item.at_import and not file.startswith("plugins/"):
            found.append(f"{where} when it is imported: do it inside the function that needs it")
        if top == "torch" and item.at_import and not file.startswith(TORCH_USERS):
            found.append(f"{where} when it is imported: do it inside the function that needs it")
        if item.module.startswith("matplotlib.pyplot") or item.module == "pylab":
            found.append(f"{where}: pyplot keeps global state, take matplotlib.figure.Figure")
    return found


def source_files() -> list[tuple[str, Path]]:
    """Return (path inside the installed package, file) of all our files."""
    own = [(p.relative_to(ROOT / PACKAGE).as_posix(), p) for p in sorted((ROOT / PACKAGE).rglob("*.py"))]
    plugins = [(p.relative_to(ROOT).as_posix(), p) for p in sorted((ROOT / "plugins").rglob("*.py"))]
    return own + plugins


@pytest.mark.parametrize(("file", "path"), source_files(), ids=lambda value: value if isinstance(value, str) else "")
def test_file_imports_only_what_its_layer_may(file: str, path: Path) -> None:
    assert violations(path.read_text(encoding="utf-8"), file) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("metrics/copying.py", "from mcrpy_diffusion.data.phase_encoding import encode"),
        ("metrics/copying.py", "from mcrpy_diffusion import config"),
        ("metrics/copying.py", "from ..data import phase_encoding"),
        ("metrics/copying.py", "def f():\n    import mcrpy_diffusion.io.files"),
        ("diffusion/unet.py", "import mcrpy_diffusion.settings as c"),
        ("data/dataset.py", "from mcrpy_diffusion.io.files import write_json"),
        ("data/dataset.py", "import torch"),
        ("evaluate.py", "from mcrpy_diffusion.reports.report import write_report"),
        ("train.py", "def f():\n    from mcrpy_diffusion import pipeline"),
        ("train.py", "def f():\n    import tensorflow as tf"),
        ("pipeline.py", "import torch.nn"),
        ("mcrpy_bridge/commands.py", "from mcrpy_diffusion.commands.cli import main"),
        ("mcrpy_bridge/commands.py", "import mcrpy"),
        ("mcrpy_bridge/commands.py", "class A:\n    import mcrpy.src.loss as loss"),
        ("materials/crops.py", "from mcrpy_diffusion.mcrpy_bridge import registration"),
        ("materials/crops.py", "def f():\n    import mcrpy"),
        ("figures.py", "from matplotlib import pyplot as plt"),
        ("utils.py", ""),
    ],
)
def test_forbidden_arrow_is_found(file: str, source: str) -> None:
    assert len(violations(source, file)) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("metrics/copying.py", "from mcrpy_diffusion.errors import InputError\nfrom . import spatial_statistics"),
        ("data/augmentation.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("data/augmentation.py", "def f():\n    import torch"),
        ("mcrpy_bridge/commands.py", "def f():\n    import mcrpy.match\n    import tensorflow"),
        ("materials/descriptor_based.py", "def f():\n    from mcrpy_diffusion.mcrpy_bridge import pickles"),
        ("plugins/optimizers/Diffusion.py", "from mcrpy.optimizers.Optimizer import Optimizer"),
        ("pipeline.py", "from mcrpy_diffusion import evaluate, report"),
    ],
)
def test_allowed_arrow_is_let_through(file: str, source: str) -> None:
    assert violations(source, file) == []


def test_importing_the_package_is_quick_and_loads_no_framework() -> None:
    seconds = []
    for _ in range(5):  # the quickest of five: other work on the machine only adds
        command = [sys.executable, "-X", "importtime", "-c", f"import {PACKAGE}"]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()
        rows = [line.removeprefix("import time:").split("|") for line in lines if line.count("|") == 2]
        cumulative = {name.strip(): microseconds.strip() for _own, microseconds, name in rows}
        loaded = {name.split(".")[0] for name in cumulative}
        assert PACKAGE in loaded
        assert loaded.isdisjoint(MCRPY | {"torch", "matplotlib"})
        seconds.append(int(cumulative[PACKAGE]) / 1e6)
    assert min(seconds) < 0.3


def test_the_command_starts_without_a_framework() -> None:
    code = f"import sys; from {PACKAGE} import cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {name.split(".")[0] for name in done.stdout.split()}.isdisjoint(MCRPY | {"torch", "matplotlib"})
