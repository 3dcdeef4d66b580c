"""Results of the truth tests -> tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mcrpy_diffusion.evaluation.volumes import AXES
from mcrpy_diffusion.runtime.tables import MISSING, markdown_table, number

_DIRECTIONS = {"x": "x", "y": "y", "z": "z", "face_diagonals": "110", "space_diagonals": "111"}
_SCALARS = {
    "volume_fraction": ("volume fraction", 3),
    "specific_surface": ("surface", 4),
    "euler_number": ("Euler number / 10^6", 0),
    "number_of_clusters": ("clusters / 10^6", 0),
    "isolated_voxels": ("isolated / 10^6", 0),
}


def tables(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the tables of all cases: curves by direction, then scalars."""
    parts = [
        "# Volumes against true volumes\n",
        "eps of S2 and L of the mean curves against the true volumes, percent / its floor, by direction: the axes, the "
        "diagonals of faces (110) and of space (111).\n",
    ]
    for measure, symbol in (("two_point_correlation", "S2"), ("lineal_path", "L")):
        head = ["case", "volumes", "phase", *(f"eps_{symbol} {short}" for short in _DIRECTIONS.values())]
        rows = [
            [*_who(result), phase, *(_curve(fit["space"]["directions"][d][measure]) for d in _DIRECTIONS)]
            for result, phase, fit in _phases(results)
        ]
        parts += [markdown_table(head, rows), ""]
    parts.append("Made (true ± floor); of the percolating share and the conductivity, along x, y and z.\n")
    head = ["case", "volumes", "phase", *(name for name, _ in _SCALARS.values())]
    head += [f"percolating {axis}" for axis in AXES]
    rows = [
        [
            *_who(result),
            phase,
            *(_scalar(fit["space"][measure], digits) for measure, (_, digits) in _SCALARS.items()),
            *(_scalar(fit["space"]["percolating_share"][axis], 3) for axis in AXES),
        ]
        for result, phase, fit in _phases(results)
    ]
    parts += [markdown_table(head, rows), ""]
    parts.append("Effective conductivity if the phase has 1 and the other one insulates, by taufactor.\n")
    rows = [
        [*_who(result), phase, *(_scalar(found[axis], 4) if found else MISSING for axis in AXES)]
        for result, phase, fit in _phases(results)
        for found in [fit["space"].get("conductivity")]
    ]
    parts.append(markdown_table(["case", "volumes", "phase", *(f"conductivity {axis}" for axis in AXES)], rows))
    return "\n".join(parts) + "\n"


def _phases(results: Iterable[Mapping[str, Any]]) -> Iterable[tuple[Mapping[str, Any], str, Mapping[str, Any]]]:
    for result in results:
        for phase, fit in result["evaluation"]["phases"].items():
            yield result, phase, fit


def _who(result: Mapping[str, Any]) -> list[str]:
    counts = result["evaluation"]["n_volumes"]
    kind = "true" if result["is_floor"] else "made"
    return [result["title"], f"{counts['generated']} {kind} / {counts['true']}"]


def _curve(fit: Mapping[str, Any]) -> str:
    return f"{number(fit['discrepancy_percent'], '{:.1f}')} / {number(fit['floor_percent'], '{:.1f}')}"


def _scalar(fit: Mapping[str, Any], digits: int) -> str:
    pattern = f"{{:.{digits}f}}"
    return (
        f"{number(fit['generated'], pattern)} ({number(fit['reference'], pattern)} ± {number(fit['floor'], pattern)})"
    )
