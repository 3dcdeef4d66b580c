"""A dataset on disk: a folder of structures that grows sample by sample and survives being stopped at any moment.

```
samples/000000.npy ...   the accepted structures (I, J)
dataset.json             recipe, settings, versions, hashes of the references, whether it is complete
samples.jsonl            one line per tried seed: index or null, seed, accepted, reason, hash, and what was measured
<map>/000000.npy ...     further arrays of the same samples, such as the map of grains
images_<digest>.npy      all samples in one file (N, I, J), made for training, made anew when samples.jsonl changed
.lock                    held by the process that writes
```
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from types import TracebackType
from typing import IO, Any, final

import numpy as np

from mcrpy_diffusion.data.micrograph import hash_phases
from mcrpy_diffusion.data.npy_files import load_npy
from mcrpy_diffusion.data.untrusted import open_regular, parse_json, read_bytes, read_json, refuse_ways_out
from mcrpy_diffusion.errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

FORMAT = 1
ACCEPTED = "accepted"
IN_MEMORY_BYTES = 2**27  # larger sets are read from one packed file, image by image
_OWN_FILES = {"dataset.json", "samples.jsonl", ".lock"}
_PACKED = re.compile(r"images_[0-9a-f]{16}\.npy")
_SAMPLE = re.compile(r"\d{6,}\.npy")
_LEFTOVER = re.compile(r"(dataset\.json|samples\.jsonl|\d{6,}\.npy|images_\w+)\.tmp")
_MAX_LISTED = 5  # problems that a message names
_MAX_LINES_BYTES = 2**30  # of samples.jsonl
_MAX_INDEX = 10**9


@final
class Dataset:
    """A folder of accepted structures and the record of every seed that was tried.

    Made by `create_or_resume`, which locks the folder for writing until `close` (or the end of the process, however
    it ends), or by `open`, which only reads.
    """

    def __init__(self, folder: Path, info: dict[str, Any], lines: list[bytes], lock: IO[bytes] | None) -> None:
        self.folder = folder
        self.info = info
        self._lines = lines  # as they are written: parsed, 100,000 of them are large
        self._seeds: set[int] = set()
        self._indices: dict[int, int] = {}  # to the number of the line
        self._counts: Counter[str] = Counter()
        for number, line in enumerate(lines):
            self._note(json.loads(line), number)
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
        seeds: str = "",
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
        seeds : str
            The rule by which samples have their seeds; compared too.

        Raises
        ------
        InputError
            If the folder holds samples of another recipe (each key that differs is named), is in use by another
            process, is damaged beyond repair, or cannot be written.
        """
        root = Path(folder)
        _check_place(root)
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
                "seeds": seeds,
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
        _check_place(root)
        info = _read_info(root)
        lines, _ = _read_lines(root)
        dataset = cls(root, info, lines, None)
        for index in dataset.accepted:
            refuse_ways_out(_sample(root, index))
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
    def n_tried(self) -> int:
        """Number of seeds that have been tried."""
        return len(self._lines)

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
        return [json.loads(line) for line in self._lines]

    @property
    def is_complete(self) -> bool:
        """Whether `finish` was called."""
        return bool(self.info["complete"])

    def counts(self) -> dict[str, int]:
        """Return how many seeds were accepted, and refused for each reason."""
        return dict(self._counts)

    def sample(self, index: int) -> np.ndarray:
        """Return one accepted sample (I, J).

        Raises
        ------
        InputError
            If it cannot be read.
        """
        return _load_sample(_sample(self.folder, index))

    def load(self) -> np.ndarray:
        """Return all accepted samples (N, I, J), in the order of their indices.

        Raises
        ------
        InputError
            If there is none, or one cannot be read.
        """
        first = self._first()
        structures = np.empty((self.n_accepted, *first.shape), dtype=first.dtype)
        for n, index in enumerate(self.accepted):
            structures[n] = self._alike(index, first)
        return structures

    def images(self) -> np.ndarray | PackedImages:
        """Return all accepted samples (N, I, J), in the order of their indices, for training.

        Large sets are packed into one file of the folder once, and images are read from it as they are asked for: the
        memory does not grow with the set.

        Returns
        -------
        numpy.ndarray, or PackedImages above `IN_MEMORY_BYTES`
            Both have `shape`, `dtype`, a length, and rows by an integer, a slice or an array of integers.

        Raises
        ------
        InputError
            If there is none, one cannot be read or is not what samples.jsonl says, or the packed file cannot be
            written.
        """
        first = self._first()
        if self.n_accepted * first.nbytes <= IN_MEMORY_BYTES:
            return self.load()
        digest = hashlib.sha256(b"\n".join(self._lines[self._indices[index]] for index in self.accepted)).hexdigest()
        path = self.folder / f"images_{digest[:16]}.npy"
        if not path.exists():
            try:
                self._pack(path, first)
            except OSError as error:
                raise InputError(
                    f"{str(path)!r} cannot be written ({error.strerror}); put the data set where there is room for it"
                ) from error
        packed = PackedImages(path)
        if packed.shape != (self.n_accepted, *first.shape) or packed.dtype != first.dtype:
            raise InputError(f"{str(path)!r} holds other images than samples.jsonl says; delete it, it is made anew")
        return packed

    def _first(self) -> np.ndarray:
        if not self._indices:
            raise InputError(f"{str(self.folder)!r} holds no accepted sample; generate some first")
        return self.sample(min(self._indices))

    def _alike(self, index: int, first: np.ndarray) -> np.ndarray:
        structure = self.sample(index)
        if structure.shape != first.shape or structure.dtype != first.dtype:
            path, name = _sample(self.folder, index), _sample(self.folder, min(self._indices)).name
            raise InputError(f"{str(path)!r} is {structure.dtype} {structure.shape}, unlike {name}")
        return structure

    def _pack(self, path: Path, first: np.ndarray) -> None:
        """Write all samples into one file, which is there whole or not at all, and remove older ones."""
        header = {"descr": first.dtype.str, "fortran_order": False, "shape": (self.n_accepted, *first.shape)}
        handle, temporary = tempfile.mkstemp(prefix="images_", suffix=".tmp", dir=self.folder)
        try:
            with os.fdopen(handle, "wb") as stream:
                np.lib.format.write_array_header_1_0(stream, header)
                for index in self.accepted:
                    structure = self._alike(index, first)
                    expected = json.loads(self._lines[self._indices[index]]).get("sha256")
                    if expected not in (None, hash_phases(structure)):
                        raise InputError(
                            f"{str(_sample(self.folder, index))!r} is not what samples.jsonl says; delete it and run "
                            "the generation again to make it anew"
                        )
                    stream.write(structure.tobytes())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        for old in self.folder.glob("images_*.npy"):
            if old != path:
                old.unlink(missing_ok=True)

    # --- growing -----------------------------------------------------------------------------------------------

    def append(
        self,
        seed: int,
        phases: np.ndarray | None,
        *,
        index: int | None = None,
        reason: str = ACCEPTED,
        maps: Mapping[str, np.ndarray] | None = None,
        **facts: Any,
    ) -> int | None:
        """Record one tried seed, and its structure if it was accepted.

        Parameters
        ----------
        seed : int
            The seed, not tried before.
        phases : (I, J), or None if it was refused
        index : int, optional
            The number that an accepted sample gets; the first free one if it is not given.
        reason : str
            Why it was refused.
        maps : mapping of str to arrays, optional
            Further arrays of an accepted sample, each written to a folder of that name.
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
        if index is not None and (phases is None or index in self._indices):
            raise ValueError(f"index is {index!r}; allowed is one without a sample, and only with phases")
        if index is None and phases is not None:
            index = self._free_index()
        record = {"index": index, "seed": seed, "accepted": phases is not None, "reason": reason, **facts}
        if phases is not None and index is not None:
            record["sha256"] = hash_phases(phases)
            if maps:
                record["maps"] = {name: hash_phases(values) for name, values in maps.items()}
        line = _plain(record)  # before anything is written: it may not be possible
        if phases is not None and index is not None:
            for name, values in (maps or {}).items():
                _save(_sample(self.folder, index, _checked_name(name)), values)
            _save(_sample(self.folder, index), phases)
        raw = json.dumps(line).encode()
        if self._log is None:
            self._log = (self.folder / "samples.jsonl").open("ab")
        self._log.write(raw + b"\n")
        self._log.flush()  # after the sample itself: a line is never there without its file
        self._lines.append(raw)
        self._note(line, len(self._lines) - 1)
        return index

    def _note(self, line: dict[str, Any], number: int) -> None:
        self._seeds.add(line["seed"])
        self._counts[line["reason"]] += 1
        if line["accepted"]:
            self._indices[line["index"]] = number

    def finish(self) -> None:
        """Mark the dataset as complete."""
        if self._lock is None:
            raise ValueError("the dataset was opened for reading, or closed; use create_or_resume to write")
        rejected = {reason: n for reason, n in self.counts().items() if reason != ACCEPTED}
        counts = {"n_accepted": self.n_accepted, "n_tried": self.n_tried, "rejected": rejected}
        self.info = {**self.info, "complete": True, **counts}
        _write_info(self.folder, self.info)

    def _free_index(self) -> int:
        """Return the first index without a sample: after a repair there can be gaps."""
        while self._next_index in self._indices:
            self._next_index += 1
        return self._next_index


@final
class PackedImages:
    """Images (N, I, J) in one .npy file, read as they are asked for: none stays in memory.

    Parameters
    ----------
    path : path
        As `Dataset.images` writes it.

    Attributes
    ----------
    shape : (int, int, int)
    dtype : numpy.dtype

    Raises
    ------
    InputError
        If the file is not whole.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        refuse_ways_out(self._path)
        self._stream = open_regular(self._path, buffering=0)
        try:
            np.lib.format.read_magic(self._stream)
            shape, _, self.dtype = np.lib.format.read_array_header_1_0(self._stream)
            self._start = self._stream.tell()
            self._n_bytes = prod(shape[1:]) * self.dtype.itemsize
            whole = os.fstat(self._stream.fileno()).st_size == self._start + shape[0] * self._n_bytes
            whole = whole and len(shape) == 3 and self.dtype.kind in "biuf"
        except (ValueError, IndexError, TypeError):
            whole = False
        if not whole:
            self._stream.close()
            raise InputError(f"{str(path)!r} is damaged; delete it, it is made anew")
        self.shape: tuple[int, ...] = shape

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Return one image (I, J) of an integer, else the images (n, I, J) of a slice or an array (n,) of integers."""
        chosen = np.arange(len(self))[rows]
        raw = np.empty((chosen.size, self._n_bytes), dtype=np.uint8)
        for image, row in zip(raw, chosen.ravel().tolist()):
            self._read(memoryview(image), self._start + row * self._n_bytes)
        return raw.view(self.dtype).reshape(*chosen.shape, *self.shape[1:])

    def _read(self, left: memoryview, offset: int) -> None:
        while len(left):
            n = os.preadv(self._stream.fileno(), [left], offset)
            if n == 0:
                raise InputError(f"{str(self._path)!r} has become shorter; start again")
            left, offset = left[n:], offset + n

    def __reduce__(self) -> tuple[type[PackedImages], tuple[Path]]:
        return PackedImages, (self._path,)


def verify(folder: str | os.PathLike[str]) -> Dataset:
    """Check that a dataset is complete and is what its record says.

    Returns
    -------
    Dataset
        The dataset, opened for reading.

    Raises
    ------
    InputError
        Naming what is wrong, in one line: a sample that is missing, changed or in no line of samples.jsonl, a file
        that does not belong there, a record that contradicts itself; or that another process is writing.
    """
    root = Path(folder)
    _check_place(root)
    info = _read_info(root)
    with _shared_lock(root):
        lines, whole = _read_lines(root)
        dataset = Dataset(root, info, lines, None)
        problems = [] if whole else ["the last line of samples.jsonl is torn"]
        problems += _contradictions(dataset)
        problems += [problem for line in dataset.samples if line["accepted"] for problem in _changed(root, line)]
        problems += [f"{name} does not belong there" for name in _strangers(dataset)]
    if problems:
        more = f", and {len(problems) - _MAX_LISTED} more" if len(problems) > _MAX_LISTED else ""
        raise InputError(f"{str(root)!r}: {'; '.join(problems[:_MAX_LISTED])}{more}")
    return dataset


def _contradictions(dataset: Dataset) -> list[str]:
    info, problems = dataset.info, []
    for key, kind in (("recipe", dict), ("settings", dict), ("versions", dict), ("reference_sha256", list)):
        if not isinstance(info.get(key), kind):
            problems.append(f"dataset.json has no {key}")
    if not dataset.is_complete:
        problems.append(f"it is not complete: {dataset.n_accepted} samples so far")
    elif (info.get("n_accepted"), info.get("n_tried")) != (dataset.n_accepted, dataset.n_tried):
        problems.append(
            f"dataset.json tells of {info.get('n_accepted')} samples of {info.get('n_tried')} seeds, samples.jsonl of "
            f"{dataset.n_accepted} of {dataset.n_tried}"
        )
    if len(dataset.tried) < dataset.n_tried:
        problems.append("samples.jsonl holds a seed twice")
    if dataset.n_accepted < dataset.counts().get(ACCEPTED, 0):
        problems.append("samples.jsonl holds a sample twice")
    return problems


def _changed(root: Path, line: dict[str, Any]) -> Iterator[str]:
    """Say what is wrong with the files of an accepted sample."""
    hashes = {"samples": line.get("sha256"), **line.get("maps", {})}
    for name, expected in hashes.items():
        path = _sample(root, line["index"], name)
        shown = f"{name}/{path.name}"
        if not path.is_file():
            yield f"{shown} is missing"
            continue
        try:
            values = _load_sample(path)
        except InputError:
            yield f"{shown} is no valid sample"
            continue
        known = line.get("volume_fraction")
        if expected is None and known is not None:  # written before there were hashes
            fractions = known if isinstance(known, list) else [known]
            own = [float(np.mean(values == phase)) for phase in range(1, len(fractions) + 1)]
            if not (all(isinstance(f, (int, float)) for f in fractions) and np.allclose(own, fractions, atol=1e-6)):
                yield f"{shown} has the volume fraction {own}, its line says {known}"
        elif expected not in (None, hash_phases(values)):
            yield f"{shown} was changed"


def _strangers(dataset: Dataset) -> list[str]:
    lines = [line for line in dataset.samples if line["accepted"]]
    own = {
        _sample(dataset.folder, line["index"], name) for line in lines for name in ("samples", *line.get("maps", ()))
    }
    folders = {path.parent for path in own} | {dataset.folder / "samples"}
    strangers = []
    for path in sorted(
        [*dataset.folder.iterdir(), *(file for each in folders if each.is_dir() for file in each.iterdir())]
    ):
        at_top = path.parent == dataset.folder
        known = path.name in _OWN_FILES or _PACKED.fullmatch(path.name) or path.suffix == ".log" or path in folders
        if not (known if at_top else path in own):
            strangers.append(path.relative_to(dataset.folder).as_posix())
    return strangers


@contextlib.contextmanager
def _shared_lock(root: Path) -> Iterator[None]:
    """Refuse a folder that is being written, and keep others from writing meanwhile, where there are locks."""
    try:
        stream = (root / ".lock").open("rb")
    except OSError:  # no one has ever locked it, or may
        yield
        return
    with stream:
        if fcntl is not None:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _in_use(root, stream) from None
            except OSError:
                pass
        yield


def _sample(root: Path, index: int, name: str = "samples") -> Path:
    return root / name / f"{index:06d}.npy"


def _is_map_name(name: str) -> bool:
    return name.isidentifier() and name != "samples"


def _checked_name(name: str) -> str:
    if not _is_map_name(name):
        raise ValueError(f"a map is called {name!r}; allowed is an identifier other than samples")
    return name


def _save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    _replace(path, lambda stream: np.save(stream, values, allow_pickle=False))


def _load_sample(path: Path) -> np.ndarray:
    def check(shape: tuple[int, ...], _: np.dtype) -> None:
        if len(shape) != 2 or 0 in shape:
            raise InputError(f"it has the shape {shape}, allowed is (I, J)")

    refuse_ways_out(path)
    try:
        return load_npy(path, check=check)
    except InputError as error:
        reason = str(error).removeprefix(repr(str(path))).strip()
        raise InputError(
            f"{str(path)!r} is no valid sample ({reason}); run the generation again to make it anew"
        ) from error


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
        info = read_json(root / "dataset.json")
        if info["format"] == FORMAT and isinstance(info["recipe"], dict) and isinstance(info["complete"], bool):
            return info
        problem = f"has the format {info['format']!r}, allowed is {FORMAT}"
    except FileNotFoundError:
        problem = "does not exist; allowed is a dataset's folder"
    except NotADirectoryError:
        problem = "does not exist, because the folder is a file"
    except InputError:
        raise
    except (ValueError, KeyError, TypeError):
        problem = "is no valid record of a dataset; give another folder"
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    raise InputError(f"{str(root / 'dataset.json')!r} {problem}")


def _read_lines(root: Path) -> tuple[list[bytes], bool]:
    """Return the lines of samples.jsonl, each checked, and whether the last one is whole."""
    path = root / "samples.jsonl"
    raw = read_bytes(path, at_most=_MAX_LINES_BYTES) if path.exists() else b""
    *whole, torn = raw.split(b"\n")
    try:
        if all(_is_line(parse_json(line)) for line in whole):
            return whole, not torn
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError(f"{str(path)!r} is damaged; give another folder, or delete this one")


def _is_line(line: dict[str, Any]) -> bool:
    """Whether a line of samples.jsonl has what is asked of it later; index and maps name files."""
    index, accepted, maps = line["index"], line["accepted"], line.get("maps", {})
    return (
        type(line["seed"]) is int
        and isinstance(line["reason"], str)
        and accepted is (index is not None)
        and (index is None or (type(index) is int and 0 <= index < _MAX_INDEX))
        and isinstance(maps, dict)
        and all(_is_map_name(name) for name in maps)
    )


def _check_place(root: Path) -> None:
    """Refuse links at the top of a dataset's folder, through which files outside would be read, changed or deleted."""
    if root.is_dir():
        refuse_ways_out(*sorted(root.iterdir()))


