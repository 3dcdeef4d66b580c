"""A volume in the order of files with coordinates, x fastest, without a second copy of it in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

SLAB_PIXELS = 2**20


def slabs(structure: np.ndarray, dtype: str) -> Iterator[np.ndarray]:
    """Yield the values of a structure (I, J) or (I, J, K), the first axis fastest, in parts of about a million.

    Parameters
    ----------
    structure : array
    dtype : str
        Type and byte order of what is yielded.

    Yields
    ------
    array (n,)
        All of one length except for the last.
    """
    thickness = max(1, SLAB_PIXELS // int(np.prod(structure.shape[:-1])))
    for start in range(0, structure.shape[-1], thickness):
        yield structure[..., start : start + thickness].ravel(order="F").astype(dtype, copy=False)
