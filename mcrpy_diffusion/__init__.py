"""MCRpy-diffusion: new microstructures from one micrograph, by a diffusion model inside MCRpy.

Public names are imported when they are first used: importing this package loads neither torch nor TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcrpy_diffusion.errors import InputError
    from mcrpy_diffusion.mcrpy_bridge.registration import register
    from mcrpy_diffusion.mcrpy_bridge.sampling import reconstruct_many
    from mcrpy_diffusion.sample import Model, load_model

__version__ = "0.1.0"
__all__ = ["InputError", "Model", "load_model", "reconstruct_many", "register"]

_HOMES = {
    "InputError": "mcrpy_diffusion.errors",
    "Model": "mcrpy_diffusion.sample",
    "load_model": "mcrpy_diffusion.sample",
    "reconstruct_many": "mcrpy_diffusion.mcrpy_bridge.sampling",
    "register": "mcrpy_diffusion.mcrpy_bridge.registration",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
