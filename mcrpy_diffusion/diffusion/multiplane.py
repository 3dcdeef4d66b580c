"""Volumes from a 2D denoiser: each voxel is seen in three planes, and what they say of it is combined.

A slice through a voxel gives the log odds of its phases from the prior odds, from the voxel's own noisy value and from
its surroundings in that plane. Prior and own evidence are in the answers of all planes, but count once. What the
surroundings say overlaps: each direction lies in two of the three planes. Where the directions are independent of each
other, given the voxel, a weight of 1/2 for each plane is therefore exact; where all planes say the same it is 1/3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.denoiser import Denoised, Denoiser
from mcrpy_diffusion.diffusion.log_odds import LogOdds
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule

SLAB_PIXELS = 2**16  # of the slices that pass through the network at once
N_SYMMETRIES = 8  # of the square
AXES = (0, 1, 2)


class MultiPlane:
    """A denoiser of one volume (1, C, I, J, K) around denoisers of images.

    Parameters
    ----------
    planes : sequence of three Denoisers
        Of the slices perpendicular to axes 0, 1 and 2. Rows and columns are the other two axes, in their order.
    schedule : NoiseSchedule
    prior : Tensor, shape (1, C), optional
        Half log odds of the phases before anything is seen, for denoisers of log odds.
    generator : torch.Generator
        Source of the symmetries and shifts.
    weight : float, in (0, 1]
        What the surroundings in one plane count. Answers without log odds are averaged.
    symmetric : bool
        Turn and mirror the slices at random, in each step and plane anew. One denoiser can then serve all planes,
        although its rows and columns are other axes of the volume in each.
    periodic : bool
        Shift the volume at random before it is cut, so that no voxel keeps its place in the network's grid of strides.
    """

    def __init__(
        self,
        planes: Sequence[Denoiser],
        schedule: NoiseSchedule,
        prior: Tensor | None,
        generator: torch.Generator,
        *,
        weight: float,
        symmetric: bool = True,
        periodic: bool = True,
    ) -> None:
        if len(planes) != len(AXES):
            raise ValueError(f"planes must be {len(AXES)} denoisers, got {len(planes)}")
        self.planes, self.schedule, self.generator = tuple(planes), schedule, generator
        self.prior = None if prior is None else prior[..., None, None, None]
        self.weight, self.symmetric, self.periodic = weight, symmetric, periodic

    def __call__(self, x_t: Tensor, t: Tensor, estimate: Tensor | None = None, /) -> Denoised:
        answers = [self._in_plane(axis, x_t, t, estimate) for axis in AXES]
        if self.prior is not None:
            prior = self.prior.to(x_t)
            surroundings = torch.stack([output - prior for _, output, _ in answers]).sum(0)
            return Denoised.of_phases(LogOdds.from_output(prior + self.weight * surroundings, x_t, t, self.schedule))
        x_0 = torch.stack([each for each, _, _ in answers]).mean(0)
        variances = [each for _, _, each in answers if each is not None]
        return Denoised(x_0, variance=torch.stack(variances).mean(0) if variances else None)

    def _in_plane(
        self, axis: int, x_t: Tensor, t: Tensor, estimate: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """x_0, output and variance by the slices perpendicular to an axis, each of the shape of x_t."""
        turn = self._draw(N_SYMMETRIES) if self.symmetric else 0
        shifts = [self._draw(n) if self.periodic else 0 for n in x_t.shape[2:]]

        def slices_of(volume: Tensor) -> Tensor:
            return turned(volume.roll(shifts, (2, 3, 4))[0].movedim(1 + axis, 0), turn)

        def volume_of(slices: list[Tensor]) -> Tensor:
            volume = turned_back(torch.cat(slices), turn).movedim(0, 1 + axis)[None]
            return volume.roll([-n for n in shifts], (2, 3, 4))

        slices = slices_of(x_t)
        n_at_once = max(1, SLAB_PIXELS // slices[0, 0].numel())
        slabs = slices.split(n_at_once)
        estimates = [None] * len(slabs) if estimate is None else slices_of(estimate).split(n_at_once)
        answers = [self.planes[axis](x, t.expand(len(x)), e) for x, e in zip(slabs, estimates, strict=True)]
        variances = [answer.variance for answer in answers if answer.variance is not None]
        outputs = [answer.output for answer in answers if answer.output is not None]
        return (
            volume_of([answer.x_0 for answer in answers]),
            volume_of(outputs),
            volume_of(variances) if variances else None,
        )

    def _draw(self, n: int) -> int:
        return int(torch.randint(n, (1,), generator=self.generator))


def turned(images: Tensor, k: int) -> Tensor:
    """Apply symmetry k of the square, in 0 ... 7, to the last two axes: k % 4 quarter turns, then a mirror image."""
    images = images.rot90(k % 4, (-2, -1))
    return images.flip(-1) if k >= 4 else images


def turned_back(images: Tensor, k: int) -> Tensor:
    """Undo `turned`."""
    return (images.flip(-1) if k >= 4 else images).rot90(-(k % 4), (-2, -1))
