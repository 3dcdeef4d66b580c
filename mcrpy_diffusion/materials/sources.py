"""Origin and licence of the references of training data, recognised by their hashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcrpy_diffusion.materials import recipes

CC_BY, APACHE = "CC BY 4.0", "Apache 2.0"
PUBLISHED = (
    'micrograph of X. Li et al., "A transfer learning approach for microstructure reconstruction and '
    'structure-property predictions", Scientific Reports 8 (2018), 13461, resized and cropped by the MCRpy project'
)
MICROGRAPHS = {
    "b677010a55cc227d35835283de6af34854ddb1fbbcfd5ea6986bb98736841bf6": "alloy, 256 x 256",
    "4eb4a6ec3c2cc03e08c1a2e5a9cbd479588099da8aef8cbf943fc45e518168ae": "alloy, 64 x 64",
    "16d55e241edbe1e537c458c1ff2aa99a70d7caa3fdaf4339faf21094054f6df9": "alloy with its phases swapped, 64 x 64",
    "2150f81877ec6997e7e8bee08a268f0b17592cc010c06580d79dc54010f99958": "carbonate, 256 x 256",
    "2273587471cb8291dd34ec776923a71f21ec4aa721f4c10c55171a813c111b13": "carbonate, 64 x 64",
    "82dd4e3531139d4dcba46f5b88cebbfe078b3089e25a5ee7d6566d3a5d26cfc0": "ceramics, 256 x 256",
    "8731ed1765ca0e46125fb2c1c96ec729e5d22131805ef9419bd7e67ae71b3bb6": "ceramics, 64 x 64",
    "f270e69ae9706153b10e353dfe75a9d21e33bd9da61944957a7c1dbd98d66a9c": "composite, 256 x 256",
    "7a6d6d0d333542d30c710f0716f128de4266ece70a466230afd5ded68891fdbc": "composite, 64 x 64",
    "1c374b9ea54e907e8a87a4f13b06356db443ed8b845cd6a98426c9e64e714c47": "copolymer, 256 x 256",
    "a318237e463a86b7971452f2f09b00ed96cbe9013c149afe00594c988fe12b25": "copolymer, 64 x 64",
    "810c27fd100a1b663ed4efde3261eba7b3337ea26d65e474035b5e6af91508ee": "PMMA, 256 x 256",
    "0ae3e1838b9722e264abffb186d2f2ca63a7ae274cf0b2f47d1b5e0a3a516ac8": "PMMA, 64 x 64",
}
"""`data.micrograph.hash_phases` of the published micrographs, as MCRpy has them."""


@dataclass(frozen=True)
class Origin:
    """Origin of training data, licence of derived works, and the material of a built-in reference."""

    text: str
    licence: str
    built_in: str | None = None


def find_origin(recipe: Mapping[str, Any]) -> Origin | None:
    """Return the origin of training data, recognised by the recipe of the data set; None if unknown."""
    material = recipe.get("material")
    if recipe.get("training_data") == "recipe" and material in recipes.DIRECT:
        return Origin(f"this package's generator of the material {material}", APACHE)
    hashes = list(recipe.get("reference_sha256") or ())
    if hashes and all(sha256 in MICROGRAPHS for sha256 in hashes):
        return Origin(f"{PUBLISHED} ({'; '.join(MICROGRAPHS[sha256] for sha256 in hashes)})", CC_BY)
    if len(hashes) == 1:
        extent = (int(recipe.get("extent_x", 64)), int(recipe.get("extent_y", 64)))
        for name in recipes.MATERIALS:
            if name not in recipes.DIRECT and recipes.built_in_reference(name, extent).sha256 == hashes[0]:
                return Origin(f"this package's built-in reference image of {name}", APACHE, name)
    return None
