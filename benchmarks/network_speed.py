"""A training step and a sampling step of a preset's network, against diffusers' UNet2DModel of the same widths.

All run in this one process, in turns, on the same machine: medians of the repetitions after warm-up, and their ratio.
The peer is what its users run by default: float32, contiguous memory, Adam, its own DDIM step. Ours is what this
package runs by default: channels last, fused Adam, the EMA update included, and autocast where the processor multiplies
bfloat16 matrices; `--compile` adds torch.compile. Beside other work, `--clock cpu --threads 1` counts the processor's
time instead of the wall's. On a graphics card the peer runs in float32 (with TF32, as is the default of its training
scripts) and images per second, memory and the fraction of the measured matrix product ceiling are printed as well. Run
`python benchmarks/network_speed.py --help`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from mcrpy_diffusion.diffusion.denoiser import Denoiser, NetworkDenoiser
from mcrpy_diffusion.diffusion.ema import ExponentialMovingAverage
from mcrpy_diffusion.diffusion.losses import hybrid_loss, simple_loss
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
from mcrpy_diffusion.diffusion.precision import autocast, has_bfloat16
from mcrpy_diffusion.diffusion.samplers import ddim
from mcrpy_diffusion.diffusion.unet import n_groups
from mcrpy_diffusion.models.checkpoint import ModelInfo, build_network
from mcrpy_diffusion.models.model import Model
from mcrpy_diffusion.settings import PRESETS, TrainingSettings, preset

EXTENT = 64


class Peer(nn.Module):
    """diffusers' network with the widths, blocks, attention and patches of a preset."""

    def __init__(self, settings: TrainingSettings) -> None:
        from diffusers import UNet2DModel

        super().__init__()
        self.patch_size = settings.patch_size
        levels = range(len(settings.channel_multipliers))
        kinds = ["Attn" if i in settings.attention_levels else "" for i in levels]
        channels = settings.patch_size**2
        self.network = UNet2DModel(
            sample_size=EXTENT // settings.patch_size,
            in_channels=channels,
            out_channels=channels * (2 if settings.learned_variance else 1),
            layers_per_block=settings.n_residual_blocks,
            block_out_channels=tuple(settings.channels * m for m in settings.channel_multipliers),
            down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
            up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
            attention_head_dim=settings.channels * settings.channel_multipliers[-1] // settings.n_heads,
            norm_num_groups=n_groups(settings.channels),
            dropout=settings.dropout,
            resnet_time_scale_shift="scale_shift",
        )

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Predict."""
        y = self.network(functional.pixel_unshuffle(x, self.patch_size), t).sample
        return functional.pixel_shuffle(y, self.patch_size)


def training_step(
    predict: Callable[..., torch.Tensor], network: nn.Module, device: torch.device, batch: int, ours: bool
) -> Callable[[], None]:
    """A whole step: noise, network, loss, backward pass, clipping, Adam, moving average."""
    schedule = NoiseSchedule.named("linear", 4000)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=ours)
    average = ExponentialMovingAverage(network, 0.9999)
    memory_format = torch.channels_last if ours else torch.contiguous_format
    x_0 = torch.randint(2, (batch, 1, EXTENT, EXTENT)).float().mul(2).sub(1).to(device, memory_format=memory_format)

    def step() -> None:
        t = torch.randint(4000, (batch,), device=device)
        noise = torch.randn_like(x_0)
        x_t = schedule.add_noise(x_0, noise, t)
        with autocast("auto" if ours else "float32", device):
            output = predict(x_t, t)
        if output.shape[1] == 2:
            loss = hybrid_loss(output.float(), x_0, x_t, t, noise, schedule).total.mean()
        else:
            loss = simple_loss(output.float(), noise).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(network)

    return step


def sampling_step(denoise: Denoiser, device: torch.device, batch: int) -> Callable[[], None]:
    """One DDIM step."""
    schedule = NoiseSchedule.named("linear", 4000)
    x = torch.randn(batch, 1, EXTENT, EXTENT, device=device)

    def step() -> None:
        ddim.sample(denoise, x, schedule, [(2000, 1970)])

    return step


def medians(
    steps: dict[str, Callable[[], None]],
    repeats: int,
    warm_up: int,
    device: torch.device,
    clock: Callable[[], float],
) -> dict[str, float]:
    """Median seconds of each, measured in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(warm_up + repeats):
        for name, step in steps.items():
            synchronize(device)
            started = clock()
            step()
            synchronize(device)
            if i >= warm_up:
                seconds[name].append(clock() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def synchronize(device: torch.device) -> None:
    """Wait for the graphics card."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def matrix_product_ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """TFLOP/s of a large matrix product, the best of ten."""
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        synchronize(device)
        started = time.perf_counter()
        a @ b
        synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2 * n**3 / best / 1e12


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="paper")
    parser.add_argument("--batch_size", type=int, default=0, help="0: 4 of the preset paper, 8 of the others")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warm_up", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    batch = options.batch_size or (4 if options.preset == "paper" else 8)
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    settings = preset(options.preset).training.replace(compile=options.compile, condition_on_volume_fraction=False)
    info = ModelInfo(settings, n_phases=2, extent=(EXTENT, EXTENT), periodic=False)
    ours = build_network(info).to(device).to(memory_format=torch.channels_last)
    peer = Peer(settings).to(device)
    counts = [sum(p.numel() for p in network.parameters()) / 1e6 for network in (ours, peer)]
    gflop = batch * gflop_per_image(info)  # a training step takes three times that
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads, bfloat16 {has_bfloat16(device)}")
    print(f"weights: ours {counts[0]:.1f} M, diffusers {counts[1]:.1f} M; batch {batch} of {EXTENT} x {EXTENT}")

    ours.train()
    peer.train()
    predict = torch.compile(ours) if options.compile else ours
    steps = {
        "diffusers": training_step(peer, peer, device, batch, ours=False),
        "ours": training_step(predict, ours, device, batch, ours=True),
    }
    report("training step", medians(steps, options.repeats, options.warm_up, device, clock), 3 * gflop, batch, device)

    peer.eval()
    model = Model(ours, info, device=str(device))
    steps = {
        "diffusers": sampling_step(NetworkDenoiser(peer, model.schedule), device, batch),
        "ours": sampling_step(model.denoiser(None), device, batch),
    }
    report("sampling step", medians(steps, options.repeats, options.warm_up, device, clock), gflop, batch, device)


def gflop_per_image(info: ModelInfo) -> float:
    """Of a forward pass, convolutions counted by their definition."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        build_network(info)(torch.zeros(1, 1, EXTENT, EXTENT), torch.zeros(1))
    return counter.get_total_flops() / 1e9


def report(what: str, seconds: dict[str, float], gflop: float, batch: int, device: torch.device) -> None:
    """Print a line for each, and the ratio."""
    for name, value in seconds.items():
        print(f"{what}, {name}: {value:.3f} s, {batch / value:.2f} images/s, {gflop / value:.0f} GFLOP/s")
    print(f"{what}: {seconds['diffusers'] / seconds['ours']:.2f} times as fast as diffusers")
    if device.type == "cuda":
        ceiling = matrix_product_ceiling(device, torch.bfloat16)
        memory = torch.cuda.max_memory_allocated() / 2**30
        share = gflop / seconds["ours"] / 1000 / ceiling
        print(f"{what}: {share:.0%} of the bfloat16 ceiling of {ceiling:.0f} TFLOP/s, {memory:.1f} GiB at most")


if __name__ == "__main__":
    main()
