"""Whether what a model says of itself is what `export` writes: a stranger may have made the file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mcrpy_diffusion.errors import InputError

_SCALAR = ("original", "original_std", "generated", "difference", "floor", "held_out", "held_out_difference")
_CURVE = ("discrepancy_percent", "interval_percent", "floor_percent", "held_out_discrepancy_percent")
_GENERATIVE = ("name", "features", "value", "interval", "floor", "n_images")
KEPT: dict[str, tuple[str, ...]] = {
    "volume_fraction": (*_SCALAR, "phase"),
    "two_point_correlation": (*_CURVE, "phase"),
    "lineal_path": (*_CURVE, "phase"),
    "nearest_training_image": ("minimum_mse", "held_out_minimum_mse", "independent_mse", "n_exact_copies"),
    "data_copying": ("z", "compared_with"),
    **dict.fromkeys(("frechet_distance", "precision", "recall", "density", "coverage"), _GENERATIVE),
}
"""The figures of metrics.json that a card keeps."""
_NUMBERS = ("original", "generated", "difference")  # of the volume fraction, never None
_TEXTS = ("name", "features", "compared_with")
_INTERVALS = ("interval", "interval_percent")
_SETS = ("original", "generated", "training", "held_out")
_CURVES = ("two_point_correlation", "lineal_path")
_SPREAD = ("mean", "low", "high")
_LARGEST = 1e15  # of a figure
_MAX_DEPTH, _MAX_PARTS = 50, 1_000_000


def check_plain(value: Any, name: str, *, owner: str = "the model") -> None:
    """Check what is printed or written as it is: finite numbers, flags, None, and text without control characters.

    Parameters
    ----------
    value : object
        Lists and dictionaries are looked through.
    name, owner : str
        What the value is, and of whom, in the message.

    Raises
    ------
    InputError
        If anything else is in it, or it is nested absurdly deep.
    """
    layer = [value]
    for _ in range(_MAX_DEPTH):
        parts: list[Any] = []
        for each in layer:
            if isinstance(each, dict):
                parts += [*each, *each.values()]
            elif isinstance(each, (list, tuple)):
                parts += each
            elif isinstance(each, str):
                if not each.isprintable():
                    raise InputError(f"{owner} has control characters in its {name}; allowed is text of one line")
            elif each is not None and not (isinstance(each, (int, float)) and abs(each) < math.inf):
                raise InputError(f"{owner} has {each!r:.100} in its {name}; allowed are text and finite numbers")
        if not parts:
            return
        if len(parts) > _MAX_PARTS:
            break
        layer = parts
    raise InputError(f"{owner} has a {name} of absurd size; allowed are {_MAX_PARTS} values, {_MAX_DEPTH} deep")


def check_dataset(dataset: Mapping[str, Any]) -> None:
    """Raise InputError where the facts of a data set are not what a `ModelCard` says."""
    _check_keys(dataset, "dataset", (), also=("seeds", "versions", "n_samples"))
    versions = dataset.get("versions", {})
    _check(isinstance(dataset.get("seeds", ""), str), "dataset's seeds", dataset.get("seeds"), "text")
    _check(type(dataset.get("n_samples", 0)) is int, "dataset's n_samples", dataset.get("n_samples"), "a whole number")
    is_table = isinstance(versions, dict) and all(isinstance(version, str) for version in versions.values())
    _check(is_table, "dataset's versions", versions, "a text for each name")


def check_half_precision(found: Mapping[str, Any]) -> None:
    """Raise InputError where the effect of half precision is not what a `ModelCard` says."""
    if found:
        _check_keys(found, "half_precision", ("n_images", "differing_pixels"))
        _check(_is_count(found["n_images"]), "half_precision's n_images", found["n_images"], "a whole number")
        share = found["differing_pixels"]
        _check(_is_number(share) and 0 <= share <= 1, "half_precision's differing_pixels", share, "0 to 1")


def check_figures(figures: Mapping[str, Any]) -> None:
    """Raise InputError where figures are not all those that a card keeps, each of its kind."""
    if not figures:
        return
    _check_keys(figures, "figures", ("extent", "n_images", "periodic", *KEPT), also=("grain_diameter",))
    counts, extent, flag = figures["n_images"], figures["extent"], figures["periodic"]
    _check_counts(counts, "figures' n_images")
    is_extent = isinstance(extent, list) and len(extent) == 2 and all(map(_is_count, extent))
    _check(is_extent, "figures' extent", extent, "two whole numbers")
    _check(isinstance(flag, bool), "figures' periodic", flag, "true or false")
    for measure, keys in KEPT.items():
        values = figures[measure]
        _check_keys(values, measure, keys)
        for key, value in values.items():
            _check_figure(value, key, measure)
    wanted = [(key, "volume_fraction") for key in _NUMBERS]
    if "grain_diameter" in figures:
        _check_keys(figures["grain_diameter"], "grain_diameter", ("original", "generated"))
        wanted += [(key, "grain_diameter") for key in ("original", "generated")]
    for key, measure in wanted:
        _check(_is_number(figures[measure][key]), f"{measure}'s {key}", figures[measure][key], "a number")


def _check_figure(value: Any, key: str, measure: str) -> None:
    """Check one figure of a measure, which may be None: not measured."""
    name = f"{measure}'s {key}"
    if value is None and key != "phase":
        return
    if key in _TEXTS:
        _check(isinstance(value, str), name, value, "text")
    elif key in _INTERVALS:
        is_pair = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
        _check(is_pair, name, value, "two numbers")
    elif key == "n_images":
        _check_counts(value, name)
    elif key == "phase":
        _check(type(value) is int and value >= 0, name, value, "a whole number")
    else:
        _check(_is_number(value), name, value, "a number")


def check_statistics(statistics: Mapping[str, Any], figures: Mapping[str, Any]) -> None:
    """Raise InputError where a phase has not as many values of S2 and L, in [0, 1], as there are distances 0, 1, ..."""
    if not statistics:
        return
    _check_keys(statistics, "statistics", ("curves",))
    _check(bool(figures), "statistics", "no figures beside them", "both or neither")
    curves = statistics["curves"]
    _check(isinstance(curves, dict) and len(curves) > 1, "statistics' curves", curves, "distance and a phase or more")
    _check_keys(curves, "statistics' curves", ("distance",), also=[key for key in curves if _is_phase(key)])
    distance = curves["distance"]
    is_range = isinstance(distance, list) and len(distance) > 1 and all(type(r) is int for r in distance)
    is_range = is_range and distance == list(range(len(distance)))
    _check(is_range, "statistics' distance", distance, "0, 1, 2, ...")
    for phase in curves.keys() - {"distance"}:
        _check_keys(curves[phase], f"statistics of phase {phase}", _CURVES)
        for measure in _CURVES:
            name = f"{measure} of phase {phase}"
            _check_keys(curves[phase][measure], name, ("original",))
            spread = curves[phase][measure]["original"]
            _check_keys(spread, name, _SPREAD)
            for key in _SPREAD:
                values = spread[key]
                is_curve = isinstance(values, list) and len(values) == len(distance)
                is_curve = is_curve and all(_is_number(value) and 0 <= value <= 1 for value in values)
                _check(is_curve, f"{key} {name}", values, f"{len(distance)} numbers from 0 to 1")


def _check_keys(found: Any, name: str, wanted: Sequence[str], *, also: Sequence[str] = ()) -> None:
    """Raise InputError where something is no dictionary, lacks a key, or has one besides `wanted` and `also`."""
    _check(isinstance(found, dict), name, found, "a dictionary")
    missing = [key for key in wanted if key not in found]
    if missing:
        raise InputError(f"the model's card has {name} without {', '.join(missing)}; give another model")
    unknown = [key for key in found if key not in wanted and key not in also]
    if unknown:
        known = ", ".join([*wanted, *also])
        raise InputError(f"the model's card has {name} with {unknown[0]!r:.100}; allowed are {known}")


def _check_counts(found: Any, name: str) -> None:
    """Check numbers of structures by set: those of the original and the generated one, others where there are any."""
    _check_keys(found, name, _SETS[:2], also=_SETS[2:])
    _check(all(map(_is_count, found.values())), name, found, "whole numbers of at least 1")


def _check(is_right: bool, name: str, found: Any, allowed: str) -> None:
    if not is_right:
        raise InputError(f"the model's card has {name} of {found!r:.100}; allowed is {allowed}")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= _LARGEST


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 < value <= _LARGEST


def _is_phase(key: Any) -> bool:
    return isinstance(key, str) and re.fullmatch("0|[1-9][0-9]{0,2}", key) is not None
