"""Random symmetries that leave the statistics of a set of structures as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcrpy_diffusion.errors import InputError

if TYPE_CHECKING:
    import torch


def augment(
    batch: torch.Tensor, *, periodic: bool, isotropic: bool, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Apply to every image of a batch its own random symmetry.

    The rotation by 180 degrees is always allowed and, for periodic images, every shift: both leave S2 and the lineal
    path of each image unchanged. Mirror images and quarter turns (those of square images only) assume that the
    material is isotropic.

    Parameters
    ----------
    batch : tensor (N, C, I, J)
        Any dtype, on any device.
    periodic : bool
        Whether the images may be shifted across their edges.
    isotropic : bool
        Whether mirror images and quarter turns are allowed.
    generator : torch.Generator, optional
        The source of randomness; torch's global one if None.

    Returns
    -------
    tensor (N, C, I, J), contiguous
        Each allowed symmetry is drawn with the same probability.
    """
    import torch

    if batch.ndim != 4:
        raise InputError(f"batch must have the shape (N, C, I, J), got {tuple(batch.shape)}")
    n, _, n_rows, n_columns = batch.shape

    def draw(high: int) -> torch.Tensor:
        device = "cpu" if generator is None else generator.device
        return torch.randint(high, (n,), generator=generator, device=device).to(batch.device)

    if isotropic and n_rows == n_columns:
        batch = torch.where(draw(2).bool()[:, None, None, None], batch.transpose(2, 3), batch)
    flip_rows = draw(2)
    flip_columns = draw(2) if isotropic else flip_rows
    for dim, size, flip in ((2, n_rows, flip_rows), (3, n_columns, flip_columns)):
        index = torch.arange(size, device=batch.device).expand(n, size)
        index = torch.where(flip.bool()[:, None], size - 1 - index, index)
        if periodic:
            index = (index + draw(size)[:, None]) % size
        batch = batch.take_along_dim(index[:, None, :, None] if dim == 2 else index[:, None, None, :], dim=dim)
    return batch
