"""A density in the plane, learned and sampled: the diffusion maths on something that can be checked exactly.

The density is a mixture of eight Gaussians on a ring, whose score is known in closed form at every time. A small
network learns it with the package's own loss; DDIM, DDPM and DPM-Solver++ sample from the exact and from the learned
score. The sliced Wasserstein distance to fresh draws of the density says how good each is; the last line of the table
is what two sets of draws have between them. Run `python examples/toy_density.py`; it takes about a minute on one core.
"""

from __future__ import annotations

import argparse
import math

import torch
from torch import Tensor, nn

from mcrpy_diffusion.diffusion.denoiser import Network, NetworkDenoiser
from mcrpy_diffusion.diffusion.losses import simple_loss
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
from mcrpy_diffusion.diffusion.samplers import ddim, ddpm, dpm_solver
from mcrpy_diffusion.diffusion.timesteps import timestep_pairs
from mcrpy_diffusion.diffusion.unet import timestep_embedding

N_MODES, RADIUS, STD = 8, 1.0, 0.08
ANGLES = torch.arange(N_MODES) * (2 * math.pi / N_MODES)
CENTRES = RADIUS * torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)


def draw(n: int, generator: torch.Generator) -> Tensor:
    """Draw n points (n, 2) of the density."""
    chosen = torch.randint(N_MODES, (n,), generator=generator)
    return CENTRES[chosen] + STD * torch.randn(n, 2, generator=generator)


def exact_noise(schedule: NoiseSchedule) -> Network:
    """E[eps | x_t] of the mixture, in closed form."""

    def network(x: Tensor, t: Tensor) -> Tensor:
        alpha_bar = schedule.alpha_bar[t].float()[:, None]
        variance = alpha_bar * STD**2 + 1 - alpha_bar
        offsets = x[:, None] - alpha_bar.sqrt()[:, None] * CENTRES  # to the centre of each mode, (n, 8, 2)
        weights = (-(offsets**2).sum(2) / (2 * variance)).softmax(1)
        return (1 - alpha_bar).sqrt() * (weights[:, :, None] * offsets).sum(1) / variance

    return network


class Perceptron(nn.Module):
    """Predicts the noise at a point from the point and its time."""

    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.first = nn.Linear(2 + 64, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(3)
        )
        self.last = nn.Linear(width, 2)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Predict eps (n, 2) from x (n, 2) and t (n,)."""
        h = self.first(torch.cat([x, timestep_embedding(t, 64)], dim=1))
        for block in self.blocks:
            h = h + block(h)
        return self.last(h)


def learn(schedule: NoiseSchedule, n_steps: int, seed: int = 0) -> Perceptron:
    """Train on fresh draws with L_simple."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network = Perceptron()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    for _ in range(n_steps):
        x_0 = draw(512, generator)
        noise = torch.randn(x_0.shape, generator=generator)
        t = torch.randint(schedule.num_timesteps, (len(x_0),), generator=generator)
        loss = simple_loss(network(schedule.add_noise(x_0, noise, t), t), noise).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
    return network.eval()


def sliced_wasserstein(a: Tensor, b: Tensor, n_directions: int = 64) -> float:
    """Mean over directions of the distance between the sorted projections of two sets of n points (Bonneel 2015)."""
    angles = torch.arange(n_directions) * (math.pi / n_directions)
    directions = torch.stack([angles.cos(), angles.sin()])
    return float(((a @ directions).sort(0).values - (b @ directions).sort(0).values).abs().mean())


def main(n_points: int = 10_000, n_training_steps: int = 4000) -> dict[str, float]:
    """Print the table and return it, as {row: distance}."""
    schedule = NoiseSchedule.named("linear", 1000)
    generator = torch.Generator().manual_seed(1)
    truth, noise = draw(n_points, generator), torch.randn(n_points, 2, generator=generator)
    walks = [
        ("DDPM, all 1000 steps", ddpm.sample, 1000, 1),
        ("DDIM, 150 steps", ddim.sample, 150, 1),
        ("DDIM, 20 steps", ddim.sample, 20, 1),
        ("DPM-Solver++, 20 even steps", dpm_solver.sample, 20, 1),
        ("DPM-Solver++, 20 shortening steps", dpm_solver.sample, 20, 2),
    ]
    table = {}
    for name, network in (("exact", exact_noise(schedule)), ("learned", learn(schedule, n_training_steps))):
        for row, sample, n_steps, exponent in walks:
            pairs = timestep_pairs(1000, n_steps, exponent=exponent)
            points = sample(NetworkDenoiser(network, schedule, clip=False), noise, schedule, pairs, generator=generator)
            table[f"{name} score, {row}"] = sliced_wasserstein(points, truth)
    table["two sets of draws"] = sliced_wasserstein(draw(n_points, generator), truth)
    print(f"sliced Wasserstein distance of {n_points} points to as many draws of the density")
    for row, distance in table.items():
        print(f"  {row:48s} {distance:.4f}")
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--n_points", type=int, default=10_000)
    parser.add_argument("--n_training_steps", type=int, default=4000)
    main(**vars(parser.parse_args()))
