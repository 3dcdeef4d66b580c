"""Many reconstructions by MCRpy from one characterization, with less overhead than `mcrpy.reconstruct`.

Measured for one 64 x 64 structure (FFTCorrelations, L-BFGS-B), `mcrpy.reconstruct` spends most of its time on three
things: copies of the microstructure for the convergence data, tracing TensorFlow functions anew in every call, and the
gaps between calls of TensorFlow. Here no convergence data are kept, and descriptors, loss and gradient are built once.
The results equal those of `mcrpy.reconstruct` with the same seed. Gram matrices, which take MCRpy a third of a second
and 6 GB per evaluation, are computed in single precision (`gram_loss`); they agree up to rounding.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge import gram_loss, vgg19
from mcrpy_diffusion.mcrpy_bridge.environment import own_logging, refusals_of_mcrpy
from mcrpy_diffusion.mcrpy_bridge.registration import register
from mcrpy_diffusion.runtime import frameworks

_CHECK_EVERY = 25  # iterations; a check costs about as much as an iteration
_NEVER = 10**9  # iterations
_REFUSAL = "MCRpy cannot reconstruct with these descriptors and settings; try others"


@dataclass(frozen=True)
class Reconstruction:
    """A reconstructed structure.

    Attributes
    ----------
    phases : (I, J) uint8
    loss : float
        MCRpy's final loss, before the phases are rounded.
    n_iterations : int
        Number of evaluations of the loss.
    """

    phases: np.ndarray
    loss: float
    n_iterations: int


class Reconstructor:
    """Reconstructs structures from one characterization.

    Parameters
    ----------
    descriptors : mapping of str to (n_phases, n_levels, ...) arrays
        As returned by `mcrpy.characterize`, at least those of `settings["descriptor_types"]`.
    n_phases : int
        As in the settings of the characterization.
    shape : (int, int)
        Rows and columns of a structure.
    settings : mapping
        Fields of `mcrpy.ReconstructionSettings`.
    stopping_criterion : callable, optional
        Called with the rounded structure every 25 iterations; if it returns True, the optimisation ends.
    torch_gram : bool
        Compute Gram matrices by PyTorch (`gram_loss`) if that gives MCRpy's loss.

    Raises
    ------
    InputError
        If MCRpy refuses the settings.
    """

    def __init__(
        self,
        descriptors: Mapping[str, np.ndarray],
        *,
        n_phases: int,
        shape: tuple[int, int],
        settings: Mapping[str, Any],
        stopping_criterion: Callable[[np.ndarray], bool] | None = None,
        torch_gram: bool = True,
    ) -> None:
        torch_gram = torch_gram and gram_loss.is_mcrpys(settings, shape) and vgg19.is_installed()
        register(hide_gpus=True, with_torch=torch_gram)
        import mcrpy
        from mcrpy.src.descriptor_factory import descriptor_choices
        from mcrpy.src.loss_factory import loss_choices
        from mcrpy.src.optimizer_factory import optimizer_choices

        _check_known("descriptor type", settings["descriptor_types"], descriptor_choices)
        _check_known("optimizer type", [settings["optimizer_type"]], optimizer_choices)
        _check_known("loss type", [settings["loss_type"]], loss_choices)
        self._shape = shape
        self._desired = [np.asarray(descriptors[name], dtype=np.float64) for name in settings["descriptor_types"]]
        with refusals_of_mcrpy(_REFUSAL):
            arguments = vars(mcrpy.ReconstructionSettings(**{**settings, "convergence_data_steps": _NEVER}))
            arguments["n_phases"], arguments["save_to"] = n_phases, None
            if "VolumeFractions" in descriptors:  # some optimizers start from them
                arguments["volume_fractions"] = descriptors["VolumeFractions"]
            with own_logging():
                self._dmcr = _warm_class()(stopping_criterion, arguments)
            if torch_gram:
                self._dmcr.use(_gram_loss(self._desired[0], self._dmcr))

    def __call__(self, seed: int) -> Reconstruction:
        """Reconstruct a structure, which depends on nothing but the seed.

        Raises
        ------
        InputError
            If MCRpy cannot start from these descriptors and settings.
        """
        np.random.seed(seed % 2**32)  # noqa: NPY002  MCRpy draws the initial structure from numpy's global generator
        random.seed(seed)  # MCRpy's annealing uses Python's generator; TensorFlow's is used in 3D only
        self._dmcr.forget()
        with refusals_of_mcrpy(_REFUSAL), own_logging():
            convergence, microstructure = self._dmcr.reconstruct(self._desired, self._shape)
        line = convergence["line_data"]
        phases = np.asarray(microstructure.decode_phases())
        return Reconstruction(np.rint(phases).astype(np.uint8), float(line[-1][1]), len(line) - 1)


def _gram_loss(wanted: np.ndarray, dmcr: Any) -> gram_loss.GramLoss:
    frameworks.before_torch()
    weights, periodic = vgg19.read_vgg19_weights(), dmcr.kwargs.get("periodic", True)
    return gram_loss.make_gram_loss(wanted, weights, weight=dmcr.descriptor_weights[0], periodic=periodic)


def _warm_class() -> Any:
    """Return a subclass of MCRpy's DMCR that reuses what does not depend on the structure."""
    import tensorflow as tf
    from mcrpy.src.DMCR import DMCR

    class WarmDMCR(DMCR):  # type: ignore[misc]
        """Keeps descriptors, loss and gradient after the first reconstruction."""

        def __init__(
            self, stopping_criterion: Callable[[np.ndarray], bool] | None, arguments: Mapping[str, Any]
        ) -> None:
            super().__init__(**arguments)
            self._stopping_criterion = stopping_criterion
            self._is_built = False
            self._gradient: Any = None

        def use(self, loss: gram_loss.GramLoss) -> None:
            """Use loss and gradient from a function of numpy arrays instead of MCRpy's graph."""

            def gradient(x: Any) -> tuple[Any, Any]:
                value, slope = loss(x.numpy())
                return tf.constant(value, dtype=tf.float64), tf.constant(slope)

            self._gradient, self._is_built = gradient, True

        def forget(self) -> None:
            """Drop the convergence data of the previous structure."""
            self.convergence_data: dict[str, Any] = {"raw_data": [], "line_data": [], "scatter_data": []}

        def setup_descriptor(self) -> None:
            if not self._is_built:
                super().setup_descriptor()

        def _create_loss(self, *levels: Any) -> None:
            if not self._is_built:
                super()._create_loss(*levels)
                self._is_built = True

        def _create_optimizer(self) -> None:
            super()._create_optimizer()
            if not self.is_gradient_based or self.use_orientations:
                return
            if self._gradient is None:
                self._gradient = _make_gradient(tf, self.loss)
            self.opt.set_call_loss(self._call_loss)

        def _call_loss(self, ms: Any) -> tuple[Any, Sequence[Any]]:
            """Return the loss and its gradient; MCRpy's function for 2D evaluates two graphs for them."""
            loss, gradient = self._gradient(ms.x.read_value())
            return loss, [gradient]

        def reconstruction_callback(self, n_iter: int, *rest: Any, force_save: bool = False, **options: Any) -> None:
            super().reconstruction_callback(n_iter, *rest, force_save=force_save, **options)
            due = n_iter > 0 and n_iter % _CHECK_EVERY == 0 and not force_save
            if due and self._stopping_criterion is not None:
                if self._stopping_criterion(np.rint(self.ms.decode_phases()).astype(np.uint8)):
                    raise KeyboardInterrupt  # MCRpy catches it, stops optimising and keeps the structure

    return WarmDMCR


def _make_gradient(tf: Any, loss: Callable[[Any], Any]) -> Any:
    @tf.function
    def gradient(x: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(x)
        return value, tape.gradient(value, x)

    return gradient


def _check_known(kind: str, given: Sequence[str], allowed: Sequence[str]) -> None:
    for name in given:
        if name not in allowed:
            raise InputError(f"{kind} must be one of {', '.join(sorted(allowed))}, got {name!r}")
