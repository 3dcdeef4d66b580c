"""Augmentation by random symmetries that do not change the statistics of the structures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcrpy_diffusion.errors import InputError

if TYPE_CHECKING:
    import torch


def augment(
    batch: torch.Tensor, *, periodic: bool, isotropic: bool, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Apply an independent random symmetry to each image of a batch.

    The rotation by 180 degrees, and shifts of periodic images, do not change S2 and the lineal path of an image. Mirror
    images and rotations by 90 degrees (square images only) assume an isotropic material.

    Parameters
    ----------
    batch : tensor (N, C, I, J)
        Of any dtype and device.
    periodic : bool
        Whether to apply periodic shifts.
    isotropic : bool
        Whether to apply mirror images and rotations by 90 degrees.
    generator : torch.Generator, optional
        By default torch's global generator.

    Returns
    -------
    tensor (N, C, I, J), contiguous
        All allowed symmetries have the same probability.
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
