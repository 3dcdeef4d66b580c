"""Exponential moving average of the weights, whose decay warms up so that short runs make sense."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """Averaged copy of a network's weights.

    The decay at step n is min(decay, (1 + n) / (10 + n)): early, poor weights are forgotten.

    Parameters
    ----------
    module : nn.Module
        Network whose floating point parameters are followed.
    decay : float, in [0, 1)
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be at least 0 and below 1, got {decay}")
        self.decay = decay
        self.num_updates = 0
        self.weights: dict[str, Tensor] = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the module's weights."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        state = module.state_dict()
        floating = [k for k, v in self.weights.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.weights[k] for k in floating], [state[k] for k in floating], 1 - decay)