def _repair(root: Path) -> list[bytes]:
    """Bring the folder of a killed process in order: no torn line, no line without its sample, no leftover file."""
    for leftover in [*root.glob("*.tmp"), *root.glob("*/*.tmp")]:
        if _LEFTOVER.fullmatch(leftover.name):
            leftover.unlink()
    lines, whole = _read_lines(root)
    kept, recorded = [], set()
    for raw in lines:
        line = json.loads(raw)
        if line["accepted"]:
            files = [_sample(root, line["index"], name) for name in ("samples", *line.get("maps", ()))]
            if not all(_is_sample(file) for file in files):
                continue
            recorded.add(files[0])
        kept.append(raw)
    if len(kept) < len(lines):
        logger.warning("%d samples of %s are missing or damaged and are made anew", len(lines) - len(kept), root)
    if len(kept) < len(lines) or not whole:
        _replace(root / "samples.jsonl", lambda stream: stream.write(b"".join(line + b"\n" for line in kept)))
    for unrecorded in set(root.glob("samples/*.npy")) - recorded:  # written, but the process was killed before its line
        if _SAMPLE.fullmatch(unrecorded.name):
            unrecorded.unlink()
    return kept


def _is_sample(path: Path) -> bool:
    """Whether a whole array lies there (by its header and its size; the values are not read)."""
    refuse_ways_out(path)
    try:
        return path.is_file() and np.load(path, mmap_mode="r", allow_pickle=False).size > 0
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
    before, after = (
        {**_flat(each["recipe"]), "reference_sha256": each.get("reference_sha256", []), "seeds": each.get("seeds", "")}
        for each in (there, now)
    )
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
        with stream:
            raise _in_use(root, stream) from None
    except OSError as error:  # some network file systems have no locks
        logger.warning("%s cannot be locked (%s): do not write it from two processes at once", root, error.strerror)
    stream.truncate(0)
    stream.write(f"{os.getpid()}\n".encode())
    stream.flush()
    return stream


def _in_use(root: Path, stream: IO[bytes]) -> InputError:
    stream.seek(0)
    owner = stream.read(20).decode(errors="replace").strip() or "unknown"
    advice = "wait for it, stop it, or give another folder"
    return InputError(f"{str(root)!r} is being written by another process (number {owner}); {advice}")
