"""The one place that prepares a process for TensorFlow and MCRpy, and keeps them from touching what is not theirs.

GPUs: TensorFlow takes all memory of every GPU it may see, and PyTorch then has none. MCRpy's own commands
(`--method descriptor`) keep the GPU, as without this package, but let their share grow with need. Everything else
(worker processes, characterizations beside a PyTorch model) hides the GPUs from TensorFlow: the reconstruction of a
64 x 64 structure is bound by its many small steps and gains nothing there.

Versions: PyPI's MCRpy 0.2.0 needs Keras 2 for its Gram matrices (`TF_USE_LEGACY_KERAS`), and two names that numpy 2 no
longer has; its repository's needs neither and is not disturbed by them. `notes` says what holds in a process, for the
logs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from types import ModuleType

import numpy as np

from mcrpy_diffusion.errors import InputError, one_line
from mcrpy_diffusion.runtime import frameworks

_VARIABLES = {
    "TF_CPP_MIN_LOG_LEVEL": "3",  # errors come as exceptions; the rest is about drivers that are not there
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}
_NUMPY_NAMES = {"product": "prod", "bool8": "bool_"}  # that MCRpy 0.2.0 uses and numpy 2 lacks -> the same thing there
_supplied: list[str] = []
logger = logging.getLogger(__name__)


def variables(*, threads: int | None = None, hide_gpus: bool = False) -> dict[str, str]:
    """Return the environment variables a process needs before TensorFlow is imported.

    Parameters
    ----------
    threads : int, optional
        Threads within and between TensorFlow's operations, and of OpenMP; None leaves them alone.
    hide_gpus : bool
        Hide GPUs from the whole process (for processes that do nothing but MCRpy).
    """
    chosen = dict(_VARIABLES)
    if importlib.util.find_spec("tf_keras") is not None:  # else MCRpy 0.2.0 fails in GramMatrices with Keras 3
        chosen["TF_USE_LEGACY_KERAS"] = "1"
    if threads is not None:
        names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        chosen.update(dict.fromkeys(names, str(threads)))
    if hide_gpus:
        chosen["CUDA_VISIBLE_DEVICES"] = "-1"
    return chosen


def prepare() -> None:
    """Set what TensorFlow reads when it is imported; variables that are set already keep their value."""
    for name, value in variables().items():
        os.environ.setdefault(name, value)


def supply_numpy_names() -> list[str]:
    """Give numpy the names that MCRpy 0.2.0 uses and numpy 2 has removed; calling it again changes nothing.

    Returns
    -------
    list of str
        Those that were missing, in this call or an earlier one; none with numpy 1.

    Notes
    -----
    MCRpy looks them up while it works, not only when it is imported, so they stay for the whole process. `np.product`
    is `np.prod`, `np.bool8` is `np.bool_`, as they were in numpy 1.
    """
    missing = [name for name in _NUMPY_NAMES if name not in vars(np)]
    for name in missing if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else ():
        setattr(np, name, getattr(np, _NUMPY_NAMES[name]))
        _supplied.append(name)
    return list(_supplied)


def notes() -> list[str]:
    """Say what was settled for MCRpy and TensorFlow in this process, a line each, for the logs."""
    keras = os.environ.get("TF_USE_LEGACY_KERAS")
    there = importlib.util.find_spec("tf_keras") is not None
    lines = [
        f"TF_USE_LEGACY_KERAS={keras}: TensorFlow uses Keras 2 (tf-keras), which the Gram matrices of MCRpy 0.2.0 need"
        if keras == "1"
        else f"TF_USE_LEGACY_KERAS is {keras or 'not set'}{'' if there else ', tf-keras is not installed'}: TensorFlow "
        "uses Keras 3, with which the Gram matrices of MCRpy 0.2.0 fail"
    ]
    if _supplied:
        names = ", ".join(f"np.{name} = np.{_NUMPY_NAMES[name]}" for name in _supplied)
        lines.append(f"numpy {np.__version__}: names that MCRpy 0.2.0 uses were supplied: {names}")
    if "tensorflow" in sys.modules:
        import tensorflow as tf

        visible = tf.config.get_visible_devices("GPU")
        if tf.config.list_physical_devices("GPU"):
            growth = os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH", "not set")
            lines.append(
                f"TensorFlow may use {len(visible)} GPUs, its share growing with need (TF_FORCE_GPU_ALLOW_GROWTH="
                f"{growth})"
                if visible
                else "GPUs are hidden from TensorFlow and left to PyTorch"
            )
    return lines


def import_mcrpy(*, threads: int | None = None, hide_gpus: bool = True, with_torch: bool = True) -> ModuleType:
    """Import MCRpy, and TensorFlow with it, and return it.

    Parameters
    ----------
    threads : int, optional
        Threads within and between TensorFlow's operations; None leaves the choice to it.
    hide_gpus : bool
        Hide GPUs from TensorFlow, and from it alone.
    with_torch : bool
        Load PyTorch first, for a process that needs both (see `frameworks`).

    Notes
    -----
    Threads and GPUs are settled when TensorFlow runs its first operation: a host that used TensorFlow before keeps
    its own choice.
    """
    prepare()
    supply_numpy_names()
    if with_torch:
        frameworks.before_tensorflow()
    with _quiet_stderr():
        import tensorflow as tf

        try:
            if threads is not None:
                tf.config.threading.set_intra_op_parallelism_threads(threads)
                tf.config.threading.set_inter_op_parallelism_threads(threads)
            if hide_gpus:
                tf.config.set_visible_devices([], "GPU")
        except RuntimeError as error:
            logger.debug("TensorFlow was in use before: %s", error)
        tf.get_logger().setLevel(logging.ERROR)
        first = "mcrpy" not in sys.modules
        import mcrpy
    if first:
        for line in notes():
            logger.info("%s", line)
    return mcrpy


@contextlib.contextmanager
def refusals_of_mcrpy(what: str) -> Iterator[None]:
    """Turn what MCRpy raises where settings, descriptors and structures do not fit together into an `InputError`.

    Parameters
    ----------
    what : str
        What MCRpy cannot do; what it says itself is added. This package's own `InputError` passes as it is.
    """
    import tensorflow as tf

    try:
        yield
    except InputError:
        raise
    except (AssertionError, ValueError, TypeError, IndexError, KeyError, tf.errors.OpError) as error:
        kind, reason = type(error).__name__, one_line(error)
        raise InputError(f"{what}: {kind if reason == kind else f'{kind}: {reason}'}") from error


@contextlib.contextmanager
def restored_logging() -> Iterator[None]:
    """Give the host's logging back after MCRpy's work.

    MCRpy calls `logging.basicConfig`, or (the repository's) removes the root logger's handlers and sets its own,
    whenever it characterizes or reconstructs. After this context the root logger has exactly the handlers and the
    level that it had before, and what MCRpy opened is closed.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        added = [handler for handler in root.handlers if handler not in handlers]
        root.handlers[:] = handlers
        root.setLevel(level)
        for handler in added:
            handler.close()


@contextlib.contextmanager
def own_logging() -> Iterator[None]:
    """Keep MCRpy's hands off the host's logging, and its lines out of it: `restored_logging`, without handlers."""
    root = logging.getLogger()
    with restored_logging():
        root.handlers[:] = [logging.NullHandler()]
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Run MCRpy as a library: no lines on stdout, the host's logging untouched."""
    with own_logging(), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Hold back what TensorFlow's C++ part writes to stderr while it starts; after an error it is shown."""
    if "tensorflow" in sys.modules:
        yield
        return
    try:
        sys.stderr.flush()
        saved = os.dup(2)
    except (OSError, AttributeError):  # no stderr at all
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
