"""Makes this package's plugins visible to MCRpy, without changing any of its files."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import MutableSequence
from pathlib import Path

from mcrpy_diffusion.mcrpy_bridge.environment import import_mcrpy

_FACTORIES = {
    "descriptors": ("mcrpy.src.descriptor_factory", "descriptor_choices"),
    "optimizers": ("mcrpy.src.optimizer_factory", "optimizer_choices"),
}


def plugin_folders() -> list[Path]:
    """Return where the plugins lie: installed as `mcrpy_diffusion.plugins`, or beside the package in a source tree.

    Returns
    -------
    list of Path
        Existing folders with the sub-folders `descriptors` and `optimizers`; empty if there are none.
    """
    spec = importlib.util.find_spec("mcrpy_diffusion.plugins")
    found = [Path(place) for place in (spec.submodule_search_locations or [])] if spec is not None else []
    beside = Path(__file__).resolve().parents[2] / "plugins"
    is_ours = any((beside / kind).is_dir() for kind in _FACTORIES)
    return [folder for folder in found if folder.is_dir()] or ([beside] if is_ours else [])


def register(*, hide_gpus: bool = False, with_torch: bool = True) -> None:
    """Let MCRpy find this package's descriptors and optimizers by their names, and offer them as choices.

    MCRpy imports a plugin as `mcrpy.descriptors.<Name>`, so the folder is appended to that package's search path (its
    own plugins come first), and the name to its list of choices, in place. Calling this again changes nothing.

    Parameters
    ----------
    hide_gpus : bool
        Hide GPUs from TensorFlow, if this call is the one that imports it.
    with_torch : bool
        Load PyTorch before TensorFlow, for a process that needs both (see `frameworks`).
    """
    import_mcrpy(hide_gpus=hide_gpus, with_torch=with_torch)
    for kind, (factory, choices) in _FACTORIES.items():
        package = importlib.import_module(f"mcrpy.{kind}")
        offered: list[str] = getattr(importlib.import_module(factory), choices)
        for folder in plugin_folders():
            _add(package.__path__, offered, folder / kind)
    importlib.invalidate_caches()


def _add(search_path: MutableSequence[str], offered: list[str], folder: Path) -> None:
    """Append a folder to a package's search path and its plugins to the choices, each once."""
    if not folder.is_dir():
        return
    if folder.resolve() not in (Path(place).resolve() for place in search_path):
        search_path.append(str(folder))
    for file in sorted(folder.glob("*.py")):
        if not file.name.startswith("_") and file.stem not in offered:
            offered.append(file.stem)
