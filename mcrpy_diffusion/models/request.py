"""What structures of a trained model are asked for besides their seeds."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mcrpy_diffusion.data.micrograph import read_micrograph
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.results import RequestedFigure
from mcrpy_diffusion.models.checkpoint import ModelInfo
from mcrpy_diffusion.models.known import check_volume_fractions, read_known_pixels
from mcrpy_diffusion.settings import RequestSettings, SamplingSettings

if TYPE_CHECKING:
    from torch import Tensor

    from mcrpy_diffusion.diffusion.descriptors import Target
    from mcrpy_diffusion.diffusion.known_pixels import KnownPixels
    from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule

MAX_SHIFT = 0.3  # of log(f / (1 - f)) beyond the training range; benchmarks/steering/README.md


@dataclass(frozen=True, eq=False)
class Request:
    """What structures are asked for besides their seeds; without arguments nothing.

    Attributes
    ----------
    volume_fractions : tuple of tuple of float
        Rows of volume fractions of phases 1, 2, ..., sorted; a seed decides which row holds, see `conditioning.draw`.
    targets : tuple of Target
        Descriptors that the structures are steered to; they need volume fractions.
    known : KnownPixels or None
        Pixels that all structures share.
    sources : mapping
        Where targets and known pixels come from, for records.
    """

    volume_fractions: tuple[tuple[float, ...], ...] = ()
    targets: tuple[Target, ...] = ()
    known: KnownPixels | None = None
    sources: Mapping[str, Any] = field(default_factory=dict)

    def conditions(self, seeds: Sequence[int], schedule: NoiseSchedule) -> dict[str, Any]:
        """Name in `diffusion.conditions.CONDITIONS` -> value for the structures of some seeds, innermost first."""
        from mcrpy_diffusion.diffusion import conditioning
        from mcrpy_diffusion.diffusion.steering import Steering

        found: dict[str, Any] = {} if self.known is None else {"known_pixels": self.known}
        if self.volume_fractions:
            fractions = conditioning.draw(seeds, self.volume_fractions)
            if self.targets:
                found["descriptors"] = Steering(self.targets, schedule, fractions)
            found["requested_volume_fraction"] = fractions
        return found

    def check(self, info: ModelInfo, settings: SamplingSettings) -> None:
        """Raise InputError where a model cannot make such structures."""
        if not self.volume_fractions:
            return
        what = "target" if self.targets else "volume_fraction"
        wanted, given = max(info.n_phases, 2) - 1, len(self.volume_fractions[0])
        if info.settings.prediction != "log_odds":
            raise InputError(
                f"{what} needs a model that predicts log odds (presets quick and small), got one that predicts "
                f"{info.settings.prediction}"
            )
        if given != wanted:
            phases = "phase 1" if wanted == 1 else f"each of the phases 1 to {wanted}"
            raise InputError(f"volume_fraction must be one number for {phases}, got {given} numbers")
        if not settings.hold_volume_fraction:
            raise InputError(f"{what} needs hold_volume_fraction, got no-hold_volume_fraction")
        if self.known is not None:
            check_volume_fractions(self.known, np.array(self.volume_fractions))

    def advice(self, info: ModelInfo) -> str:
        """Say in one line where a request lies so far from the training data that structures suffer; else ""."""
        if not (self.volume_fractions and info.conditions):
            return ""
        asked, seen = np.array(self.volume_fractions), np.array(info.conditions)
        low, high = seen.min(0), seen.max(0)
        beyond = np.abs(_logit(asked) - _logit(np.clip(asked, low, high))).max(0)
        if not (beyond > MAX_SHIFT).any():
            return ""
        phase = int(beyond.argmax())
        least, most = (1 / (1 + math.exp(-_logit(f[phase]) - d)) for f, d in ((low, -MAX_SHIFT), (high, MAX_SHIFT)))
        wanted = " to ".join(dict.fromkeys(f"{f:.4g}" for f in (asked[:, phase].min(), asked[:, phase].max())))
        return (
            f"the volume fraction {wanted} of phase {phase + 1} is far from the training data's, {low[phase]:.4g} to "
            f"{high[phase]:.4g}: interfaces get ragged; stay between {least:.3g} and {most:.3g}, or train a model on "
            "data with this fraction"
        )

    def describe(self) -> list[str]:
        """Lines of the console."""
        lines = []
        if self.volume_fractions:
            rows = np.array(self.volume_fractions)
            each = (f"{a:.4g}" if a == b else f"{a:.4g} to {b:.4g}" for a, b in zip(rows.min(0), rows.max(0)))
            lines.append(f"  asked for      volume fraction {', '.join(each)}")
        if self.targets:
            lines.append(f"  steered to     {', '.join(target.title for target in self.targets)}")
        if self.known is not None:
            lines.append(f"  known          {int(self.known.mask.sum())} of {self.known.mask.numel()} pixels")
        return lines

    def figures(
        self, structures: np.ndarray, n_phases: int, unsteered: np.ndarray | None = None
    ) -> tuple[RequestedFigure, ...]:
        """Compare structures (N, ...) with what was asked for; `unsteered` are some that were not steered."""
        import torch

        def one_hot(phases: np.ndarray) -> Tensor:
            return torch.from_numpy(np.stack([phases == phase for phase in range(n_phases)], axis=1)).double()

        found = []
        for phase, asked in enumerate(np.mean(self.volume_fractions, axis=0), 1) if self.volume_fractions else ():
            reached = float((structures == phase).mean())
            found.append(RequestedFigure(name=f"volume fraction of phase {phase}", asked=float(asked), reached=reached))
        for target in self.targets:
            own, plain = (
                None if each is None else 100 * float(target.deviation(one_hot(each)).median())
                for each in (structures, unsteered)
            )
            assert own is not None
            name = f"distance from the {target.title}, percent"
            found.append(RequestedFigure(name=name, asked=0.0, reached=own, unsteered=plain))
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Return what was asked for as JSON values, for records; empty where nothing was."""
        if not self.volume_fractions:
            return dict(self.sources)
        rows = np.array(self.volume_fractions)
        named = {"low": rows.min(0), "high": rows.max(0), "mean": rows.mean(0)}
        fractions = {name: [round(float(f), 8) for f in value] for name, value in named.items()}
        return {"volume_fraction": fractions, **self.sources}


