"""Settings for a reference, and the recipe that a data set records."""

from __future__ import annotations

from typing import Any

from mcrpy_diffusion.data.slices import volume_records
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials.reference import Reference
from mcrpy_diffusion.settings import N_CROPS, N_RECONSTRUCTIONS, GenerationSettings
from mcrpy_diffusion.settings.images import READING_FIELDS

_SETTINGS_OF_CROPS = (
    "extent_x",
    "extent_y",
    "training_data",
    "n_training_samples",
    "held_out_fraction",
    "periodic",
    "use_multiphase",
    "grey_values",
    "isotropic",
    "seed",
)


def resolve(settings: GenerationSettings, reference: Reference) -> GenerationSettings:
    """Replace `auto` and missing values by the settings for a reference.

    Training data are crops if each micrograph is large enough for a held-out part, else MCRpy's reconstructions. Crops
    are not periodic, so neither are network and statistics.

    Raises
    ------
    InputError
        If a micrograph is smaller than the extent, or the reference does not allow the training data.
    """
    kind = settings.training_data
    if reference.n_phases > 2:
        settings = settings.replace(use_multiphase=True)
    for m in reference.micrographs:
        if any(size < extent for size, extent in zip(m.phases.shape, settings.extent, strict=True)):
            raise InputError(
                f"{m.path} must not be smaller than the extent {settings.extent_x} x {settings.extent_y}, got "
                f"{m.phases.shape[0]} x {m.phases.shape[1]} pixels; give a larger image or a smaller --extent_x and "
                "--extent_y"
            )
    if not reference.micrographs:
        if kind == "crops":
            raise InputError("training_data must be 'descriptors' without a micrograph, got 'crops'")
        kind = "descriptors"
    if kind == "auto":
        kind = "crops" if reference.split(settings).is_complete else "descriptors"
    sizes = {m.phases.shape for m in reference.micrographs}
    if kind == "descriptors" and len(sizes) > 1:
        found = ", ".join(f"{i} x {j}" for i, j in sorted(sizes))
        raise InputError(f"micrographs for descriptor-based training data must be of one size, got {found} pixels")
    if kind == "descriptors" and reference.n_phases == 0:
        raise InputError(
            "grey values are not supported by descriptor-based training data; give a micrograph of twice the extent"
        )
    if kind == "crops":
        n = settings.n_training_samples or N_CROPS
        return settings.replace(training_data=kind, periodic=False, n_training_samples=n)
    n, limit_to = settings.n_training_samples or N_RECONSTRUCTIONS, settings.limit_to or min(settings.extent) // 2
    return settings.replace(training_data=kind, limit_to=limit_to, n_training_samples=n, max_iter=settings.iterations)


def recipe(settings: GenerationSettings, reference: Reference) -> dict[str, Any]:
    """Return everything that determines the samples, without unused settings."""
    values = settings.to_dict()
    if settings.training_data == "crops":
        values = {key: value for key, value in values.items() if key in _SETTINGS_OF_CROPS}
        split = reference.split(settings)
        if split.is_moved:  # data sets of earlier versions, which have no such entry, held out another part
            values["held_out_part"] = list(split.cuts)
        if reference.slices:
            values["volumes"] = volume_records(reference.slices)
    else:
        values = {key: value for key, value in values.items() if key not in ("held_out_fraction", *READING_FIELDS)}
    return {**values, "n_phases": reference.n_phases, "reference_sha256": list(reference.sha256)}
