"""PyTorch's own files, read without trusting them.

`torch.load(weights_only=True)` runs no code, but takes the memory that a file asks for: unpacked archives, storages of
any claimed size, byte arrays. So the archive is looked through before it is loaded.
"""

from __future__ import annotations

import os
import pickletools
import re
import zipfile
from typing import Any

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.untrusted import open_regular

_ALLOWED = re.compile(r"torch\._utils _rebuild_tensor_v2|collections OrderedDict|torch [A-Z][A-Za-z0-9]+Storage")
_MAX_PICKLE_BYTES, _MAX_OPCODES = 2**26, 5_000_000


def read_state(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a training state without unpickling classes.

    Raises
    ------
    InputError
        If the file is no training state.
    """
    import torch

    try:
        _check_archive(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        _check_tensors(state)
    except Exception as error:  # torch raises many kinds; none of them says what to do
        raise InputError(f"{path}: not a readable training state; delete it to go on from an earlier one") from error
    if not isinstance(state, dict) or type(state.get("step")) is not int:
        raise InputError(f"{path}: not a training state; delete it to go on from an earlier one")
    return state


def _check_archive(path: str | os.PathLike[str]) -> None:
    """Raise ValueError where a file is not laid out as `torch.save` does it: nothing packed, tensors and plain values.

    Older layouts than zip archives, which torch.load still reads, are refused too.
    """
    with open_regular(path) as stream, zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        if any(info.compress_type != zipfile.ZIP_STORED for info in members):
            raise ValueError("it is packed")
        if sum(info.file_size for info in members) > os.fstat(stream.fileno()).st_size:
            raise ValueError("it claims more than it holds")
        pickles = [info for info in members if info.filename.endswith(".pkl")]
        if len(pickles) != 1 or pickles[0].file_size > _MAX_PICKLE_BYTES:
            raise ValueError("it holds no description of its tensors, or a very long one")
        for n, (opcode, argument, _) in enumerate(pickletools.genops(archive.read(pickles[0]))):
            if n > _MAX_OPCODES or (opcode.name == "GLOBAL" and not _ALLOWED.fullmatch(str(argument))):
                raise ValueError(f"it asks for {argument}")
            if opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"):
                raise ValueError(f"it uses {opcode.name}")


def _check_tensors(value: Any) -> None:
    """Raise ValueError where a tensor has more elements than are stored."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for part in value:
            _check_tensors(part)
    elif hasattr(value, "untyped_storage"):
        if value.untyped_storage().nbytes() < value.numel() * value.element_size():
            raise ValueError("a tensor repeats its elements")
