"""Self-conditioning on the previous estimate of x_0 (Chen et al. 2023, "Analog bits", arXiv:2208.04202).

Consecutive steps share most of what they have to find out. A network that sees its previous estimate corrects it in
place of starting anew, so that a small network passes through its layers many times during sampling.
"""

from __future__ import annotations

from torch import Tensor

from mcrpy_diffusion.diffusion.denoiser import Denoised, Denoiser
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule


class SelfConditioned:
    """A denoiser for one batch from noise to images: each call is given the x_0 that the previous call estimated.

    No estimate is given at the noisiest times, above `schedule.self_cond_max_timestep`. An estimate from noise alone is
    the network's preference, such as one direction of lamellae; feedback would amplify it in all structures.

    Parameters
    ----------
    denoise : Denoiser
    schedule : NoiseSchedule
    memory : dict, optional
        Holds the previous estimate between calls, as "estimate"; one that is given can be kept and given again.
    """

    def __init__(self, denoise: Denoiser, schedule: NoiseSchedule, memory: dict[str, Tensor] | None = None) -> None:
        self.denoise, self.max_timestep = denoise, schedule.self_cond_max_timestep
        self.memory = {} if memory is None else memory

    def __call__(self, x_t: Tensor, t: Tensor, estimate: Tensor | None = None, /) -> Denoised:
        previous = self.memory.get("estimate") if int(t.max()) <= self.max_timestep else None
        denoised = self.denoise(x_t, t, previous)
        self.memory["estimate"] = as_estimate(denoised)
        return denoised


def two_pass_self_conditioning(denoise: Denoiser) -> Denoiser:
    """Give each call the estimate of a first call without one: a function of (x_t, t) alone, as in training."""

    def two_pass(x_t: Tensor, t: Tensor, estimate: Tensor | None = None, /) -> Denoised:
        return denoise(x_t, t, as_estimate(denoise(x_t, t)))

    return two_pass


def as_estimate(denoised: Denoised) -> Tensor:
    """x_0 in [-1, 1], as a network is given it."""
    return denoised.x_0.clamp(-1, 1)
