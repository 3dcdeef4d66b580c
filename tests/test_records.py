"""Typed records: JSON and back keeps all, and what the annotations forbid is refused by name."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.evaluate import evaluate
from mcrpy_diffusion.evaluation.results import Evaluation
from mcrpy_diffusion.io.records import Count, Interval, Number, Record, Share, check_plain

RESULTS = sorted((Path(__file__).parents[1] / "benchmarks" / "paper" / "results").glob("*/metrics/*.json"))


@dataclass(frozen=True, kw_only=True)
class Circle(Record):
    radius: Number


@dataclass(frozen=True, kw_only=True)
class Box(Record):
    rows: Count
    columns: Count


@dataclass(frozen=True, kw_only=True)
class Picture(Record):
    title: str
    flag: bool
    share: Share | None
    interval: Interval | None = None
    shapes: tuple[Circle | Box, ...] = ()
    counts: dict[str, Count] | None = None


GIVEN: dict[str, Any] = {
    "title": "a",
    "flag": True,
    "share": None,
    "interval": [1, 2.5],
    "shapes": [{"rows": 2, "columns": 3}, {"radius": 1.5}],
    "counts": {"x": 1},
}


def test_json_and_back_keeps_all() -> None:
    picture = Picture.from_dict(json.loads(json.dumps(GIVEN)))
    assert picture.shapes == (Box(rows=2, columns=3), Circle(radius=1.5))
    assert picture.to_dict() == GIVEN
    assert Picture(title="b", flag=False, share=None).to_dict() == {
        "title": "b", "flag": False, "share": None, "shapes": []
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"title": 1}, "title must be text, got 1"),
        ({"title": "\x1b[2J"}, "without control characters"),
        ({"flag": 1}, "flag must be true or false"),
        ({"share": 1.01}, "share must be between 0 and 1, got 1.01"),
        ({"share": float("nan")}, "share must be between"),
        ({"share": True}, "share must be a number"),
        ({"interval": [1]}, "interval must be a list of 2 values"),
        ({"interval": [1, 10**400]}, "interval must be between"),
        ({"shapes": {"rows": 2}}, "shapes must be a list"),
        ({"shapes": [{"rows": 2}]}, "shapes must have columns"),
        ({"shapes": [{"rows": 0, "columns": 1}]}, "rows must be between 1 and"),
        ({"counts": {"x": 1.5}}, "counts.x must be a whole number"),
        ({"colour": 1}, "no other keys.*'colour'"),
    ],
)
def test_a_wrong_value_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Picture.from_dict(GIVEN | change)
    with pytest.raises(InputError, match="Picture must be a dictionary"):
        Picture.from_dict([change])


def test_a_subset_has_the_fields_of_its_class() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Small(Record):
        rows: Count

    assert Box(rows=4, columns=2).subset(Small) == Small(rows=4)


@pytest.mark.parametrize("value", [{"a": [float("inf")]}, {"\x9b": 1}, [object()], {"a": {"b": "\n"}}])
def test_plain_values_are_finite_and_printable(value: Any) -> None:
    with pytest.raises(InputError, match="it must be"):
        check_plain(value, "it")


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: f"{file.parent.parent.name}-{file.stem}")
def test_stored_metrics_are_read_and_written_as_they_are(file: Path) -> None:
    stored = json.loads(file.read_text())
    written = Evaluation.from_dict(stored).to_dict()
    assert written == {key: value for key, value in stored.items() if key not in ("key", "run", "by_features")}


def test_an_evaluation_read_like_a_dictionary_is_deprecated() -> None:
    images = np.random.default_rng(0).integers(2, size=(6, 8, 8))
    evaluation = evaluate(images, images[::-1], n_phases=2, periodic=True)
    with pytest.warns(DeprecationWarning, match="use evaluation.volume_fraction"):
        assert evaluation["volume_fraction"]["difference"] == evaluation.volume_fraction.difference
    assert set(evaluation) == set(evaluation.to_dict())
    with pytest.raises(KeyError), pytest.warns(DeprecationWarning, match="deprecated"):
        evaluation["colour"]


@pytest.mark.parametrize(("old", "new", "name"), [
    ("evaluate", "evaluation.evaluate", "evaluate"), ("config", "settings", "TrainingSettings")
])  # fmt: skip
def test_deprecated_modules_offer_the_same_names(old: str, new: str, name: str) -> None:
    sys.modules.pop(f"mcrpy_diffusion.{old}", None)
    with pytest.warns(DeprecationWarning, match=f"use mcrpy_diffusion.{new.split('.')[0]}"):
        module = importlib.import_module(f"mcrpy_diffusion.{old}")
    assert getattr(module, name) is getattr(importlib.import_module(f"mcrpy_diffusion.{new}"), name)
