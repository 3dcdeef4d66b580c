"""Evaluation -> the rows of the table of measures, on the page and on the console."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mcrpy_diffusion.evaluation.features import GENERATIVE
from mcrpy_diffusion.evaluation.results import (
    Anisotropy,
    ChordComparison,
    Counts,
    CurveDiscrepancy,
    DataCopying,
    Evaluation,
    FeatureMeasure,
    GrainProperty,
    NearestTraining,
    PropertyComparison,
    ScalarComparison,
)
from mcrpy_diffusion.runtime.tables import MISSING, number

BASIC_GROUP = "Volume fraction and spatial statistics"
REQUEST_GROUP = "What was asked for"
FEATURE_GROUP = "Features of a trained network"
COPY_GROUP = "Copies of the training data"

CURVES = {
    "two_point_correlation": (
        "S2",
        "two-point correlation",
        "Probability that two pixels at a distance r are both in the phase",
    ),
    "lineal_path": ("L", "lineal path", "Probability that a segment of length r lies entirely in the phase"),
}
SCALARS = {
    "specific_surface": ("specific surface", 4, "Length of the interface of the phase per area, 1/pixel"),
    "number_of_clusters": (
        "clusters per 10,000 pixels",
        1,
        "Number of connected components of the phase (4-connectivity)",
    ),
    "euler_number": (
        "Euler number per 10,000 pixels",
        1,
        "Number of connected components of the phase minus the number of its holes",
    ),
}
MEANINGS = {
    "frechet_distance": "Distance between the distributions of the features of both sets, 0 if they are equal "
    "(eq. 18). It is larger for fewer images, also between real ones: compare it with its floor.",
    "precision": "Share of the generated structures within the manifold of the real ones, by their features (eq. 19): "
    "1 if each resembles a real one.",
    "recall": "Share of the real structures within the manifold of the generated ones (eq. 20): 1 if these have all "
    "their variety.",
    "density": "Mean density of real structures around the generated ones: 1 for equal distributions. Unlike "
    "precision, it is robust against outliers among the real ones.",
    "coverage": "Share of the real structures with a generated one nearby: about 0.9 for equal distributions and "
    "numbers of structures.",
}


@dataclass(frozen=True)
class Row:
    """One measure in words: generated against original structures, against the held-out part, and its floor.

    The interval is that of the value, or of what `interval_of` names. The floor has in brackets what 95 % of equal sets
    are below.
    """

    name: str
    value: str
    floor: str
    meaning: str
    interval: str = ""
    interval_of: str = ""
    held_out: str = ""
    count: str = ""
    is_beyond: bool = False

    @property
    def marked(self) -> str:
        """The value, with a star if it lies beyond the 95 % of the floor."""
        return f"{self.value} *" if self.is_beyond else self.value

    @property
    def with_interval(self) -> str:
        """The value with its interval in brackets."""
        return f"{self.value} [{self.interval.replace(' to ', ', ')}]" if self.interval else self.value


def groups(evaluation: Evaluation) -> dict[str, list[Row]]:
    """Return the rows of everything that was measured, by group."""
    by_group = {
        BASIC_GROUP: [_fraction_row(evaluation), *_curve_rows(evaluation)],
        REQUEST_GROUP: [*_request_rows(evaluation)],
        FEATURE_GROUP: [_feature_row(found, MEANINGS[name]) for name, found in feature_measures(evaluation).items()],
        "Interfaces and connectivity": [*_shape_rows(evaluation)],
        "Directions": [*_direction_rows(evaluation)],
        "Grains": [*_grain_rows(evaluation)],
        "Properties": [*_property_rows(evaluation)],
        COPY_GROUP: [_nearest_row(evaluation.nearest_training_image), _copying_row(evaluation.data_copying)],
    }
    return {name: rows for name, rows in by_group.items() if rows}


def _request_rows(evaluation: Evaluation) -> Iterator[Row]:
    for each in evaluation.requested or ():
        other = f"asked {each.asked:.4f}" if each.unsteered is None else f"unsteered {each.unsteered:.1f}"
        reached = f"{each.reached:.4f}" if each.unsteered is None else f"{each.reached:.1f}"
        yield Row(
            each.name, f"{reached} ({other})", MISSING, f"Asked for: {each.asked:.4g}. Median of single structures."
        )


def feature_measures(evaluation: Evaluation) -> dict[str, FeatureMeasure]:
    """Return the measures by features that were asked for."""
    measures: dict[str, FeatureMeasure] = {name: getattr(evaluation, name) for name in GENERATIVE}
    return {name: measure for name, measure in measures.items() if measure.features is not None}


def percent(value: float | None) -> str:
    """Return a percentage with one decimal from 1 % on, else with two."""
    return number(value, "{:.1f} %" if value is None or value >= 1 else "{:.2f} %")


def figure(value: float | None) -> str:
    """Return a number with at least three digits."""
    return number(value, "{:.3f}" if value is None or value < 10 else "{:.2f}" if value < 100 else "{:.0f}")


def _fraction_row(evaluation: Evaluation) -> Row:
    fraction = evaluation.volume_fraction
    share = f"Share of the pixels of phase {fraction.phase}: {fraction.generated:.4f} in the generated structures"
    return _scalar_row(evaluation, fraction, "volume fraction", 4, share)


def _scalar_row(evaluation: Evaluation, values: ScalarComparison, name: str, digits: int, meaning: str) -> Row:
    """A number per structure: difference of the means, and the real mean."""

    def against(difference: float | None, real: float | None) -> str:
        if difference is None or real is None:
            return MISSING
        return f"{difference:+.{digits}f} ({real:.{digits}f})"

    return Row(
        _with_phase(name, evaluation, values.phase),
        against(values.difference, values.original),
        _floor(values, lambda value: f"{value:.{digits}f}", "±"),
        f"{meaning}.",
        interval=_interval(values.interval, f"{{:+.{digits}f}}"),
        is_beyond=_is_beyond(values),
        held_out=against(values.held_out_difference, values.held_out),
        count=_count(values.n_images),
    )


def _curve_rows(evaluation: Evaluation) -> Iterator[Row]:
    for measure, (symbol, title, meaning) in CURVES.items():
        values, name = getattr(evaluation, measure), f"{title}, eps_{symbol}"
        text = f"{meaning}: area between the two curves divided by the area under the real one."
        yield _curve_row(values, _with_phase(name, evaluation, values.phase), text, values.n_images)


def _curve_row(values: CurveDiscrepancy, name: str, meaning: str, counts: Counts) -> Row:
    """A curve per structure: discrepancy of the mean curves, eq. (23)."""
    interval = values.difference_interval_percent
    return Row(
        name,
        percent(values.discrepancy_percent),
        _floor(values, percent),
        meaning,
        interval=_interval(interval, "{:+.1f}" if interval and max(map(abs, interval)) >= 1 else "{:+.2f}", " %"),
        interval_of="area, generated minus real",
        is_beyond=_is_beyond(values),
        held_out=percent(values.held_out_discrepancy_percent),
        count=_count(counts),
    )


def _floor(values: ScalarComparison | CurveDiscrepancy, style: Callable[[float], str], sign: str = "") -> str:
    """The mean of the floor, and in brackets what 95 % of equal sets are below."""
    mean, high = values.deviation[1], values.upper_floor
    if mean is None:
        return MISSING
    return f"{sign}{style(mean)}" + (f" ({style(high)})" if high is not None else "")


def _is_beyond(values: ScalarComparison | CurveDiscrepancy) -> bool:
    value, high = values.deviation[0], values.upper_floor
    return value is not None and high is not None and abs(value) > high


def _shape_rows(evaluation: Evaluation) -> Iterator[Row]:
    for measure, (name, digits, meaning) in SCALARS.items():
        values: ScalarComparison | None = getattr(evaluation, measure)
        if values is not None:
            yield _scalar_row(evaluation, values, name, digits, meaning)
    if evaluation.chord_length is not None:
        yield _chord_row(evaluation, evaluation.chord_length)


def _chord_row(evaluation: Evaluation, chords: ChordComparison) -> Row:
    made, real = (number(length, "{:.2f}") for length in (chords.generated_mean_length, chords.original_mean_length))
    meaning = (
        "Number of chords of each length in the phase: area between the two distributions divided by the area under "
        f"the real one. Mean chord length: {made} pixels, in the original {real}."
    )
    return _curve_row(chords, _with_phase("chord lengths, eps", evaluation, chords.phase), meaning, chords.n_images)


def _direction_rows(evaluation: Evaluation) -> Iterator[Row]:
    """Yield the direction that fits worst, and the anisotropy, of each curve."""
    for measure, (symbol, _, _) in CURVES.items():
        values = getattr(evaluation, measure)
        if values.directions is not None:
            each = {name: found.discrepancy_percent for name, found in values.directions.items()}
            worst = max(each, key=lambda name: each[name] or 0.0)
            name = _with_phase(f"{symbol} {worst}, the worst direction", evaluation, values.phase)
            text = f"eps_{symbol} of one direction alone: {', '.join(f'{n} {percent(v)}' for n, v in each.items())}."
            yield _curve_row(values.directions[worst], name, text, values.n_images)
    for measure, (symbol, _, _) in CURVES.items():
        values = getattr(evaluation, measure)
        if values.anisotropy_percent is not None:
            name = _with_phase(f"anisotropy of {symbol}", evaluation, values.phase)
            yield _anisotropy_row(values.anisotropy_percent, name, symbol, values.n_images)


def _anisotropy_row(values: Anisotropy, name: str, symbol: str, counts: Counts) -> Row:
    def against(real: float | None) -> str:
        made = values.generated
        return MISSING if made is None or real is None else f"{made - real:+.1f} ({real:.1f} %)"

    return Row(
        name,
        against(values.original),
        number(values.floor, "±{:.1f}"),
        f"Largest difference of {symbol} between two directions. It is larger for fewer structures by chance.",
        held_out=against(values.held_out),
        count=_count(counts),
    )


def _grain_rows(evaluation: Evaluation) -> Iterator[Row]:
    grains = evaluation.grains
    if grains is None:
        return
    count = f"{grains.n_grains.generated} / {grains.n_grains.original} grains"
    if grains.reason:
        yield Row("grains", MISSING, MISSING, f"Not measured: {grains.reason}.", count=count)
    if grains.diameter is not None:
        yield from _grain_property_rows(grains.diameter, "grain diameter", " pixels", count)
    if grains.aspect_ratio is not None:
        yield from _grain_property_rows(grains.aspect_ratio, "grain aspect ratio", "", count)


def _grain_property_rows(values: GrainProperty, name: str, unit: str, count: str) -> Iterator[Row]:
    """Yield the distances of the distributions."""
    spread = (
        f"Mean and standard deviation: {values.generated:.2f} ± {values.generated_std:.2f} (generated) and "
        f"{values.original:.2f} ± {values.original_std:.2f} (original)."
    )
    for distance, title, suffix, meaning in (
        ("wasserstein", "Wasserstein", unit, "Mean shift that turns one distribution into the other."),
        ("kolmogorov_smirnov", "Kolmogorov-Smirnov", "", "Largest difference of the cumulative distributions."),
    ):
        unseen = getattr(values, f"held_out_{distance}")
        yield Row(
            f"{name}, {title}",
            f"{figure(getattr(values, distance))}{suffix}",
            figure(getattr(values, f"{distance}_floor")),
            f"{meaning} {spread}",
            held_out="" if unseen is None else figure(unseen),
            count=count,
        )


def _property_rows(evaluation: Evaluation) -> Iterator[Row]:
    for phase, found in (evaluation.properties or {}).items():
        share = ", ".join(f"{100 * value:.0f} % ({name})" for name, value in found.percolating.items())
        meaning = (
            f"Conductivity if phase {phase} conducts and the others insulate, mean over the axes. The phase conducts "
        )
        meaning += f"along {share} of the axes"
        yield _property_row(evaluation, found.conductivity, f"conductivity, phase {phase}", 4, meaning)
        if found.tortuosity_factor is not None:
            meaning = "Volume fraction divided by conductivity, of the structures that conduct"
            yield _property_row(evaluation, found.tortuosity_factor, f"tortuosity factor, phase {phase}", 3, meaning)


def _property_row(evaluation: Evaluation, values: PropertyComparison, name: str, digits: int, meaning: str) -> Row:
    """A property: difference of the means, and the distributions in words."""
    needed = ", ".join(f"{number(n, '{:,}')} ({key})" for key, n in values.n_for_1_percent.items())
    distributions = (
        f"{meaning}. Wasserstein distance of the distributions: {figure(values.wasserstein)}, between real sets "
        f"{figure(values.wasserstein_floor)} (95 %: {figure(values.wasserstein_floor_95)}). Structures for a mean to "
        f"within 1 %: {needed}"
    )
    row = _scalar_row(evaluation, values, name, digits, distributions)
    return replace(row, name=name)


def _feature_row(values: FeatureMeasure, meaning: str) -> Row:
    interval = values.interval
    reason = f" Partly not measured: {values.reason}." if values.reason else ""
    return Row(
        str(values.name),
        figure(values.value),
        figure(values.floor),
        f"{meaning}{reason}",
        interval=f"{figure(interval[0])} to {figure(interval[1])}" if interval else "",
        held_out=figure(values.held_out_value),
        count=_count(values.n_images) if values.n_images else "",
    )


def _nearest_row(nearest: NearestTraining) -> Row:
    where = f" ({nearest.compared_with})" if nearest.compared_with else ""
    real = nearest.held_out_minimum_mse
    unseen = f", for unseen real structures {real:.4f}" if real is not None else ""
    return Row(
        "minimum pixel MSE to training",
        number(nearest.minimum_mse, "{:.4f}"),
        number(real, "{:.4f}"),
        "Share of differing pixels between a generated structure and the training data, for the closest pair"
        f"{where}. It is 0 for a copy, for independent structures {nearest.independent_mse:.3f}{unseen}.",
        count=f"{nearest.n_images.generated} / {nearest.n_images.training}",
    )


def _copying_row(copying: DataCopying) -> Row:
    meaning = (
        "Whether generated structures are nearer to the training structures than unseen real ones: about 0 if not, far "
        "below 0 for copies (and for structures with less of a phase), far above 0 for structures unlike real ones."
    )
    if copying.z is None or copying.n_images is None:
        return Row("data copying, z", MISSING, MISSING, f"{meaning} Not measured: {copying.reason}.")
    overlap = f" They overlap and count as {copying.n_windows:.1f} windows." if copying.n_windows else ""
    return Row(
        "data copying, z",
        f"{copying.z:+.1f}",
        "0 ± 2",
        f"{meaning} Unseen structures: {copying.compared_with}.{overlap}",
        count=f"{copying.n_images.generated} / {copying.n_images.real}",
    )


def _with_phase(name: str, evaluation: Evaluation, phase: int) -> str:
    return f"{name}, phase {phase}" if evaluation.phases is not None else name


def _count(counts: Counts) -> str:
    return f"{counts.generated} / {counts.original}"


def _interval(interval: Sequence[float] | None, pattern: str, unit: str = "") -> str:
    return f"{pattern.format(interval[0])} to {pattern.format(interval[1])}{unit}" if interval else ""
