"""Models on disk: tensors as safetensors; the metadata are JSON with all that is needed to rebuild and to sample."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mcrpy_diffusion.errors import InputError, one_line
from mcrpy_diffusion.io.files import write_file
from mcrpy_diffusion.io.records import check_plain
from mcrpy_diffusion.io.untrusted import parse_json
from mcrpy_diffusion.models.model_card import ModelCard
from mcrpy_diffusion.settings import (
    PixelSize,
    SamplingSettings,
    TrainingSettings,
    default_sampling,
    volume_sampling,
)
from mcrpy_diffusion.settings.base import Option

if TYPE_CHECKING:
    from torch import Tensor

    from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
    from mcrpy_diffusion.diffusion.unet import UNet

FORMAT_VERSION = 1
KEY = "mcrpy_diffusion"
MAX_PIXELS = 2**24  # of a training image, 4096 x 4096
MAX_CONDITIONS = 10_000
_MAX_METADATA = 2**24
_FIELDS = (
    Option("n_phases", int, low=0, high=256),
    Option("extent", int, low=1, is_list=True),
    Option("periodic", bool),
    Option("isotropic", bool),
    Option("step", int, low=0, high=1e15),
    Option("training_seconds", float, low=0, high=1e15),
    Option("versions", str, is_mapping=True),
)


@dataclass(frozen=True)
class ModelInfo:
    """The metadata of a checkpoint.

    Attributes
    ----------
    settings : TrainingSettings
    n_phases : int
        0 for grey values.
    extent : tuple of int
        Rows and columns of the training images.
    periodic, isotropic : bool
    conditions : list of list of float
        Volume fractions of phases 1, 2, ... of at most 256 training images, sorted: the distribution of the targets
        of samples. Empty if the network is not conditioned.
    provenance : dict
        How the training data were made: settings, hashes of the references and of the data set.
    step : int
        Optimisation steps done.
    pixel_size : PixelSize, optional
        That of the training images, if it is known.
    card : ModelCard, optional
        Further facts of a model that is shared.
    """

    settings: TrainingSettings
    n_phases: int
    extent: tuple[int, int]
    periodic: bool
    isotropic: bool = False
    conditions: list[list[float]] = field(default_factory=list)
    provenance: dict[str, Any] = field(default_factory=dict)
    step: int = 0
    training_seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    pixel_size: PixelSize | None = None
    card: ModelCard | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the metadata."""
        values = {k: getattr(self, k) for k in self.__dataclass_fields__ if k not in ("pixel_size", "card")}
        card = {} if self.card is None else {"card": self.card.to_dict()}
        size = {} if self.pixel_size is None else {"pixel_size": self.pixel_size.to_dict()}
        return {"format_version": FORMAT_VERSION, **values, "settings": self.settings.to_dict(), **size, **card}

    def sampling_settings(self, n_dims: int = 2, **given: Any) -> SamplingSettings:
        """Return sampling settings: as given, else as the model's card recommends, else `default_sampling`.

        The recommended number of steps holds for the recommended sampler alone; `None` counts as not given. Of volumes
        (`n_dims` 3) the defaults are those of `volume_sampling`, whatever the card says of images.

        Raises
        ------
        InputError
            If a value is out of range.
        """
        given = {k: v for k, v in given.items() if v is not None}
        recommended: dict[str, Any] = {}
        if self.card is None or n_dims == 3:
            default = volume_sampling(self.settings) if n_dims == 3 else default_sampling(self.settings)
            recommended = {"sampler": default.sampler, "n_sampling_steps": default.n_sampling_steps}
        elif self.card.sampling is not None:
            recommended = self.card.sampling.to_dict()
        if given.get("eta") and "sampler" not in given:
            given["sampler"] = "ddim"  # the only sampler with eta
        if given.get("sampler", recommended.get("sampler")) != recommended.get("sampler"):
            recommended = {}
        return SamplingSettings().replace(**{**recommended, **given})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelInfo:
        """Rebuild from the metadata."""
        values = dict(values)
        found = values.pop("format_version", None)
        if found != FORMAT_VERSION:
            raise InputError(f"the model's format version must be {FORMAT_VERSION}, got {found!r:.100}")
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown or "settings" not in values:
            raise InputError(f"the model has unknown fields: {', '.join(unknown)}" if unknown else "it has no settings")
        settings = TrainingSettings.from_dict(values.pop("settings"))
        values["extent"] = tuple(values["extent"])
        if "pixel_size" in values:
            values["pixel_size"] = PixelSize.from_dict(values["pixel_size"])
        if "card" in values:
            values["card"] = ModelCard.from_dict(values["card"])
        info = cls(settings=settings, **values)
        _check_info(info)
        return info


