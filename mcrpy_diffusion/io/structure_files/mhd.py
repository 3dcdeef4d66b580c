"""MetaImage of ITK: a header in text, and the values in a .raw file beside it. Lengths are in millimetres, ITK's unit.

References
----------
https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np

from mcrpy_diffusion.io.files import Write
from mcrpy_diffusion.io.structure_files.slabs import slabs

_TYPES = {"uint8": "MET_UCHAR", "uint16": "MET_USHORT", "uint32": "MET_UINT", "float32": "MET_FLOAT"}


def contents(path: Path, structure: np.ndarray, pixel_size: float | None) -> dict[Path, Write]:
    """Return the contents of the .raw file, little endian, and of its header."""
    n, raw = structure.ndim, path.with_suffix(".raw")

    def repeated(value: object) -> str:
        return " ".join([str(value)] * n)

    header = {
        "ObjectType": "Image",
        "NDims": n,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": " ".join("1" if i == j else "0" for i in range(n) for j in range(n)),
        "Offset": repeated(0),
        "ElementSpacing": repeated(1 if pixel_size is None else f"{pixel_size * 1e3:.12g}"),
        "DimSize": " ".join(map(str, structure.shape)),
        "ElementType": _TYPES[structure.dtype.name],
        "ElementDataFile": raw.name,
    }
    text = "".join(f"{name} = {value}\n" for name, value in header.items())

    def write_values(file: BinaryIO) -> None:
        for slab in slabs(structure, structure.dtype.newbyteorder("<").str):
            file.write(slab.data)

    return {raw: write_values, path: lambda file: file.write(text.encode())}
