"""Settings of a process for TensorFlow and MCRpy: environment variables, GPUs, logging. No other module sets them.

GPUs: by default TensorFlow reserves all memory of every visible GPU, and none is left for PyTorch. MCRpy's own commands
(`--method descriptor`) keep the GPU, with memory that grows on demand. Everywhere else (worker processes,
characterizations beside a PyTorch model) the GPUs are hidden from TensorFlow: a reconstruction of 64 x 64 pixels
consists of many small steps and is not faster on a GPU.

Versions: MCRpy 0.2.0 from PyPI needs Keras 2 for its Gram matrices (`TF_USE_LEGACY_KERAS`), and two names that numpy 2
has removed. MCRpy from its repository needs neither and works with both. `notes` describes the settings for the log.
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
    "TF_CPP_MIN_LOG_LEVEL": "3",  # errors are raised as exceptions; all other messages are about missing drivers
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}
_NUMPY_NAMES = {"product": "prod", "bool8": "bool_"}  # used by MCRpy 0.2.0, removed in numpy 2 -> name in numpy 2
_supplied: list[str] = []
logger = logging.getLogger(__name__)


def variables(*, threads: int | None = None, hide_gpus: bool = False) -> dict[str, str]:
    """Return the environment variables a process needs before TensorFlow is imported.

    Parameters
    ----------
    threads : int, optional
        Threads within and between TensorFlow's operations, and of OpenMP; None: their own defaults.
    hide_gpus : bool
        Hide GPUs from the whole process, for processes that run MCRpy alone.
    """
    chosen = dict(_VARIABLES)
    if importlib.util.find_spec("tf_keras") is not None:  # GramMatrices of MCRpy 0.2.0 fail with Keras 3
        chosen["TF_USE_LEGACY_KERAS"] = "1"
    if threads is not None:
        names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        chosen.update(dict.fromkeys(names, str(threads)))
    if hide_gpus:
        chosen["CUDA_VISIBLE_DEVICES"] = "-1"
    return chosen


def prepare() -> None:
    """Set the environment variables that TensorFlow reads at import; those already set keep their value."""
    for name, value in variables().items():
        os.environ.setdefault(name, value)


def supply_numpy_names() -> list[str]:
    """Add the names to numpy that MCRpy 0.2.0 uses and numpy 2 has removed; repeated calls change nothing.

    Returns
    -------
    list of str
        The names added by this or an earlier call; none with numpy 1.

    Notes
    -----
    MCRpy uses the names at run time, so they stay until the process ends. As in numpy 1, `np.product` is `np.prod` and
    `np.bool8` is `np.bool_`.
    """
    missing = [name for name in _NUMPY_NAMES if name not in vars(np)]
    for name in missing if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else ():
        setattr(np, name, getattr(np, _NUMPY_NAMES[name]))
        _supplied.append(name)
    return list(_supplied)


def notes() -> list[str]:
    """Return the settings of this process for MCRpy and TensorFlow, one line each, for the log."""
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
        lines.append(f"numpy {np.__version__}: names that MCRpy 0.2.0 uses were added: {names}")
    if "tensorflow" in sys.modules:
        import tensorflow as tf

        visible = tf.config.get_visible_devices("GPU")
        if tf.config.list_physical_devices("GPU"):
            growth = os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH", "not set")
            lines.append(
                f"TensorFlow may use {len(visible)} GPUs, with memory that grows on demand (TF_FORCE_GPU_ALLOW_GROWTH="
                f"{growth})"
                if visible
                else "GPUs are hidden from TensorFlow; PyTorch can use them"
            )
    return lines


def import_mcrpy(*, threads: int | None = None, hide_gpus: bool = True, with_torch: bool = True) -> ModuleType:
    """Import MCRpy, and TensorFlow with it, and return it.

    Parameters
    ----------
    threads : int, optional
        Threads within and between TensorFlow's operations; None: TensorFlow's default.
    hide_gpus : bool
        Hide GPUs from TensorFlow, not from PyTorch.
    with_torch : bool
        Load PyTorch first, for a process that needs both (see `frameworks`).

    Notes
    -----
    TensorFlow accepts no changes of threads and GPUs after its first operation: if the calling program has used
    TensorFlow before, its own settings remain.
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
    """Turn the errors that MCRpy raises for unsuitable settings, descriptors and structures into an `InputError`.

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
    """Restore the root logger after MCRpy has changed it.

    Whenever it characterizes or reconstructs, MCRpy calls `logging.basicConfig`; MCRpy from its repository replaces the
    root logger's handlers. After this context the root logger has its former handlers and level, and the handlers that
    MCRpy added are closed.
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
    """Do as `restored_logging`, and keep MCRpy's messages out of the handlers of the calling program."""
    root = logging.getLogger()
    with restored_logging():
        root.handlers[:] = [logging.NullHandler()]
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Run MCRpy as a library: nothing on stdout, logging of the calling program unchanged."""
    with own_logging(), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Suppress what TensorFlow's C++ code writes to stderr at import, unless an error is raised."""
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