def _check_info(info: ModelInfo) -> None:
    """Raise InputError if a field has another type than in `ModelInfo`, or is out of range."""
    for each in _FIELDS:
        each.check(getattr(info, each.name))
    if len(info.extent) != 2 or math.prod(info.extent) > MAX_PIXELS:
        raise InputError(f"extent must be rows and columns of at most {MAX_PIXELS} pixels, got {info.extent}")
    if not isinstance(info.provenance, dict):
        raise InputError(f"provenance must be a dictionary, got {info.provenance!r:.100}")
    check_plain(info.provenance, "the model's provenance")
    check_plain(info.versions, "the model's versions")
    for name in ("reference_sha256", "descriptor_types"):
        texts = info.provenance.get(name) or []
        Option(name, str, is_list=True).check(tuple(texts) if isinstance(texts, list) else texts)
    n_fractions = max(info.n_phases, 2) - 1 if info.settings.condition_on_volume_fraction else 0
    n_rows = len(info.conditions) if isinstance(info.conditions, list) else -1
    if not min(n_fractions, 1) <= n_rows <= MAX_CONDITIONS * n_fractions:
        raise InputError(f"conditions must be a table of up to {MAX_CONDITIONS} rows of {n_fractions} fractions")
    for row in info.conditions:
        if not (isinstance(row, list) and len(row) == n_fractions and all(_is_fraction(value) for value in row)):
            raise InputError(f"each row of conditions must be {n_fractions} fractions, got {row!r:.100}")
    if info.card is not None:
        info.sampling_settings()  # raises if the recommendation of the card is out of range
        statistics = info.card.statistics
        phases = [] if statistics is None else sorted(statistics.curves.phases)
        if not all(int(phase) < info.n_phases for phase in phases):
            raise InputError(
                f"the phases of the model's statistics must be below {info.n_phases}, got {', '.join(phases)}"
            )


