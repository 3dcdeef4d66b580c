"""ImageData of VTK, which ParaView and DAMASK open: one cell a pixel.

DAMASK's solver reads 32 or 64 bit integers in inline base64, uncompressed or by zlib, from cell data of the name
"material"; the extent begins at 0, and each tag has a line of its own.

References
----------
https://docs.vtk.org/en/latest/vtk_file_formats/vtkxml_file_format.html
"""

from __future__ import annotations

import zlib
from binascii import b2a_base64
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mcrpy_diffusion.io.files import Write
from mcrpy_diffusion.io.structure_files.slabs import slabs

_COMPRESSION_LEVEL = 5  # VTK's own


def contents(path: Path, structure: np.ndarray, pixel_size: float | None) -> dict[Path, Write]:
    """Return the content of a .vti file: cell data "material" (phases) or "grey_value"; lengths in metres."""
    return {path: lambda file: _write(file, structure, 1.0 if pixel_size is None else pixel_size)}


def _write(file: BinaryIO, structure: np.ndarray, spacing: float) -> None:
    is_grey = structure.dtype.kind == "f"
    name, kind, dtype = ("grey_value", "Float32", "<f4") if is_grey else ("material", "Int32", "<i4")
    extent = " ".join(f"0 {n}" for n in (*structure.shape, 1)[:3])
    format = 'byte_order="LittleEndian" header_type="UInt32" compressor="vtkZLibDataCompressor"'
    spacings = " ".join([f"{spacing:.12g}"] * 3)
    grid = f'Origin="0 0 0" Spacing="{spacings}" Direction="1 0 0 0 1 0 0 0 1"'
    head = f"""<?xml version="1.0"?>
<VTKFile type="ImageData" version="0.1" {format}>
  <ImageData WholeExtent="{extent}" {grid}>
    <Piece Extent="{extent}">
      <PointData>
      </PointData>
      <CellData Scalars="{name}">
        <DataArray type="{kind}" Name="{name}" format="binary">
"""
    tail = """        </DataArray>
      </CellData>
    </Piece>
  </ImageData>
</VTKFile>
"""
    file.write(head.encode())
    file.write(_compressed(structure, dtype))
    file.write(tail.encode())


def _compressed(structure: np.ndarray, dtype: str) -> bytes:
    """Return the line of base64: number of blocks, their size, the last one's if smaller, compressed sizes; blocks."""
    sizes, blocks = [], []
    for slab in slabs(structure, dtype):
        sizes.append(slab.nbytes)
        blocks.append(zlib.compress(slab.data, _COMPRESSION_LEVEL))
    last = sizes[-1] % sizes[0]
    header = np.array([len(blocks), sizes[0], last, *map(len, blocks)], dtype="<u4")
    return b2a_base64(header.tobytes(), newline=False) + b2a_base64(b"".join(blocks))
