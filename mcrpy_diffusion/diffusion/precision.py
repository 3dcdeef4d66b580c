"""Which precision a network computes in: bfloat16 where the device multiplies it in hardware, else float32."""

from __future__ import annotations

import contextlib
from typing import Any

import torch


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether "bfloat16", "float32" or "auto" means bfloat16 on this device."""
    return precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware; emulation is many times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    checks = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(check is not None and check() for check in checks)


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The context in which a network is trained."""
    if use_bfloat16(precision, device):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()
