"""MCRpy's reconstruction, many times over from one descriptor: the same steps, without building them anew each time.

Measured for one 64 x 64 structure (FFTCorrelations, L-BFGS-B), most of the time of `mcrpy.reconstruct` goes into copies
of the microstructure for the convergence data, into tracing TensorFlow functions that every call makes anew, and into
the gaps between TensorFlow's calls. So the convergence data are left out, and descriptors, loss and their gradient
are made once and kept. The numbers that come out are those of `mcrpy.reconstruct` with the same seed. Gram matrices,
which take MCRpy a third of a second and 6 GB per evaluation, are computed in single precision instead (`gram_loss`):
up to rounding the same.
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

_CHECK_EVERY = 25  # iterations; a check costs about as much as one of them
_NEVER = 10**9
_REFUSAL = "MCRpy cannot reconstruct with these descriptors and settings; try others"


@dataclass(frozen=True)
class Reconstruction:
    """One structure.

    Attributes
    ----------
    phases : (I, J) uint8
    loss : float
        MCRpy's loss at the end, before rounding.
    n_iterations : int
        Evaluations of the loss.
    """

    phases: np.ndarray
    loss: float
    n_iterations: int


class Reconstructor:
    """Reconstructs structures from one characterization.

    Parameters
    ----------
    descriptors : mapping of str to (n_phases, n_levels, ...) arrays
        As `mcrpy.characterize` makes them, at least those of `settings["descriptor_types"]`.
    n_phases : int
        As in the settings that the characterization carries.
    shape : (int, int)
        Rows and columns of a structure.
    settings : mapping
        Fields of `mcrpy.ReconstructionSettings`.
    good_enough : callable, optional
        Is shown the rounded structure from time to time; True ends the optimisation before `max_iter`.
    gram_twin : bool
        Compute Gram matrices by `gram_loss`, where that is MCRpy's loss.

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
        good_enough: Callable[[np.ndarray], bool] | None = None,
        gram_twin: bool = True,
    ) -> None:
        gram_twin = gram_twin and gram_loss.is_mcrpys(settings, shape) and vgg19.is_there()
        register(hide_gpus=True, with_torch=gram_twin)
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
                self._dmcr = _warm_class()(good_enough, arguments)
            if gram_twin:
                self._dmcr.use(_gram_loss(self._desired[0], self._dmcr))

    def __call__(self, seed: int) -> Reconstruction:
        """Reconstruct the structure of a seed, which depends on that seed alone.

        Raises
        ------
        InputError
            If MCRpy cannot start from these descriptors and settings.
        """
        np.random.seed(seed % 2**32)  # noqa: NPY002  MCRpy draws the initial structure from numpy's global generator
        random.seed(seed)  # and its annealing from Python's; TensorFlow's is for 3D only (seeding it costs 0.1 s)
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
    """Return MCRpy's DMCR with the parts kept that do not change from one structure to the next."""
    import tensorflow as tf
    from mcrpy.src.DMCR import DMCR

    class WarmDMCR(DMCR):  # type: ignore[misc]
        """Keeps descriptors, loss and gradient after the first reconstruction; all else is MCRpy's."""

        def __init__(self, good_enough: Callable[[np.ndarray], bool] | None, arguments: Mapping[str, Any]) -> None:
            super().__init__(**arguments)
            self._good_enough = good_enough
            self._is_built = False
            self._gradient: Any = None

        def use(self, loss: gram_loss.GramLoss) -> None:
            """Take loss and gradient from a function of numpy arrays, in place of MCRpy's graph."""

            def gradient(x: Any) -> tuple[Any, Any]:
                value, slope = loss(x.numpy())
                return tf.constant(value, dtype=tf.float64), tf.constant(slope)

            self._gradient, self._is_built = gradient, True

        def forget(self) -> None:
            """Drop the convergence data of the structure before."""
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
            """Return the loss and its gradient, as MCRpy's own function for 2D does, from one graph instead of two."""
            loss, gradient = self._gradient(ms.x.read_value())
            return loss, [gradient]

        def reconstruction_callback(self, n_iter: int, *rest: Any, force_save: bool = False, **options: Any) -> None:
            super().reconstruction_callback(n_iter, *rest, force_save=force_save, **options)
            due = n_iter > 0 and n_iter % _CHECK_EVERY == 0 and not force_save
            if due and self._good_enough is not None:
                if self._good_enough(np.rint(self.ms.decode_phases()).astype(np.uint8)):
                    raise KeyboardInterrupt  # which MCRpy takes as: stop optimising, go on with what is there

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
            raise InputError(f"the {kind} is {name!r}; allowed are {', '.join(sorted(allowed))}")