def _is_fraction(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1


def build_network(info: ModelInfo) -> UNet:
    """Build the network of the settings, with new weights."""
    from mcrpy_diffusion.data.phase_encoding import n_channels
    from mcrpy_diffusion.diffusion.unet import UNet

    s = info.settings
    channels = n_channels(info.n_phases)
    return UNet(
        channels,
        channels * (2 if s.learned_variance else 1),
        channels=s.channels,
        channel_multipliers=s.channel_multipliers,
        n_residual_blocks=s.n_residual_blocks,
        attention_levels=s.attention_levels,
        n_heads=s.n_heads,
        dropout=s.dropout,
        patch_size=s.patch_size,
        padding="circular" if info.periodic else "zeros",
        n_conditions=max(info.n_phases, 2) - 1 if s.condition_on_volume_fraction else 0,
        self_condition=s.self_condition,
        time_scale=1000 / s.n_timesteps,
    )


def min_timestep(settings: TrainingSettings, schedule: NoiseSchedule) -> int:
    """Return the first time step of training and sampling: 0, or with `skip_high_snr` that of `MAX_SNR`.

    Earlier steps are skipped for the prediction of log odds alone.
    """
    return schedule.min_timestep if settings.skip_high_snr and settings.prediction == "log_odds" else 0


def save_model(path: str | os.PathLike[str], weights: dict[str, Tensor], info: ModelInfo) -> None:
    """Write weights and settings to a .safetensors file."""
    from safetensors.torch import save

    tensors = {k: v.detach().to("cpu").contiguous() for k, v in weights.items()}
    data = save(tensors, metadata={KEY: json.dumps(info.to_dict())})
    write_file(path, data)


def read_info(path: str | os.PathLike[str]) -> ModelInfo:
    """Read a model's settings without its weights.

    Raises
    ------
    InputError
        If the file is missing, is no safetensors file, or was not made by this package.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise InputError(f"{path}: no such model; give a .safetensors file made by this package")
    try:
        with safe_open(path, framework="numpy") as file:  # the header alone, which needs no PyTorch
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a readable .safetensors file ({one_line(error)})") from error
    if KEY not in metadata:
        raise InputError(f"{path}: the metadata must have {KEY} settings")
    try:
        if len(metadata[KEY]) > _MAX_METADATA:
            raise InputError(f"the settings must have at most {_MAX_METADATA} characters, got {len(metadata[KEY])}")
        return ModelInfo.from_dict(parse_json(metadata[KEY]))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise InputError(f"{path}: {one_line(error)}") from error


def count_weights(path: str | os.PathLike[str]) -> int:
    """Return the number of weights of a model, without reading them."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())


def load_network(path: str | os.PathLike[str]) -> tuple[UNet, ModelInfo]:
    """Rebuild the network of a checkpoint with its weights, in evaluation mode.

    Parameters
    ----------
    path : path
        A model (.safetensors), or a training state (.pt), whose averaged weights are taken.

    Raises
    ------
    InputError
        As `read_info`, or if the weights do not fit the settings.
    """
    import torch
    from safetensors.torch import load_file

    info, weights = _from_state(path) if Path(path).suffix == ".pt" else (read_info(path), load_file(path))
    network = _network_without_weights(info, weights, path)
    network.load_state_dict({k: v.to(torch.float32, copy=True) for k, v in weights.items()}, assign=True)
    return network.eval(), info


def _network_without_weights(info: ModelInfo, weights: Mapping[str, Tensor], path: str | os.PathLike[str]) -> UNet:
    """Build the network on the meta device, without memory, and check that the weights fit.

    Raises
    ------
    InputError
        If they do not. The settings of a file can claim any size, so that the weights limit the size of the network.
    """
    import torch

    s = info.settings
    reason = f"{len(weights)} tensors for {len(s.channel_multipliers)} levels of {s.n_residual_blocks} blocks"
    if len(s.channel_multipliers) * s.n_residual_blocks < len(weights):
        try:
            with torch.device("meta"):
                network = build_network(info)
        except (RuntimeError, ValueError, TypeError, OverflowError) as error:
            raise InputError(f"{path}: no network has these settings ({one_line(error)})") from error
        shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        found = {name: tuple(t.shape) for name, t in weights.items() if isinstance(t, torch.Tensor) and is_weight(t)}
        if shapes == found and len(found) == len(weights):
            return network
        different = [k for k in {**shapes, **weights} if shapes.get(k) != found.get(k)]
        name = different[0] if different else ""
        reason = f"{name[:100]} is {found.get(name)}, by the settings {shapes.get(name)}"
    raise InputError(f"{path}: the weights do not fit the settings ({reason})")


def is_weight(tensor: Tensor) -> bool:
    """Whether a tensor is dense, on the CPU, of real numbers, and has memory for each of its elements."""
    import torch

    ordinary = tensor.layout == torch.strided and tensor.device.type == "cpu" and tensor.is_floating_point()
    return ordinary and tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()


def _from_state(path: str | os.PathLike[str]) -> tuple[ModelInfo, dict[str, Tensor]]:
    from mcrpy_diffusion.io.training_state import read_state

    if not Path(path).is_file():
        raise InputError(f"{path}: no such model; give a .safetensors file made by this package")
    state = read_state(path)
    try:
        info = ModelInfo.from_dict({**state["info"], "step": state["step"], "training_seconds": state["seconds"]})
        return info, dict(state["average"])
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise InputError(f"{path}: not a training state of this package ({one_line(error)})") from error
