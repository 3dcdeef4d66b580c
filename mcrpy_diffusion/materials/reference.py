"""References, to which new structures are statistically equivalent."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.data.micrograph import Micrograph, common_pixel_size, read_source
from mcrpy_diffusion.data.reading import Reading
from mcrpy_diffusion.data.slices import VolumeSlice
from mcrpy_diffusion.data.split import MicrographSplit
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings import GenerationSettings, ImageSettings, PixelSize


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
    def slices(self) -> list[VolumeSlice]:
        """The micrographs' positions in volumes; empty if they are no slices."""
        found = [m.volume_slice for m in self.micrographs]
        return [each for each in found if each is not None] if all(found) else []

    def split(self, settings: GenerationSettings) -> MicrographSplit:
        """Return training and held-out parts of the micrographs."""
        return MicrographSplit.of(self.images, settings, self.slices)

    @property
    def readings(self) -> list[Reading]:
        """What was done when the micrographs were read: one entry for those that were read together."""
        return list({id(m.reading): m.reading for m in self.micrographs if m.reading is not None}.values())

    @property
    def pixel_size(self) -> PixelSize | None:
        """The pixel size of all micrographs; None if it is unknown or differs."""
        return common_pixel_size([m.pixel_size for m in self.micrographs], self.name)

    @property
    def is_model_only(self) -> bool:
        """Whether only a model was given."""
        return not self.micrographs and self.characterization is None


def image_settings(options: Mapping[str, Any]) -> ImageSettings:
    """Return the options that determine how images are read."""
    return ImageSettings().replace(**{f.name: options.get(f.name) for f in fields(ImageSettings)})


def reference_from_micrographs(names: Sequence[str], options: Mapping[str, Any]) -> Reference:
    """Read micrographs, or with `slices_along` volumes, each file by itself.

    Raises
    ------
    InputError
        If one cannot be read, or their numbers of phases differ.
    """
    settings = image_settings(options)
    several = bool(settings.slices_along)
    found = [m for name in names for m in read_source([name], settings, several=several)]
    return Reference.of(found, name=Path(names[0]).stem)


def reference_from_images(paths: Sequence[str], options: Mapping[str, Any]) -> Reference:
    """Read all images of files and folders together; raises as `data.micrograph.read_images`."""
    return Reference.of(read_source(paths, image_settings(options), several=True), name=Path(paths[0]).stem)


def reference_from_characterization(name: str, *, names: Sequence[str] = (), limit_to: int | None = None) -> Reference:
    """Read an MCRpy characterization safely; raise InputError if the file is something else.

    `names` and `limit_to` are the settings of one without settings, see `characterization.read_characterization`.
    """
    from mcrpy_diffusion.mcrpy_bridge.characterization import number_of_phases, read_characterization

    characterization = read_characterization(name, names=names, limit_to=limit_to)
    stem = Path(name).stem.removesuffix("_characterization")
    digest = hashlib.sha256(Path(name).read_bytes()).hexdigest()
    return Reference(stem, number_of_phases(characterization), (digest,), characterization=characterization)
