"""Pictures of structures, pixel by pixel, as data URIs for a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from mcrpy_diffusion.evaluation.pairs import Pair

MAX_SHOWN = 16
"""Structures of a set that are shown."""


def structure_pictures(name: str, images: np.ndarray, n_phases: int, labels: Sequence[str]) -> dict[str, Any]:
    """Return the pictures of a set with labels and alternative texts."""
    levels = grey_levels(images[:MAX_SHOWN], max(n_phases, 2))
    pictures = []
    for label, pixels, values in zip(labels, levels, images):
        content = f"volume fraction {np.mean(values == 1):.3f}" if n_phases == 2 else f"mean value {values.mean():.3f}"
        height, width = pixels.shape
        alt = f"{name} structure, {label}, {content}"
        data = data_uri(_grey_png(pixels))
        pictures.append({"data": data, "alt": alt, "label": label, "width": width, "height": height})
    return {"title": f"{name} ({len(pictures)} of {len(images)})", "images": pictures}


def pair_pictures(pairs: Sequence[Pair], n_phases: int, labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return pictures of the closest pairs: generated, nearest training structure, and where they differ.

    Parameters
    ----------
    pairs : sequence of Pair
        Those of `evaluation.pairs.find_pairs`.
    n_phases : int
        Number of phases, 0 for grey values.
    labels : sequence of str
        The name of each generated structure.

    Returns
    -------
    list of dict
        `label`, `found` and `images`: three of `data`, `alt`, `caption`, `width`, `height`.
    """
    rows = []
    for pair in pairs:
        share = _share_of_difference(pair.distance, n_phases)
        levels = [grey_levels(each[None], max(n_phases, 2))[0] for each in (pair.generated, pair.training)]
        levels.append(grey_levels(np.sqrt(pair.local_error)[None], 2)[0])
        label = labels[pair.generated_index]
        alts = [f"Generated structure, {label}", f"Nearest training structure, {pair.found}"]
        alts.append(f"Map of where the two differ: {share}")
        captions = ("generated", "training", "difference")
        images = [
            {"data": data_uri(_grey_png(p)), "alt": alt, "caption": c, "width": p.shape[1], "height": p.shape[0]}
            for p, alt, c in zip(levels, alts, captions)
        ]
        rows.append({"label": f"{label}: {share}", "found": pair.found, "images": images})
    return rows


def _share_of_difference(distance: float, n_phases: int) -> str:
    return (
        f"mean squared difference {distance:.4f}" if n_phases == 0 else f"{100 * distance:.1f} % of the pixels differ"
    )


def grey_levels(images: np.ndarray, n_phases: int) -> np.ndarray:
    """Return 8-bit grey levels: phase 0 black, the last white; grey values 0 to 1 likewise."""
    top = 1.0 if images.dtype.kind == "f" else n_phases - 1
    return np.rint(np.clip(images / top, 0, 1) * 255).astype(np.uint8)


def data_uri(png: bytes) -> str:
    """Return a PNG file as the source of a picture in a page."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _grey_png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", optimize=True)
    return stream.getvalue()
