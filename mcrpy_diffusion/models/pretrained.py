"""Models of the package: found by name, listed with their quality, without PyTorch."""

from __future__ import annotations

import os
from pathlib import Path

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.models.card_page import MIB, markdown
from mcrpy_diffusion.models.checkpoint import ModelInfo, count_weights, read_info
from mcrpy_diffusion.runtime.tables import MISSING, number, text_table

FOLDER = Path(__file__).parent
MODEL_NAME = "model.safetensors"


def names() -> list[str]:
    """Return the names of the installed models, sorted."""
    return sorted(file.stem for file in FOLDER.glob("*.safetensors"))


def find(given: str | os.PathLike[str]) -> Path:
    """Return the file of a model.

    Parameters
    ----------
    given : path or str
        A file, a folder with model.safetensors, or else the name of a pretrained model.

    Raises
    ------
    InputError
        If there is no such model.
    """
    path = Path(given)
    if path.is_file():
        return path
    name = os.fspath(given)
    shipped = FOLDER / f"{name}.safetensors"
    if path.is_dir():
        if (path / MODEL_NAME).is_file():
            return path / MODEL_NAME
        also = f"; the pretrained model of this name is {shipped}" if name in names() else ""
        raise InputError(f"{given}: no such model; the folder has no {MODEL_NAME}{also}")
    if name in names():
        return shipped
    raise InputError(
        f"{given}: no such model; give a .safetensors file made by this package, or a pretrained model's name: {_all()}"
    )


def table() -> str:
    """List the pretrained models with their figures, in lines of at most 100 characters."""
    if not names():
        return f"no pretrained models are installed ({FOLDER} holds none)"
    head = ("name", "phases", "extent", "periodic", "volume fraction", "eps_S2 %", "eps_L %", "licence", "MiB")
    lines = (
        text_table(head, map(_row, names()), align="<"),
        "In brackets the real value, and the floor: the value of as many real structures.",
        "`mcrpy_diffusion models NAME` prints the card; --model NAME takes the model.",
    )
    return "\n".join(lines)


def card_text(given: str | os.PathLike[str]) -> str:
    """Return the card of a model, named as in `find`.

    Raises
    ------
    InputError
        If there is no such model, or it has no card.
    """
    path = find(given)
    n_bytes, n_weights = path.stat().st_size, count_weights(path)
    return markdown(read_info(path), file_name=path.name, n_bytes=n_bytes, n_weights=n_weights)


def _all() -> str:
    return ", ".join(names()) or "none is installed"


def _row(name: str) -> tuple[str, ...]:
    path = FOLDER / f"{name}.safetensors"
    info = read_info(path)
    extent = f"{info.extent[0]} x {info.extent[1]}"
    facts = (name, str(info.n_phases) if info.n_phases else "grey", extent, "yes" if info.periodic else "no")
    licence = info.card.licence if info.card else MISSING
    return (*facts, *_figures(info), licence, f"{path.stat().st_size / MIB:.1f}")


def _figures(info: ModelInfo) -> tuple[str, str, str]:
    if info.card is None or info.card.figures is None:
        return MISSING, MISSING, MISSING
    figures = info.card.figures
    fraction = figures.volume_fraction
    s2, lineal = (
        f"{number(curve.discrepancy_percent, '{:.1f}')} ({number(curve.floor_percent, '{:.1f}')})"
        for curve in (figures.two_point_correlation, figures.lineal_path)
    )
    return f"{fraction.generated:.4f} ({fraction.original:.4f})", s2, lineal
