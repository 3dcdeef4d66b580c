"""Settings of the files that viewers and solvers open."""

from __future__ import annotations

from dataclasses import dataclass

from mcrpy_diffusion.settings.base import Settings, option

FORMATS = {
    "vti": "ParaView, DAMASK",
    "tiff": "ImageJ",
    "mhd": "ITK",
    "inp": "Abaqus, CalculiX",
    "png": "images",
}
"""Format -> who opens it; `io.structure_files` holds the module of the same name."""


@dataclass(frozen=True)
class FileSettings(Settings):
    """The files that are written for each structure beside its .npy file."""

    formats: tuple[str, ...] = option(
        (),
        "formats in which structures are written too: "
        + "; ".join(f"{name}: {readers}" for name, readers in FORMATS.items()),
        choices=tuple(FORMATS),
        group="structures",
    )