def volume_fraction_table(given: Any) -> tuple[tuple[float, ...], ...]:
    """Return the volume fractions that an option stands for.

    Parameters
    ----------
    given : float, str, or sequence of them
        One for each phase from 1 on: a number, or two with a colon between them, ".25:.35", over which the structures
        are spread evenly. Several ranges are passed through together.

    Raises
    ------
    InputError
        If one is no number, out of range, or they are more than 1 together.
    """
    from mcrpy_diffusion.diffusion.conditioning import spread

    each = [given] if isinstance(given, (str, int, float)) else list(given)
    ranges = [_range(one) for one in each]
    low, high = [r[0] for r in ranges], [r[1] for r in ranges]
    if max(sum(low), sum(high)) > 1 + 1e-9:
        raise InputError(f"the volume fractions must be at most 1 together, got {max(sum(low), sum(high)):g}")
    rows = [low] if low == high else spread(low, high)
    return tuple(tuple(row) for row in rows)


def micrograph_table(micrographs: Sequence[np.ndarray], n_phases: int, extent: tuple[int, int]) -> list[list[float]]:
    """Return the table of the volume fractions of windows of micrographs (I, J), which overlap by three quarters."""
    from mcrpy_diffusion.diffusion.conditioning import condition_table

    rows = []
    for phases in micrographs:
        indicators = np.stack([phases == phase for phase in range(1, n_phases)], axis=-1).astype(np.float64)
        windows: np.ndarray = np.lib.stride_tricks.sliding_window_view(indicators, (*extent, 1)).squeeze(-1)
        rows.append(windows[:: extent[0] // 4, :: extent[1] // 4].mean((-2, -1)).reshape(-1, n_phases - 1))
    return condition_table(np.concatenate(rows))


def _range(given: Any) -> tuple[float, float]:
    """Return the lowest and the highest fraction of ".3", "0.25:0.35" or a number."""
    try:
        values = [float(part) for part in str(given).split(":")]
    except ValueError:
        values = []
    if len(values) not in (1, 2):
        raise InputError(f"volume_fraction must be a number such as .3 or a range such as .25:.35, got {given!r:.100}")
    if not all(0 <= value <= 1 for value in values) or values[0] > values[-1]:
        raise InputError(f"volume_fraction must be between 0 and 1, ranges rising, got {given!r:.100}")
    return values[0], values[-1]


def _logit(fractions: Any) -> Any:
    clipped = np.clip(fractions, 1e-6, 1 - 1e-6)
    return np.log(clipped / (1 - clipped))


def make_request(
    wanted: RequestSettings, info: ModelInfo, sampling: SamplingSettings, extent: tuple[int, ...]
) -> Request:
    """Return what options ask for, read from their files and checked.

    Parameters
    ----------
    wanted : RequestSettings
    info : ModelInfo
        Of the model that is asked.
    sampling : SamplingSettings
    extent : tuple of int
        Of the structures.

    Raises
    ------
    InputError
        If a file cannot be used, or the model cannot make such structures.
    """
    request = Request()
    if wanted.target_image is not None or wanted.descriptor_filename is not None:
        request = _with_targets(wanted, info, extent)
    if wanted.volume_fraction:
        request = replace(request, volume_fractions=volume_fraction_table(wanted.volume_fraction))
    if wanted.known is not None:
        known, digest = read_known_pixels(wanted.known, wanted.known_mask, info.n_phases, extent)
        request = replace(request, known=known, sources={**request.sources, "known": digest})
    elif wanted.known_mask is not None:
        raise InputError("known_mask needs known, the image with the known pixels")
    if request.targets and not request.volume_fractions:
        raise InputError("the characterization must hold volume fractions or S2, else give volume_fraction too")
    request.check(info, sampling)
    return request


def _with_targets(wanted: RequestSettings, info: ModelInfo, extent: tuple[int, ...]) -> Request:
    """Read the micrograph or the characterization whose descriptors the structures get, with its volume fractions."""
    from mcrpy_diffusion.models import targets

    if wanted.target_image is not None and wanted.descriptor_filename is not None:
        raise InputError("give one of target_image and descriptor_filename, got both")
    if info.n_phases == 0:
        raise InputError("descriptors need a model that makes phases, got one that makes grey values")
    given: dict[str, Any] = {"extent": extent, "periodic": info.periodic, "limit_to": wanted.limit_to}
    if wanted.target_image is not None:
        micrograph = read_micrograph(wanted.target_image, use_multiphase=info.n_phases > 2)
        if micrograph.n_phases != info.n_phases:
            raise InputError(
                f"{wanted.target_image} must have {info.n_phases} phases, as the model, got {micrograph.n_phases}"
            )
        phases = micrograph.phases
        fractions = tuple(float((phases == phase).mean()) for phase in range(1, info.n_phases))
        found = targets.targets_of_micrograph(phases, info.n_phases, **given)
        return Request((fractions,), found, sources={"target_image": micrograph.sha256, "limit_to": wanted.limit_to})
    from mcrpy_diffusion.mcrpy_bridge.characterization import read_characterization

    path = str(wanted.descriptor_filename)
    names = wanted.descriptor_types
    characterization = read_characterization(path, names=names, limit_to=wanted.limit_to)
    found, fraction = targets.targets_of_characterization(characterization, info.n_phases, names=names, **given)
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    sources = {"descriptors": digest, "descriptor_types": list(names), "limit_to": wanted.limit_to}
    return Request(() if fraction is None else (fraction,), found, sources=sources)
