"""Settings, seeds and versions -> the groups in which a page shows them."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import Any

from mcrpy_diffusion.io.provenance import package_versions
from mcrpy_diffusion.runtime.tables import MISSING

PACKAGES = ("torch", "tensorflow", "mcrpy", "numpy", "scipy")


def setting_groups(settings: Mapping[str, Any], seeds: Sequence[int]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the settings in groups, then the seeds, then the versions: (name, [(key, value)])."""
    versions = {"python": platform.python_version()} | package_versions(*PACKAGES)
    groups: dict[str, Mapping[str, Any]] = {"run": {k: v for k, v in settings.items() if not isinstance(v, Mapping)}}
    groups |= {k: v for k, v in settings.items() if isinstance(v, Mapping)}
    groups |= {"seeds": {"seeds of the structures": _ranges(seeds)} if len(seeds) else {}, "versions": versions}
    return [(name, [(k, _plain(v)) for k, v in values.items()]) for name, values in groups.items() if values]


def sampling_seeds(settings: Mapping[str, Any], n: int) -> Sequence[int]:
    """Return the n seeds from that of the group `sampling` on; none if it is unknown."""
    sampling = settings.get("sampling")
    if not isinstance(sampling, Mapping) or "seed" not in sampling:
        return []
    return range(sampling["seed"], sampling["seed"] + n)


def _plain(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, Mapping):
        return ", ".join(f"{k}: {_plain(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _ranges(seeds: Sequence[int]) -> str:
    """Write seeds briefly: 0 to 15, 20."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
