"""Reading PyTorch files of unknown origin.

`torch.load(weights_only=True)` runs no code, but a file determines how much memory it allocates: compressed archives,
byte arrays of any length, tensors that repeat one element. These are rejected.
"""

from __future__ import annotations

import io
import os
import pickletools
import re
import zipfile
from typing import Any

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.untrusted import open_regular

_ALLOWED = re.compile(r"torch\._utils _rebuild_tensor_v2|collections OrderedDict|torch [A-Z][A-Za-z0-9]+Storage")
_MAX_PICKLE_BYTES = 2**23  # names, shapes and other metadata take 0.1 MB for 200 tensors


def read_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a training state without unpickling classes; raise InputError if the file is something else."""
    import torch

    try:
        with open_regular(path) as stream:
            _check_archive(stream)
            stream.seek(0)
            state = torch.load(stream, map_location="cpu", weights_only=True)
        _check_tensors(state)
    except Exception as error:  # torch raises many kinds, without advice
        raise InputError(f"{path}: not a readable training state; delete it to continue from an earlier one") from error
    if not isinstance(state, dict) or type(state.get("step")) is not int:
        raise InputError(f"{path}: not a training state; delete it to continue from an earlier one")
    return state


def _check_archive(stream: io.BufferedReader) -> None:
    """Raise ValueError unless a file is an archive of `torch.save` with uncompressed tensors and plain values."""
    archive = zipfile.ZipFile(stream)
    members = archive.infolist()
    if any(info.compress_type != zipfile.ZIP_STORED for info in members):
        raise ValueError("it is compressed")
    if sum(info.file_size for info in members) > os.fstat(stream.fileno()).st_size:
        raise ValueError("it claims more bytes than it has")
    pickles = [info for info in members if info.filename.endswith(".pkl")]
    if len(pickles) != 1 or pickles[0].file_size > _MAX_PICKLE_BYTES:
        raise ValueError("it has no list of its tensors, or a very long one")
    for opcode, argument, _ in pickletools.genops(archive.read(pickles[0])):
        if opcode.name == "GLOBAL" and not _ALLOWED.fullmatch(str(argument)):  # torch reads names by this opcode only
            raise ValueError(f"it imports {argument}")


def _check_tensors(value: Any) -> None:
    """Raise ValueError if a tensor has more elements than are stored."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            _check_tensors(part)
    elif hasattr(value, "untyped_storage"):
        if value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise ValueError("a tensor repeats its elements")
