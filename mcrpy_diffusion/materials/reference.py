"""References, to which new structures are statistically equivalent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.data.micrograph import Micrograph, read_micrograph
from mcrpy_diffusion.errors import InputError


@dataclass(frozen=True)
class Reference:
    """Micrographs or an MCRpy characterization; neither if only a model was given.

    Attributes
    ----------
    name : str
        First part of the names of all results.
    n_phases : int
        0 for grey values.
    sha256 : tuple of str
        Hashes of the micrographs or of the characterization.
    micrographs : tuple of Micrograph
    characterization : dict or None
    """

    name: str
    n_phases: int
    sha256: tuple[str, ...]
    micrographs: tuple[Micrograph, ...] = ()
    characterization: dict[str, Any] | None = None

    @classmethod
    def of(cls, micrographs: Sequence[Micrograph], *, name: str | None = None) -> Reference:
        """Return the reference of micrographs; raise InputError if their numbers of phases differ."""
        if len({m.n_phases for m in micrographs}) > 1:
            found = ", ".join(f"{m.path}: {m.n_phases}" for m in micrographs)
            raise InputError(f"all micrographs must have the same number of phases, got {found}")
        first = micrographs[0]
        return cls(name or first.name, first.n_phases, tuple(m.sha256 for m in micrographs), tuple(micrographs))

    @property
    def images(self) -> list[np.ndarray]:
        """The micrographs' phases."""
        return [m.phases for m in self.micrographs]

    @property
    def is_model_only(self) -> bool:
        """Whether only a model was given."""
        return not self.micrographs and self.characterization is None


def phase_flags(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that determine how the phases of a micrograph are read."""
    return {name: bool(options.get(name, False)) for name in ("grey_values", "use_multiphase")}


def reference_from_micrographs(names: Sequence[str], options: Mapping[str, Any]) -> Reference:
    """Read micrographs; raise InputError if one cannot be read, or their numbers of phases differ."""
    return Reference.of([read_micrograph(name, **phase_flags(options)) for name in names])


def reference_from_characterization(name: str) -> Reference:
    """Read an MCRpy characterization safely; raise InputError if the file is something else."""
    from mcrpy_diffusion.mcrpy_bridge.characterization import number_of_phases, read_characterization

    characterization = read_characterization(name)
    stem = Path(name).stem.removesuffix("_characterization")
    digest = hashlib.sha256(Path(name).read_bytes()).hexdigest()
    return Reference(stem, number_of_phases(characterization), (digest,), characterization=characterization)
