"""Where the sampling of one structure stands, in a file that is written each minute: a stop loses a minute at most."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mcrpy_diffusion.diffusion.denoiser import Denoised
from mcrpy_diffusion.diffusion.log_odds import LogOdds
from mcrpy_diffusion.diffusion.timesteps import Step
from mcrpy_diffusion.io.files import write_file

SAVE_EVERY_SECONDS = 60.0
_KEY, _MEMORY = "mcrpy_diffusion", "memory."


@dataclass(frozen=True)
class StateFiles:
    """Where the states of structures are kept.

    Attributes
    ----------
    path : callable
        Seed -> file; it exists while the structure is made.
    identity : mapping
        What determines the structures besides their seeds, as JSON values. A state of another identity is ignored.
    """

    path: Callable[[int], Path]
    identity: Mapping[str, Any]


class SamplingState:
    """The state of sampling one structure, and a sampler's callback that writes it.

    Parameters
    ----------
    files : StateFiles
    seed : int
    generator : torch.Generator
        Source of all random numbers of the structure; its state is kept.
    memory : dict
        What the denoiser keeps between steps, see `SelfConditioned`; kept too.
    device : torch.device
        Of the structure.
    """

    def __init__(
        self,
        files: StateFiles,
        seed: int,
        generator: torch.Generator,
        memory: dict[str, Tensor],
        device: torch.device,
    ) -> None:
        self.path, self.generator, self.memory, self.device = files.path(seed), generator, memory, device
        self.identity = json.dumps({**files.identity, "seed": seed}, sort_keys=True)
        self._saved = time.monotonic()

    def __call__(self, step: Step) -> None:
        """Write the state, if a minute has passed since the last time."""
        if time.monotonic() - self._saved >= SAVE_EVERY_SECONDS:
            self.save(step)
            self._saved = time.monotonic()

    def save(self, step: Step) -> None:
        """Write the state after a step."""
        from safetensors.torch import save

        tensors = {"x": step["x"], "generator": self.generator.get_state()}
        tensors |= {_MEMORY + name: value for name, value in self.memory.items()}
        denoised: Denoised = step["denoised"]
        if step["x"] is denoised.x_0:
            return  # the last step: the structure follows at once
        if denoised.log_odds is None:
            tensors["x_0"] = denoised.x_0
        else:
            tensors |= {"evidence": denoised.log_odds.evidence, "context": denoised.log_odds.context}
        tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        facts = {"identity": self.identity, "i": step["i"], "t": step["t"]}
        write_file(self.path, save(tensors, metadata={_KEY: json.dumps(facts)}))

    def load(self) -> Step | None:
        """Return the step after which sampling goes on, and restore generator and memory; None without a state.

        A file that is damaged or of another identity counts as none.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})[_KEY])
                if facts["identity"] != self.identity:
                    return None
                tensors = {name: file.get_tensor(name).to(self.device) for name in file.keys()}
            self.generator.set_state(tensors.pop("generator").cpu())
            denoised = (
                Denoised(tensors["x_0"])
                if "x_0" in tensors
                else Denoised.of_phases(LogOdds(tensors["evidence"], tensors["context"]))
            )
            step = {"i": int(facts["i"]), "t": int(facts["t"]), "x": tensors["x"], "denoised": denoised}
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError):
            return None
        found = {name.removeprefix(_MEMORY): value for name, value in tensors.items() if name.startswith(_MEMORY)}
        self.memory.update(found)
        return step

    def remove(self) -> None:
        """Delete the file, as the structure is there."""
        self.path.unlink(missing_ok=True)
