"""MCRpy-diffusion: new microstructures from one micrograph, by a diffusion model inside MCRpy.

Public names are imported when they are first used: importing this package loads neither torch nor TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcrpy_diffusion import data, diffusion, materials, metrics
    from mcrpy_diffusion.api import held_out_structures, make_dataset, make_material, train_model, write_structure
    from mcrpy_diffusion.data.dataset import Dataset
    from mcrpy_diffusion.data.micrograph import Micrograph, read_micrograph
    from mcrpy_diffusion.errors import InputError
    from mcrpy_diffusion.evaluation.evaluate import evaluate as evaluate_structures
    from mcrpy_diffusion.evaluation.volumes import evaluate_volumes
    from mcrpy_diffusion.mcrpy_bridge.loss import mcrpy_loss
    from mcrpy_diffusion.mcrpy_bridge.plugin_options import plugin_options
    from mcrpy_diffusion.mcrpy_bridge.registration import register
    from mcrpy_diffusion.mcrpy_bridge.sampling import reconstruct_many
    from mcrpy_diffusion.models.model import Model, load_model
    from mcrpy_diffusion.reports.report import write_report
    from mcrpy_diffusion.settings import preset

__version__ = "0.1.0"

_LAZY_IMPORTS = {
    "Dataset": "mcrpy_diffusion.data.dataset:Dataset",
    "InputError": "mcrpy_diffusion.errors:InputError",
    "Micrograph": "mcrpy_diffusion.data.micrograph:Micrograph",
    "Model": "mcrpy_diffusion.models.model:Model",
    "evaluate_structures": "mcrpy_diffusion.evaluation.evaluate:evaluate",
    "evaluate_volumes": "mcrpy_diffusion.evaluation.volumes:evaluate_volumes",
    "held_out_structures": "mcrpy_diffusion.api:held_out_structures",
    "load_model": "mcrpy_diffusion.models.model:load_model",
    "make_dataset": "mcrpy_diffusion.api:make_dataset",
    "make_material": "mcrpy_diffusion.api:make_material",
    "mcrpy_loss": "mcrpy_diffusion.mcrpy_bridge.loss:mcrpy_loss",
    "plugin_options": "mcrpy_diffusion.mcrpy_bridge.plugin_options:plugin_options",
    "preset": "mcrpy_diffusion.settings:preset",
    "read_micrograph": "mcrpy_diffusion.data.micrograph:read_micrograph",
    "reconstruct_many": "mcrpy_diffusion.mcrpy_bridge.sampling:reconstruct_many",
    "register": "mcrpy_diffusion.mcrpy_bridge.registration:register",
    "train_model": "mcrpy_diffusion.api:train_model",
    "write_report": "mcrpy_diffusion.reports.report:write_report",
    "write_structure": "mcrpy_diffusion.api:write_structure",
}
__all__ = [
    "Dataset",
    "InputError",
    "Micrograph",
    "Model",
    "data",
    "diffusion",
    "evaluate_structures",
    "evaluate_volumes",
    "held_out_structures",
    "load_model",
    "make_dataset",
    "make_material",
    "materials",
    "mcrpy_loss",
    "metrics",
    "plugin_options",
    "preset",
    "read_micrograph",
    "reconstruct_many",
    "register",
    "train_model",
    "write_report",
    "write_structure",
]

if not TYPE_CHECKING:  # a type checker then names what is not there

    def __getattr__(name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module, _, attribute = _LAZY_IMPORTS.get(name, f"{__name__}.{name}").partition(":")
        return getattr(import_module(module), attribute) if attribute else import_module(module)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
