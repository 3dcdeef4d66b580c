"""The edge length of a pixel: parsed from text, shown in the unit that suits it, stored in metres."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcrpy_diffusion.errors import InputError

METRES = {"pm": 1e-12, "nm": 1e-9, "um": 1e-6, "µm": 1e-6, "μm": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0}
"""Unit of length -> metres; micrometres are written with the letter u, the micro sign or the Greek letter."""
SMALLEST, LARGEST = 1e-13, 1.0  # metres: a tenth of a picometre; a pixel of a metre is of no microscope
_FORM = re.compile(r"\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*([a-zµμ]+)\s*")
_SHOWN = (("nm", 1e-9), ("µm", 1e-6), ("mm", 1e-3), ("m", 1.0))


@dataclass(frozen=True)
class PixelSize:
    """The edge length of a square pixel.

    Parameters
    ----------
    metres : float
        Between 1e-13 and 1.

    Raises
    ------
    InputError
        If it is out of range.
    """

    metres: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.metres) and SMALLEST <= self.metres <= LARGEST):
            raise InputError(f"the pixel size must be between 0.1 pm and 1 m, got {self.metres:g} m")

    @classmethod
    def parse(cls, text: str) -> PixelSize:
        """Parse a length with its unit, such as "12.5nm"; raise InputError if it is none."""
        found = _FORM.fullmatch(text)
        if found is None or found[2] not in METRES:
            units = ", ".join(unit for unit in METRES if unit.isascii())
            raise InputError(f"pixel_size must be a number with a unit ({units}), such as 12.5nm, got {text!r:.50}")
        try:
            number = float(found[1])
        except ValueError:
            raise InputError(f"pixel_size must be a number with a unit, such as 12.5nm, got {text!r:.50}") from None
        return cls(number * METRES[found[2]])

    @classmethod
    def from_dict(cls, values: Any) -> PixelSize:
        """Read `{"value": 1.25e-08, "unit": "m"}`, as data sets and models hold it; raise InputError if it is none."""
        value, unit = (values.get("value"), values.get("unit")) if isinstance(values, Mapping) else (None, None)
        if not isinstance(value, (int, float)) or not isinstance(unit, str) or unit not in METRES:
            raise InputError(f"pixel_size must have a value and a unit of length, got {values!r:.100}")
        return cls(float(value) * METRES[unit])

    def to_dict(self) -> dict[str, Any]:
        """Return value and unit for JSON, in metres."""
        return {"value": self.metres, "unit": "m"}

    def unit_for(self, n_pixels: float = 1) -> tuple[str, float]:
        """Return the unit in which a length of so many pixels is at least 1, and the pixel size in that unit."""
        length = self.metres * n_pixels
        unit, metres = next((each for each in reversed(_SHOWN) if length >= each[1] * (1 - 1e-9)), _SHOWN[0])
        return unit, self.metres / metres

    def is_close(self, other: PixelSize) -> bool:
        """Whether two pixel sizes differ by at most a thousandth."""
        return math.isclose(self.metres, other.metres, rel_tol=1e-3)

    def __str__(self) -> str:
        unit, value = self.unit_for()
        return f"{value:.4g} {unit}"
