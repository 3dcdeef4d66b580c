"""A dataset on disk: a folder of structures that grows sample by sample and survives being stopped at any moment.

```
samples/000000.npy ...   the accepted structures (I, J)
dataset.json             recipe, settings, versions, hashes of the references, whether it is complete
samples.jsonl            one line per tried seed: index or null, seed, accepted, reason, and what was measured
.lock                    held by the process that writes
```
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, final

import numpy as np

from mcrpy_diffusion.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

FORMAT = 1
ACCEPTED = "accepted"


@final
class Dataset:
    """A folder of accepted structures and the record of every seed that was tried.

    Made by `create_or_resume`, which locks the folder for writing until `close` (or the end of the process, however
    it ends), or by `open`, which only reads.
    """

    def __init__(self, folder: Path, info: dict[str, Any], lines: list[dict[str, Any]], lock: IO[bytes] | None) -> None:
        self.folder = folder
        self.info = info
        self._lines = lines
        self._seeds = {line["seed"] for line in lines}
        self._indices = {line["index"] for line in lines if line["accepted"]}
        self._next_index = 0
        self._lock = lock
        self._log: IO[bytes] | None = None

    # --- opening -----------------------------------------------------------------------------------------------

    @classmethod
    def create_or_resume(
        cls,
        folder: str | os.PathLike[str],
        recipe: Mapping[str, Any],
        *,
        settings: Mapping[str, Any] | None = None,
        versions: Mapping[str, Any] | None = None,
        reference_sha256: Sequence[str] = (),
    ) -> Dataset:
        """Make the folder, or go on with what is there, and lock it for writing.

        Parameters
        ----------
        folder : path
            The dataset's folder; it is made if it is missing.
        recipe : mapping
            All that decides what the samples are. A folder made by another recipe is refused.
        settings, versions : mapping, optional
            Written down for the record, not compared.
        reference_sha256 : sequence of str
            Hashes of the micrographs or descriptors; compared as a part of the recipe.

        Raises
        ------
        InputError
            If the folder holds samples of another recipe (each key that differs is named), is in use by another
            process, is damaged beyond repair, or cannot be written.
        """
        root = Path(folder)
        try:
            (root / "samples").mkdir(parents=True, exist_ok=True)
            lock = _lock(root)
        except OSError as error:
            raise InputError(
                f"{os.fspath(folder)!r} cannot be written ({error.strerror}); give another folder"
            ) from error
        try:
            now = {
                "format": FORMAT,
                "complete": False,
                "recipe": _plain(recipe),
                "reference_sha256": list(reference_sha256),
                "settings": _plain(settings or {}),
                "versions": _plain(versions or {}),
            }
            info = _resume(root, now) if (root / "dataset.json").exists() else _create(root, now)
            lines = _repair(root)
            if info["complete"] and len(lines) != info.get("n_tried"):
                info["complete"] = False
                _write_info(root, info)
            return cls(root, info, lines, lock)
        except BaseException:
            lock.close()
            raise

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Dataset:
        """Open a dataset for reading; another process may be writing it.

        Raises
        ------
        InputError
            If the folder is no dataset, or one of its samples is missing.
        """
        root = Path(folder)
        lines, _ = _read_lines(root)
        dataset = cls(root, _read_info(root), lines, None)
        for index in dataset.accepted:
            if not _sample(root, index).is_file():
                raise InputError(f"{str(_sample(root, index))!r} is missing; run the generation again to make it anew")
        return dataset

    def close(self) -> None:
        """Give the folder free for other processes."""
        for stream in (self._log, self._lock):
            if stream is not None:
                stream.close()
        self._log = self._lock = None

    def __enter__(self) -> Dataset:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- what is there -----------------------------------------------------------------------------------------

    @property
    def n_accepted(self) -> int:
        """Number of accepted samples."""
        return len(self._indices)

    @property
    def accepted(self) -> list[int]:
        """Indices of the accepted samples, in order."""
        return sorted(self._indices)

    @property
    def tried(self) -> set[int]:
        """Every seed that has been tried."""
        return set(self._seeds)

    @property
    def samples(self) -> list[dict[str, Any]]:
        """The lines of samples.jsonl, in the order they were tried."""
        return [dict(line) for line in self._lines]

    @property
    def is_complete(self) -> bool:
        """Whether `finish` was called."""
        return bool(self.info["complete"])

    def counts(self) -> dict[str, int]:
        """Return how many seeds were accepted, and refused for each reason."""
        return dict(Counter(line["reason"] for line in self._lines))

    def load(self) -> np.ndarray:
        """Return all accepted samples (N, I, J), in the order of their indices.

        Raises
        ------
        InputError
            If there is none, or one cannot be read.
        """
        if not self._indices:
            raise InputError(f"{str(self.folder)!r} holds no accepted sample; generate some first")
        first, *rest = (_sample(self.folder, index) for index in self.accepted)
        structure = _load_sample(first)
        structures = np.empty((len(rest) + 1, *structure.shape), dtype=structure.dtype)
        structures[0] = structure
        for n, path in enumerate(rest, start=1):
            structure = _load_sample(path)
            if structure.shape != structures.shape[1:] or structure.dtype != structures.dtype:
                raise InputError(f"{str(path)!r} is {structure.dtype} {structure.shape}, unlike {first.name}")
            structures[n] = structure
        return structures

    # --- growing -----------------------------------------------------------------------------------------------

    def append(self, seed: int, phases: np.ndarray | None, *, reason: str = ACCEPTED, **facts: Any) -> int | None:
        """Record one tried seed, and its structure if it was accepted.

        Parameters
        ----------
        seed : int
            The seed, not tried before.
        phases : (I, J), or None if it was refused
        reason : str
            Why it was refused.
        **facts
            What was measured (`volume_fraction`, `discrepancies`, ...), as JSON can hold it.

        Returns
        -------
        int or None
            The index of the sample, None if it was refused.
        """
        if self._lock is None:
            raise ValueError("the dataset was opened for reading, or closed; use create_or_resume to write")
        if seed in self._seeds:
            raise ValueError(f"seed {seed} was tried before; allowed are new ones")
        if (phases is None) == (reason == ACCEPTED):
            raise ValueError(f"reason is {reason!r}; allowed is {ACCEPTED!r} with phases, another one without")
        if self.is_complete:
            raise ValueError("the dataset is finished; no sample can be added")
        index = None if phases is None else self._free_index()
        line = _plain({"index": index, "seed": seed, "accepted": index is not None, "reason": reason, **facts})
        if phases is not None and index is not None:
            structure = phases
            _replace(_sample(self.folder, index), lambda stream: np.save(stream, structure, allow_pickle=False))
        if self._log is None:
            self._log = (self.folder / "samples.jsonl").open("ab")
        self._log.write(json.dumps(line).encode() + b"\n")
        self._log.flush()  # after the sample itself: a line is never there without its file
        self._lines.append(line)
        self._seeds.add(seed)
        if index is not None:
            self._indices.add(index)
        return index

    def finish(self) -> None:
        """Mark the dataset as complete."""
        if self._lock is None:
            raise ValueError("the dataset was opened for reading, or closed; use create_or_resume to write")
        self.info = {**self.info, "complete": True, "n_accepted": self.n_accepted, "n_tried": len(self._lines)}
        _write_info(self.folder, self.info)

    def _free_index(self) -> int:
        """Return the first index without a sample: after a repair there can be gaps."""
        while self._next_index in self._indices:
            self._next_index += 1
        return self._next_index


def _sample(root: Path, index: int) -> Path:
    return root / "samples" / f"{index:06d}.npy"


def _load_sample(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{str(path)!r} is no valid sample; run the generation again to make it anew") from error


def _plain(values: Any) -> Any:
    """Return what JSON makes of the values (tuples become lists), numpy's numbers included."""

    def convert(value: Any) -> Any:
        if isinstance(value, (np.generic, np.ndarray)):
            return value.tolist()
        raise TypeError(f"{type(value).__name__} cannot be written as JSON")

    return json.loads(json.dumps(values if not isinstance(values, Mapping) else dict(values), default=convert))


