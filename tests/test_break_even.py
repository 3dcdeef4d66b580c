"""The break-even of two costs: closed form, brute force, never."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mcrpy_diffusion.metrics.break_even import break_even


@pytest.mark.parametrize(
    ("costs", "n"),
    [
        ((100.0, 1.0, 0.0, 3.0), 51),  # 100 + 50 = 150 is not below 150
        ((99.0, 1.0, 0.0, 3.0), 50),
        ((0.0, 1.0, 0.0, 3.0), 1),
        ((2.0, 1.0, 10.0, 3.0), 1),  # cheaper from the start
        ((100.0, 3.0, 0.0, 3.0), None),
        ((100.0, 4.0, 0.0, 3.0), None),
        ((1.0, 4.0, 1000.0, 3.0), None),  # cheaper only up to some number
        ((0.0, 3.0, 5.0, 3.0), 1),
        ((0.3, 0.1, 0.0, 0.2), 4),  # quotients that floats round: 0.3 / 0.1 < 3
        ((0.0, 0.0, 0.0, 0.0), None),
    ],
)
def test_the_number_is_that_of_the_closed_form(costs, n):
    assert break_even(*costs) == n


def test_it_is_the_first_number_from_which_on_it_is_cheaper():
    rng = np.random.default_rng(0)
    for _ in range(300):
        fixed, each, other_fixed, other_each = rng.integers(0, 40, 4) / 8  # exact in binary
        cheaper = [fixed + n * each < other_fixed + n * other_each for n in range(1, 1500)]
        expected = None
        if cheaper[-1]:
            expected = len(cheaper) - cheaper[::-1].index(False) + 1 if not all(cheaper) else 1
        assert break_even(fixed, each, other_fixed, other_each) == expected


@pytest.mark.parametrize("costs", [(-1.0, 1, 1, 1), (1, math.nan, 1, 1), (1, 1, math.inf, 1)])
def test_costs_that_are_none_are_refused(costs):
    with pytest.raises(ValueError, match="finite numbers"):
        break_even(*costs)
