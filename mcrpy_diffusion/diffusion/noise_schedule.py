"""Forward process: noise schedules, q(x_t | x_0) and the posterior q(x_{t-1} | x_t, x_0), in float64.

Equation numbers are those of Lee & Yun (2023), "Microstructure reconstruction using diffusion-based
generative models"; the maths is that of Ho et al. (2020) and Nichol & Dhariwal (2021).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "v", "x_0", "log_odds"]
SELF_COND_MIN_SNR = 0.1  # below it an estimate of x_0 is little more than the network's preference
MAX_SNR = 9.0  # above it fewer than 1 pixel in 740 lies nearer to another phase than to its own


def linear_beta_schedule(num_timesteps: int) -> Tensor:
    """Variances rising linearly from 1e-4 * 1000 / T to 0.02 * 1000 / T.

    The factor 1000 / T keeps the total noise of T steps that of Ho et al.'s 1000.

    Parameters
    ----------
    num_timesteps : int
        T, at least 20 (below, the last variance would reach 1).

    Returns
    -------
    Tensor, shape (T,), float64, in (0, 1)
    """
    if num_timesteps <= 20:
        raise ValueError(f"num_timesteps must be above 20 for the linear schedule, got {num_timesteps}")
    scale = 1000 / num_timesteps
    return torch.linspace(1e-4 * scale, 0.02 * scale, num_timesteps, dtype=torch.float64)


def cosine_beta_schedule(num_timesteps: int, *, max_beta: float = 0.999) -> Tensor:
    """Variances whose alpha_bar is cos^2 of a quarter turn (Nichol & Dhariwal 2021, eq. 17).

    Returns
    -------
    Tensor, shape (T,), float64, in (0, max_beta]
    """
    steps = torch.arange(num_timesteps + 1, dtype=torch.float64) / num_timesteps
    alpha_bar = torch.cos((steps + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=max_beta)


SCHEDULES = {"linear": linear_beta_schedule, "cosine": cosine_beta_schedule}


class NoiseSchedule:
    """The constants of a diffusion process with variances beta_t, t = 0 ... T-1.

    Parameters
    ----------
    betas : Tensor, shape (T,), in (0, 1)
        Variances of the steps, eq. (1).

    Attributes
    ----------
    alpha_bar : Tensor, shape (T,), float64
        Product of 1 - beta_i up to t, eq. (5).
    posterior_variance : Tensor, shape (T,), float64
        beta_tilde_t, the variance of q(x_{t-1} | x_t, x_0); 0 at t = 0.
    posterior_log_variance : Tensor, shape (T,), float64
        Its logarithm, where the entry at t = 0 (log 0) is that of t = 1, as in the published code; beta_0 where T = 1.
    posterior_x_0 : Tensor, shape (T,), float64
        Factor of x_0 in the mean of q(x_{t-1} | x_t, x_0).
    """

    def __init__(self, betas: Tensor) -> None:
        betas = torch.as_tensor(betas, dtype=torch.float64)
        if betas.ndim != 1 or len(betas) < 1 or not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError("betas must be at least one number between 0 and 1, both excluded")
        self.betas = betas
        self.log_betas = betas.log()
        self.alpha_bar = torch.cumprod(1 - betas, dim=0)  # eqs. (4), (5)
        previous = torch.cat([torch.ones(1, dtype=torch.float64), self.alpha_bar[:-1]])
        self.posterior_variance = betas * (1 - previous) / (1 - self.alpha_bar)
        at_zero = self.posterior_variance[1:2] if len(betas) > 1 else betas
        self.posterior_log_variance = torch.cat([at_zero, self.posterior_variance[1:]]).log()
        self.posterior_x_0 = betas * previous.sqrt() / (1 - self.alpha_bar)
        self._posterior_x_t = (1 - previous) * (1 - betas).sqrt() / (1 - self.alpha_bar)

    @classmethod
    def named(cls, name: str, num_timesteps: int) -> NoiseSchedule:
        """Make the schedule "linear" or "cosine" of T steps."""
        if name not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {name!r}")
        return cls(SCHEDULES[name](num_timesteps))

    @property
    def num_timesteps(self) -> int:
        """T."""
        return len(self.betas)

    @property
    def likelihood_weights(self) -> Tensor:
        """(SNR_{t-1} - SNR_t) T / 2, shape (T,): of errors of x_0 in L_vlb, see `losses.likelihood_loss`."""
        snr = self.alpha_bar / (1 - self.alpha_bar)
        drops = snr[:-1] - snr[1:]
        return torch.cat([drops[:1], drops]) * (self.num_timesteps / 2)

    def alpha_bar_at(self, t: int) -> float:
        """alpha_bar_t as a number; 1 at t = -1, the clean image."""
        return float(self.alpha_bar[t]) if t >= 0 else 1.0

    def half_log_snr(self, t: int) -> float:
        """lambda_t = log(sqrt(alpha_bar_t) / sqrt(1 - alpha_bar_t)); infinite at t = -1, the clean image."""
        if t < 0:
            return math.inf
        alpha_bar = self.alpha_bar_at(t)
        return 0.5 * (math.log(alpha_bar) - math.log1p(-alpha_bar))

    @property
    def min_timestep(self) -> int:
        """The first time at which noise hides phases (-1 and 1): SNR <= 9, three standard deviations."""
        return min(int((self.alpha_bar > MAX_SNR / (1 + MAX_SNR)).sum()), self.num_timesteps - 1)

    @property
    def self_cond_max_timestep(self) -> int:
        """The last time at which an estimate of x_0 is informative, SNR >= 0.1."""
        return max(int((self.alpha_bar >= SELF_COND_MIN_SNR / (1 + SELF_COND_MIN_SNR)).sum()) - 1, 0)

    def subset(self, times: Sequence[int]) -> NoiseSchedule:
        """The process that visits some of the time steps only: its step i leads to time times[i].

        beta_i = 1 - alpha_bar[times[i]] / alpha_bar[times[i - 1]], so that alpha_bar keeps its values (Nichol &
        Dhariwal 2021, eq. 19).

        Parameters
        ----------
        times : sequence of int, rising, in 0 ... T-1
        """
        if list(times) != sorted(set(times)) or not times or times[0] < 0:
            raise ValueError(f"times must rise from at least 0, got {list(times)}")
        alpha_bar = self.alpha_bar[list(times)]
        previous = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
        return NoiseSchedule(1 - alpha_bar / previous)

    def add_noise(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Draw x_t from q(x_t | x_0): sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, eq. (3).

        Parameters
        ----------
        x_0, noise : Tensor, shape (B, ...)
        t : Tensor, shape (B,), integers in 0 ... T-1

        Returns
        -------
        Tensor, shape (B, ...)
        """
        return at(self.alpha_bar.sqrt(), t, x_0) * x_0 + at((1 - self.alpha_bar).sqrt(), t, x_0) * noise

    def posterior(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of q(x_{t-1} | x_t, x_0), shapes (B, ...) and (B, 1, ..., 1)."""
        mean = at(self.posterior_x_0, t, x_t) * x_0 + at(self._posterior_x_t, t, x_t) * x_t
        return mean, at(self.posterior_log_variance, t, x_t)

    def target(self, x_0: Tensor, noise: Tensor, t: Tensor, prediction: Prediction = "epsilon") -> Tensor:
        """What the network predicts: eps, x_0, or v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0.

        v is Salimans & Ho (2022), appendix D.
        """
        if prediction == "epsilon":
            return noise
        if prediction == "x_0":
            return x_0
        if prediction != "v":
            raise ValueError(f"prediction must be one of epsilon, v, x_0, got {prediction!r}")
        return at(self.alpha_bar.sqrt(), t, x_0) * noise - at((1 - self.alpha_bar).sqrt(), t, x_0) * x_0

    def predict_x_0(self, output: Tensor, x_t: Tensor, t: Tensor, prediction: Prediction = "epsilon") -> Tensor:
        """Expected x_0, given the network's prediction of epsilon, v or x_0 at x_t: eq. (3) solved for x_0."""
        signal, sigma = at(self.alpha_bar.sqrt(), t, x_t), at((1 - self.alpha_bar).sqrt(), t, x_t)
        if prediction == "epsilon":
            return (x_t - sigma * output) / signal
        if prediction == "x_0":
            return output
        if prediction == "v":
            return signal * x_t - sigma * output
        raise ValueError(f"prediction must be one of epsilon, v, x_0, got {prediction!r}")

    def predict_noise(self, x_0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Solve eq. (3) for the noise."""
        return (x_t - at(self.alpha_bar.sqrt(), t, x_t) * x_0) / at((1 - self.alpha_bar).sqrt(), t, x_t)


def at(values: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """Take values[t], shape (B, 1, ..., 1), in precision and on the device of `like`: the one place of that cast."""
    picked = values[t.to(values.device)].to(device=like.device, dtype=like.dtype)
    return picked.reshape(-1, *([1] * (like.ndim - 1)))