def _replace(path: Path, write: Any) -> None:
    """Write a file under a temporary name and rename it: it is there whole, or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as stream:
        write(stream)
    os.replace(temporary, path)


def _write_info(root: Path, info: dict[str, Any]) -> None:
    _replace(root / "dataset.json", lambda stream: stream.write(json.dumps(info, indent=1).encode()))


def _read_info(root: Path) -> dict[str, Any]:
    try:
        info = json.loads((root / "dataset.json").read_bytes())
        if info["format"] == FORMAT and isinstance(info["recipe"], dict) and isinstance(info["complete"], bool):
            return info
        problem = f"has the format {info['format']!r}, allowed is {FORMAT}"
    except FileNotFoundError:
        problem = "does not exist; allowed is a dataset's folder"
    except NotADirectoryError:
        problem = "does not exist, because the folder is a file"
    except (ValueError, KeyError, TypeError):
        problem = "is no valid record of a dataset; give another folder"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    raise InputError(f"{str(root / 'dataset.json')!r} {problem}")


def _read_lines(root: Path) -> tuple[list[dict[str, Any]], bool]:
    """Return the lines of samples.jsonl and whether the last one is whole."""
    path = root / "samples.jsonl"
    raw = path.read_bytes() if path.exists() else b""
    *whole, torn = raw.split(b"\n")
    try:
        lines = [json.loads(line) for line in whole]
        if all(isinstance(line["seed"], int) and line["accepted"] == (line["index"] is not None) for line in lines):
            return lines, not torn
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{str(path)!r} is damaged; give another folder, or delete this one")


def _repair(root: Path) -> list[dict[str, Any]]:
    """Bring the folder of a killed process in order: no torn line, no line without its sample, no leftover file."""
    for leftover in [*root.glob("*.tmp"), *root.glob("samples/*.tmp")]:
        leftover.unlink()
    lines, whole = _read_lines(root)
    kept = [line for line in lines if not line["accepted"] or _is_sample(_sample(root, line["index"]))]
    if len(kept) < len(lines):
        logger.warning("%d samples of %s are missing or damaged and are made anew", len(lines) - len(kept), root)
    if len(kept) < len(lines) or not whole:
        text = "".join(json.dumps(line) + "\n" for line in kept)
        _replace(root / "samples.jsonl", lambda stream: stream.write(text.encode()))
    recorded = {_sample(root, line["index"]) for line in kept if line["accepted"]}
    for unrecorded in set(root.glob("samples/*.npy")) - recorded:  # written, but the process was killed before its line
        unrecorded.unlink()
    return kept


def _is_sample(path: Path) -> bool:
    """Whether a whole array lies there (by its header and its size; the values are not read)."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False).size > 0
    except (OSError, ValueError, EOFError):
        return False


