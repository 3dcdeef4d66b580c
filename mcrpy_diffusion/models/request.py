"""What structures of a trained model are asked for besides their seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.models.checkpoint import ModelInfo
from mcrpy_diffusion.settings import SamplingSettings

MAX_SHIFT = 0.3  # of log(f / (1 - f)) beyond the training range; benchmarks/steering/README.md


@dataclass(frozen=True)
class Request:
    """What structures are asked for besides their seeds; without arguments nothing.

    Attributes
    ----------
    volume_fractions : tuple of tuple of float
        Rows of volume fractions of phases 1, 2, ..., sorted; a seed decides which row holds, see `conditioning.draw`.
    """

    volume_fractions: tuple[tuple[float, ...], ...] = ()

    def conditions(self, seeds: Sequence[int]) -> dict[str, Any]:
        """Name in `diffusion.conditions.CONDITIONS` -> value for the structures of some seeds, innermost first."""
        from mcrpy_diffusion.diffusion import conditioning

        found: dict[str, Any] = {}
        if self.volume_fractions:
            found["requested_volume_fraction"] = conditioning.draw(seeds, self.volume_fractions)
        return found

    def check(self, info: ModelInfo, settings: SamplingSettings) -> None:
        """Raise InputError where a model cannot make such structures."""
        if not self.volume_fractions:
            return
        wanted, given = max(info.n_phases, 2) - 1, len(self.volume_fractions[0])
        if info.settings.prediction != "log_odds":
            raise InputError(
                "volume_fraction needs a model that predicts log odds (presets quick and small), got one that predicts "
                f"{info.settings.prediction}"
            )
        if given != wanted:
            phases = "phase 1" if wanted == 1 else f"each of the phases 1 to {wanted}"
            raise InputError(f"volume_fraction must be one number for {phases}, got {given} numbers")
        if not settings.hold_volume_fraction:
            raise InputError("volume_fraction needs hold_volume_fraction, got no-hold_volume_fraction")

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
        if not self.volume_fractions:
            return []
        rows = np.array(self.volume_fractions)
        phases = (f"{a:.4g}" if a == b else f"{a:.4g} to {b:.4g}" for a, b in zip(rows.min(0), rows.max(0)))
        return [f"  asked for      volume fraction {', '.join(phases)}"]

    def to_dict(self) -> dict[str, Any]:
        """Return what was asked for as JSON values, for records; empty where nothing was."""
        if not self.volume_fractions:
            return {}
        rows = np.array(self.volume_fractions)
        named = {"low": rows.min(0), "high": rows.max(0), "mean": rows.mean(0)}
        return {"volume_fraction": {name: [round(float(f), 8) for f in value] for name, value in named.items()}}


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


def request_of(options: Mapping[str, Any]) -> Request:
    """Return the request of the options of a command, by their names."""
    given = options.get("volume_fraction")
    return Request(volume_fraction_table(given) if given else ())
