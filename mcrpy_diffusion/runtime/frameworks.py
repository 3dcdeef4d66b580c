"""PyTorch and TensorFlow in one process: PyTorch must be loaded first.

If TensorFlow is loaded first, two problems occur (observed with torch 2.15 and tensorflow 2.21):

- PyTorch finds no GPU ("CUDA initialization: Unexpected error from cudaGetDeviceCount()"), because it loads
  TensorFlow's CUDA stubs.
- The process aborts when one of PyTorch's optimisers loads Triton ("LLVM ERROR: inconsistency in registered CommandLine
  options"), because both libraries contain LLVM.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys

log = logging.getLogger(__name__)

TRITON_LIBRARY = "triton._C.libtriton"


def before_tensorflow() -> None:
    """Load PyTorch and Triton, if installed; call this before TensorFlow is imported."""
    if "tensorflow" not in sys.modules and "triton" not in sys.modules:
        for library in ("torch", TRITON_LIBRARY):
            with contextlib.suppress(ImportError):
                importlib.import_module(library)


def before_torch() -> None:
    """Keep PyTorch from loading Triton if TensorFlow was imported first; torch.compile is then not available."""
    if "tensorflow" in sys.modules and TRITON_LIBRARY not in sys.modules and sys.modules.get("triton") is None:
        if "triton" not in sys.modules:
            log.warning("TensorFlow was imported before PyTorch: no torch.compile and no GPU in this process")
        sys.modules["triton"] = None  # type: ignore[assignment]
