"""PyTorch and TensorFlow in one process.

Both carry LLVM: PyTorch in Triton's libtriton, which its optimisers load on the way, TensorFlow in its own library.
Where TensorFlow comes first, loading Triton ends the process ("LLVM ERROR: inconsistency in registered CommandLine
options", seen with torch 2.15 and tensorflow 2.21); Triton first and TensorFlow second works.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys

log = logging.getLogger(__name__)

TRITON_LIBRARY = "triton._C.libtriton"


def before_tensorflow() -> None:
    """Load Triton, where it is installed, so that TensorFlow can follow. Call this before TensorFlow is imported."""
    if "tensorflow" not in sys.modules and "triton" not in sys.modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(TRITON_LIBRARY)


def before_torch() -> None:
    """Keep PyTorch from loading Triton where TensorFlow was imported first: torch.compile is then not to be had."""
    if "tensorflow" in sys.modules and TRITON_LIBRARY not in sys.modules and sys.modules.get("triton") is None:
        if "triton" not in sys.modules:
            log.info("TensorFlow was imported before Triton: torch.compile is off in this process")
        sys.modules["triton"] = None  # type: ignore[assignment]