def _create(root: Path, info: dict[str, Any]) -> dict[str, Any]:
    if (root / "samples.jsonl").exists() or any(root.glob("samples/*.npy")):
        raise InputError(f"{str(root)!r} holds samples but no dataset.json; give another folder")
    _write_info(root, info)
    return info


def _resume(root: Path, now: dict[str, Any]) -> dict[str, Any]:
    info = _read_info(root)
    _check_same(root, info, now)
    return info


def _check_same(root: Path, there: dict[str, Any], now: dict[str, Any]) -> None:
    before = {**_flat(there["recipe"]), "reference_sha256": there.get("reference_sha256", [])}
    after = {**_flat(now["recipe"]), "reference_sha256": now["reference_sha256"]}
    missing = "absent"
    differing = [
        f"{key} was {before.get(key, missing)!r} and is now {after.get(key, missing)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key, missing) != after.get(key, missing)
    ]
    if differing:
        advice = "give another folder, or delete this one to start anew"
        raise InputError(f"{str(root)!r} holds samples made differently: {'; '.join(differing)}; {advice}")


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat


def _lock(root: Path) -> IO[bytes]:
    """Take the folder's lock; the system gives it back when the process ends, however it ends."""
    stream = (root / ".lock").open("a+b")
    try:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            import msvcrt

            stream.seek(2**30)  # far behind the process number, which others must be able to read
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except (BlockingIOError, PermissionError):
        stream.seek(0)
        owner = stream.read(20).decode(errors="replace").strip() or "unknown"
        stream.close()
        advice = "wait for it, stop it, or give another folder"
        raise InputError(f"{str(root)!r} is being written by another process (number {owner}); {advice}") from None
    except OSError as error:  # some network file systems have no locks
        logger.warning("%s cannot be locked (%s): do not write it from two processes at once", root, error.strerror)
    stream.truncate(0)
    stream.write(f"{os.getpid()}\n".encode())
    stream.flush()
    return stream
