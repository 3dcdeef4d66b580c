"""Evaluation of volumes -> the rows of its tables and its sentences, on the page and on the console."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter

from mcrpy_diffusion.evaluation.verdict import FAR_FROM_FLOOR
from mcrpy_diffusion.evaluation.volume_results import CurveFit, PhaseVolumeFit, PlaneFit, ScalarFit, VolumeEvaluation
from mcrpy_diffusion.reports.rows import figure, percent
from mcrpy_diffusion.runtime.tables import number, text_table

PLANE_HEAD = ("slices across", "x", "y", "z", "original", "floor")
SPACE_HEAD = ("volume", "generated", "true", "floor")
WIDTH = 80  # characters of a line of the console at most

_ROUNDING = 1e-9  # of a measure that does not scatter
_SYMBOLS = {"two_point_correlation": "S2", "lineal_path": "L"}
_PLANE_SCALARS = {
    "number_of_clusters": ("clusters / 10,000 pixels", 1, "Connected components of the phase (4-connectivity)."),
    "euler_number": ("Euler number / 10,000 pixels", 1, "Connected components minus holes."),
    "isolated_pixels": ("isolated pixels / 10,000", 2, "Pixels of the phase without a neighbour of the phase."),
    "slice_fraction_std": (
        "spread of slice fractions",
        4,
        "Standard deviation of the volume fractions of the slices of a volume, and of the original structures. It is "
        "too small for original structures that were made with one volume fraction.",
    ),
}
_SPACE_SCALARS = {
    "volume_fraction": ("volume fraction", 4, "Share of the voxels of the phase."),
    "specific_surface": ("specific surface", 4, "Area of the interface per volume, 1/voxel."),
    "number_of_clusters": ("clusters / 1,000,000 voxels", 1, "Connected components of the phase (6-connectivity)."),
    "euler_number": ("Euler number / 1,000,000", 0, "Connected components minus tunnels plus cavities."),
    "isolated_voxels": ("isolated voxels / 1,000,000", 0, "Voxels of the phase without a neighbour of the phase."),
    "diagonal_clusters": (
        "clusters, sections at 45 degrees",
        1,
        "Connected components per 10,000 pixels in sections at 45 degrees to two axes, which no slice is parallel to.",
    ),
    "diagonal_isolated_pixels": (
        "isolated pixels, 45 degrees",
        2,
        "Isolated pixels per 10,000 in sections at 45 degrees to two axes.",
    ),
}
_BY_AXIS = {
    "percolating_share": ("percolating share", 3, "Share of the phase in clusters that connect both faces."),
    "slice_fraction_std": ("spread of slice fractions", 4, "Standard deviation of the slices' volume fractions."),
    "conductivity": ("conductivity", 4, "Effective conductivity if the phase has 1 and others insulate."),
}


@dataclass(frozen=True)
class VolumeRow:
    """One measure: its cells under `PLANE_HEAD` or `SPACE_HEAD`, and its meaning."""

    cells: tuple[str, ...]
    meaning: str


def plane_rows(fit: PhaseVolumeFit) -> list[VolumeRow]:
    """Return the rows of the slices across each axis against the original structures."""
    planes = [fit.planes[axis] for axis in ("x", "y", "z")]
    rows = [
        _plane_curve(planes, f"eps_{symbol}", attrgetter(measure), "Averaged over directions.")
        for measure, symbol in _SYMBOLS.items()
    ]
    for measure, symbol in _SYMBOLS.items():
        text = f"{symbol} along the direction that fits worst."
        rows.append(_plane_curve(planes, f"eps_{symbol}, worst direction", _worst(measure), text))
    text = "Number of chords of each length along rows or columns, whichever fits worse."
    rows.append(_plane_curve(planes, "eps of chord lengths", _worst("chord_length"), text))
    for name in ("down", "across"):
        fits = [plane.directions[name].interface_density for plane in planes]
        rows += _plane_scalar(fits, f"interface density, {name}", 4, "Crossings of the interface per pixel.")
    for measure, (name, digits, meaning) in _PLANE_SCALARS.items():
        rows += _plane_scalar([getattr(plane, measure) for plane in planes], name, digits, meaning)
    return rows


def space_rows(fit: PhaseVolumeFit, *, complement: bool = False) -> list[VolumeRow]:
    """Return the rows of the measures in three dimensions, against true volumes where these were given.

    Parameters
    ----------
    fit : PhaseVolumeFit
    complement : bool
        Whether the phase is all that another one is not, whose rows are there: S2, surface and fractions say no more.
    """
    space = fit.space
    rows = [
        VolumeRow((name, percent(curve.discrepancy_percent), "", percent(curve.floor_percent)), "")
        for name, curve in _space_curves(fit)
        if curve.discrepancy_percent is not None and not (complement and name.startswith("eps_S2"))
    ]
    for measure, (name, digits, meaning) in _SPACE_SCALARS.items():
        if not (complement and measure in ("volume_fraction", "specific_surface")):
            rows.append(_space_scalar(getattr(space, measure), name, digits, meaning))
    for measure, (name, digits, meaning) in _BY_AXIS.items():
        found = getattr(space, measure)
        if found is not None and not (complement and measure == "slice_fraction_std"):
            fits = found.items()
            rows += [_space_scalar(f, f"{name}, {axis}", digits, meaning) for axis, f in fits]
    return rows


def is_complement(phase: str, evaluation: VolumeEvaluation) -> bool:
    """Return whether a phase is phase 0 of two."""
    return phase == "0" and len(evaluation.phases) == 2


def in_order(evaluation: VolumeEvaluation) -> list[tuple[str, PhaseVolumeFit]]:
    """Return the phases, phase 0 of two last."""
    return sorted(evaluation.phases.items(), key=lambda item: is_complement(item[0], evaluation))


def summary(evaluation: VolumeEvaluation) -> str:
    """Return the main result in a few sentences."""
    n, extent = evaluation.n_volumes, " x ".join(map(str, evaluation.extent))
    several = len(evaluation.phases) > 2
    sentences = [f"{n.generated} generated volume{'s' if n.generated != 1 else ''} of {extent} voxels."]
    for phase, fit in evaluation.phases.items():
        if is_complement(phase, evaluation):
            continue
        of_phase = f" of phase {phase}" if several else ""
        fraction, original = fit.volume_fraction, number(fit.volume_fraction.reference, "{:.4f}")
        sentences.append(f"The volume fraction{of_phase} is {fraction.generated:.4f} (original {original}).")
        values = {
            symbol: ", ".join(percent(getattr(plane, measure).discrepancy_percent) for plane in fit.planes.values())
            for measure, symbol in _SYMBOLS.items()
        }
        sentences.append(f"In slices across x, y and z, eps_S2{of_phase} is {values['S2']} and eps_L {values['L']}.")
        sentences += [*_deviations(fit, of_phase), *_verdict(fit, of_phase)]
    return " ".join(sentences)


def notes(evaluation: VolumeEvaluation) -> list[str]:
    """Return the numbers behind the measures, how floors were made, and the warnings."""
    n = evaluation.n_volumes
    numbers = sorted(set(n.original.values()))
    originals = " / ".join(map(str, n.original.values())) if len(numbers) > 1 else str(numbers[0])
    true = f", {n.true} true volumes" if n.true else ""
    floor = (
        f"Floor: original structures and volumes with equal expected values, whole structures and whole volumes "
        f"resampled {evaluation.n_floor_draws} times; scatter of volumes: {evaluation.scatter_of}."
    )
    found = [f"{n.generated} generated volumes, {originals} original structures of each plane{true}.", floor]
    return [*found, *(f"Warning: {text}." for text in evaluation.warnings)]


def volume_table(evaluation: VolumeEvaluation) -> str:
    """Return the closing table of the console, in lines of at most 80 characters.

    Of two phases, phase 0 is given by its measures in three dimensions alone.
    """
    parts = []
    for phase, fit in in_order(evaluation):
        parts.append(f"Phase {phase}")
        complement = is_complement(phase, evaluation)
        if not complement:
            rows = [_shorter(row.cells) for row in plane_rows(fit)]
            parts.append(text_table(PLANE_HEAD, rows, min_widths=(32, 6, 6, 6, 8)) + "\n")
        rows = [row.cells for row in space_rows(fit, complement=complement)]
        parts.append(text_table(SPACE_HEAD, rows, min_widths=(32,)) + "\n")
    wrapped = [line for note in (summary(evaluation), *notes(evaluation)) for line in textwrap.wrap(note, WIDTH)]
    return "\n".join([*parts, *wrapped])


def _space_curves(fit: PhaseVolumeFit) -> Iterator[tuple[str, CurveFit]]:
    yield "eps_S2, all directions", fit.space.two_point_correlation
    for measure, symbol in _SYMBOLS.items():
        for name, direction in fit.space.directions.items():
            yield f"eps_{symbol}, {name.replace('_', ' ')}", getattr(direction, measure)


def _worst(measure: str) -> Callable[[PlaneFit], CurveFit]:
    def of(plane: PlaneFit) -> CurveFit:
        fits = [getattr(direction, measure) for direction in plane.directions.values()]
        return max((fit for fit in fits if fit is not None), key=lambda fit: fit.discrepancy_percent or 0.0)

    return of


def _plane_curve(planes: list[PlaneFit], name: str, chosen: Callable[[PlaneFit], CurveFit], meaning: str) -> VolumeRow:
    fits = [chosen(plane) for plane in planes]
    floors = [fit.floor_percent for fit in fits if fit.floor_percent is not None]
    values = (percent(fit.discrepancy_percent) for fit in fits)
    return VolumeRow((name, *values, "", percent(max(floors) if floors else None)), meaning)


def _plane_scalar(fits: list[ScalarFit], name: str, digits: int, meaning: str) -> Iterator[VolumeRow]:
    """Yield a row; where the planes have originals of their own, these follow in a second one."""
    pattern = f"{{:.{digits}f}}"
    floors = [fit.floor for fit in fits if fit.floor is not None]
    made, real = ([number(value, pattern) for value in values] for values in _values(fits))
    common = real[0] if len(set(real)) == 1 else ""
    yield VolumeRow((name, *made, common, number(max(floors) if floors else None, f"±{pattern}")), meaning)
    if not common:
        yield VolumeRow(("  original", *real, "", ""), "")


def _values(fits: list[ScalarFit]) -> tuple[list[float], list[float | None]]:
    return [fit.generated for fit in fits], [fit.reference for fit in fits]


def _space_scalar(fit: ScalarFit, name: str, digits: int, meaning: str) -> VolumeRow:
    pattern = f"{{:.{digits}f}}"
    cells = (number(fit.generated, pattern), number(fit.reference, pattern), number(fit.floor, f"±{pattern}"))
    return VolumeRow((name, *cells), meaning)


def _shorter(cells: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(cell.replace(" %", "%") for cell in cells)


def _deviations(fit: PhaseVolumeFit, of_phase: str) -> list[str]:
    """Name the measures that deviate by more than `FAR_FROM_FLOOR` floors."""
    measured: dict[str, tuple[float | None, float | None]] = {}
    for axis, plane in fit.planes.items():
        for measure, symbol in _SYMBOLS.items():
            curve = getattr(plane, measure)
            measured[f"{symbol} across {axis}"] = curve.discrepancy_percent, curve.floor_percent
        for name, direction in plane.directions.items():
            scalar = direction.interface_density
            measured[f"interface density across {axis} ({name})"] = scalar.difference, scalar.floor
        for measure, (name, _, _) in _PLANE_SCALARS.items():
            scalar = getattr(plane, measure)
            measured[f"{name.split(' /')[0]} across {axis}"] = scalar.difference, scalar.floor
    for name, curve in _space_curves(fit):
        measured[name.removeprefix("eps_")] = curve.discrepancy_percent, curve.floor_percent
    for measure, (name, _, _) in _SPACE_SCALARS.items():
        scalar = getattr(fit.space, measure)
        measured[name.split(" /")[0]] = scalar.difference, scalar.floor
    for axis, scalar in fit.space.percolating_share.items():
        measured[f"percolating share along {axis}"] = scalar.difference, scalar.floor
    for axis, scalar in (fit.space.conductivity or {}).items():
        measured[f"conductivity along {axis}"] = scalar.difference, scalar.floor
    return _far(measured, of_phase)


def _verdict(fit: PhaseVolumeFit, of_phase: str) -> list[str]:
    """Say where slices have the S2 of the originals and yet are not like them, which S2 alone does not notice."""
    planes = fit.planes.values()
    if any(
        _is_far(plane.two_point_correlation.discrepancy_percent, plane.two_point_correlation.floor_percent)
        for plane in planes
    ):
        return []
    found = []
    if any(_is_far(plane.lineal_path.discrepancy_percent, plane.lineal_path.floor_percent) for plane in planes):
        found.append("lineal path")
    for measure, name in (("number_of_clusters", "clusters"), ("isolated_pixels", "isolated pixels")):
        if any(_is_far(getattr(plane, measure).difference, getattr(plane, measure).floor) for plane in planes):
            found.append(name)
    if not found:
        return []
    return [
        f"The slices{of_phase} have the S2 of the original, but not its {', '.join(found)}. The original may be a "
        "section of no volume that looks alike in all three planes, as equal discs and closed walls of one width are."
    ]


def _is_far(off: float | None, floor: float | None) -> bool:
    """Return whether a measure deviates by more than `FAR_FROM_FLOOR` floors; not without a floor."""
    return off is not None and floor is not None and abs(off) > FAR_FROM_FLOOR * floor + _ROUNDING


def _far(measured: Mapping[str, tuple[float | None, float | None]], of_phase: str) -> list[str]:
    found = []
    for name, (off, floor) in measured.items():
        if not _is_far(off, floor) or off is None or floor is None:
            continue
        found.append(f"{name} ({figure(abs(off) / floor)})" if floor > 0 else name)
    if found:
        return [f"Deviations{of_phase} of more than {FAR_FROM_FLOOR} floors, in floors: {', '.join(found)}."]
    compared = any(None not in pair for pair in measured.values())
    return [f"Every measure{of_phase} is within {FAR_FROM_FLOOR} floors."] if compared else []
