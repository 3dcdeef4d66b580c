"""A data set on disk: a folder of structures that grows sample by sample and survives interruptions at any moment.

```
samples/000000.npy ...   accepted structures (I, J)
dataset.json             recipe, settings, versions, hashes of the references, and whether it is complete
samples.jsonl            one line per tried seed: index or null, seed, accepted, reason, hash, and measured quantities
<map>/000000.npy ...     further arrays of the same samples, such as the map of grains
micrographs.npz          the micrographs of crops, for the search for copies at every position
images_<digest>.npy      all samples in one file (N, I, J) for training, written again if samples.jsonl has changed
.lock                    held by the process that writes
```
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, final

import numpy as np
from filelock import FileLock

from mcrpy_diffusion.data.dataset_files import (
    FORMAT,
    check_place,
    is_map_name,
    load_sample,
    plain,
    read_info,
    read_lines,
    repair,
    sample_path,
    save_array,
    write_info,
)
from mcrpy_diffusion.data.dataset_origin import read_origin
from mcrpy_diffusion.data.micrograph import hash_phases
from mcrpy_diffusion.data.packed_images import map_images, write_images
from mcrpy_diffusion.data.split import MicrographSplit
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.locks import lock_folder
from mcrpy_diffusion.io.provenance import check_same
from mcrpy_diffusion.io.untrusted import reject_symlinks

ACCEPTED = "accepted"
IN_MEMORY_BYTES = 2**27  # larger data sets are mapped into memory from one packed file


@final
class Dataset:
    """A folder of accepted structures and the record of all seeds that were tried.

    `create_or_resume` locks the folder for writing until `close` or the end of the process; `open` only reads.
    """

    def __init__(self, folder: Path, info: dict[str, Any], lines: list[bytes], lock: FileLock | None) -> None:
        self.folder = folder
        self.info = info
        self._lines = lines  # unparsed, which needs less memory
        self._seeds: set[int] = set()
        self._indices: dict[int, int] = {}  # index of an accepted sample: number of its line
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
        source: Mapping[str, Any] | None = None,
        seeds: str = "",
    ) -> Dataset:
        """Create the folder or resume an existing data set, and lock it for writing.

        Parameters
        ----------
        folder : path
        recipe : mapping
            Everything that determines the samples. It must equal that of an existing data set.
        settings, versions : mapping, optional
            Recorded, not compared.
        reference_sha256 : sequence of str
            Hashes of the micrographs or descriptors; compared like the recipe.
        source : mapping, optional
            How the micrographs were read (`images`) and their `pixel_size`; recorded, also if a data set is resumed.
        seeds : str
            The rule that assigns seeds to samples; compared like the recipe.

        Raises
        ------
        InputError
            If the folder contains samples of another recipe (each different key is named), is in use by another
            process, is damaged beyond repair, or cannot be written.
        """
        root = Path(folder)
        check_place(root)
        try:
            (root / "samples").mkdir(parents=True, exist_ok=True)
            lock = lock_folder(root)
        except OSError as error:
            raise InputError(
                f"{os.fspath(folder)!r} cannot be written ({error.strerror}); give another folder"
            ) from error
        try:
            now = {
                "format": FORMAT,
                "complete": False,
                "recipe": plain(recipe),
                "reference_sha256": list(reference_sha256),
                "seeds": seeds,
                "settings": plain(settings or {}),
                "versions": plain(versions or {}),
                **plain(source or {}),
            }
            if (root / "dataset.json").exists():
                info = read_info(root)
                _check_same(root, info, now)
                if info | plain(source or {}) != info:
                    info |= plain(source or {})
                    write_info(root, info)
            elif (root / "samples.jsonl").exists() or any(root.glob("samples/*.npy")):
                raise InputError(f"{str(root)!r} contains samples but no dataset.json; give another folder")
            else:
                info = now
                write_info(root, info)
            lines = repair(root)
            if info["complete"] and len(lines) != info.get("n_tried"):
                info["complete"] = False
                write_info(root, info)
            return cls(root, info, lines, lock)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Dataset:
        """Open a data set for reading, also while another process writes it.

        Raises
        ------
        InputError
            If the folder is not a data set, or a sample is missing.
        """
        root = Path(folder)
        check_place(root)
        info = read_info(root)
        lines, _ = read_lines(root)
        dataset = cls(root, info, lines, None)
        for path in (sample_path(root, index) for index in dataset.accepted):
            reject_symlinks(path)
            if not path.is_file():
                raise InputError(f"{str(path)!r} is missing; repeat the generation to make it again")
        return dataset

    def close(self) -> None:
        """Release the lock of the folder."""
        if self._log is not None:
            self._log.close()
        if self._lock is not None:
            self._lock.release()
        self._log = self._lock = None

    def __enter__(self) -> Dataset:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- contents ----------------------------------------------------------------------------------------------

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
        """Seeds that have been tried."""
        return set(self._seeds)

    @property
    def samples(self) -> list[dict[str, Any]]:
        """Lines of samples.jsonl, in the order of the attempts."""
        return [json.loads(line) for line in self._lines]

    @property
    def is_complete(self) -> bool:
        """Whether `finish` was called."""
        return bool(self.info["complete"])

    @property
    def split(self) -> MicrographSplit | None:
        """Training parts and held-out parts of the micrographs of crops; None if they are not stored."""
        return read_origin(self.folder).split

    def counts(self) -> dict[str, int]:
        """Return the number of accepted seeds, and the number of rejected ones for each reason."""
        return dict(self._counts)

    def sample(self, index: int) -> np.ndarray:
        """Return an accepted sample (I, J); raise InputError if it cannot be read."""
        return load_sample(sample_path(self.folder, index))

    def load(self) -> np.ndarray:
        """Return all accepted samples (N, I, J) by index; raise InputError if there is none or one cannot be read."""
        first = self._first()
        structures = np.empty((self.n_accepted, *first.shape), dtype=first.dtype)
        for n, index in enumerate(self.accepted):
            structures[n] = self._checked(index, first)
        return structures

    def images(self) -> np.ndarray:
        """Return all accepted samples (N, I, J) by index for training, large data sets as a read-only memory map.

        Data sets of more than `IN_MEMORY_BYTES` are packed once into a file of the folder.

        Raises
        ------
        InputError
            If there is none, one cannot be read or differs from samples.jsonl, or the packed file cannot be written.
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
                    f"{str(path)!r} cannot be written ({error.strerror}); move the data set to a disk with more space"
                ) from error
        packed = map_images(path)
        if packed.shape != (self.n_accepted, *first.shape) or packed.dtype != first.dtype:
            raise InputError(
                f"{str(path)!r} does not agree with samples.jsonl; delete it, and it will be written again"
            )
        return packed

    def _first(self) -> np.ndarray:
        if not self._indices:
            raise InputError(f"{str(self.folder)!r} contains no accepted sample; generate some first")
        return self.sample(min(self._indices))

    def _checked(self, index: int, first: np.ndarray, *, hashed: bool = False) -> np.ndarray:
        """Return a sample of the shape and type of the first one and, if `hashed`, of the recorded hash."""
        structure, path = self.sample(index), sample_path(self.folder, index)
        if structure.shape != first.shape or structure.dtype != first.dtype:
            name = sample_path(self.folder, min(self._indices)).name
            raise InputError(f"{str(path)!r} is {structure.dtype} {structure.shape}, unlike {name}")
        recorded = json.loads(self._lines[self._indices[index]]).get("sha256") if hashed else None
        if recorded is not None and recorded != hash_phases(structure):
            raise InputError(
                f"{str(path)!r} does not agree with samples.jsonl; delete it and repeat the generation to make it again"
            )
        return structure

    def _pack(self, path: Path, first: np.ndarray) -> None:
        """Write all samples into one file, and delete older ones."""
        images = (self._checked(index, first, hashed=True) for index in self.accepted)
        write_images(path, images, shape=(self.n_accepted, *first.shape), dtype=first.dtype)
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
        """Record a tried seed, and its structure if it was accepted.

        Parameters
        ----------
        seed : int
            A seed that has not been tried.
        phases : (I, J), or None if it was rejected
        index : int, optional
            Index of an accepted sample; by default the first free one.
        reason : str
            Reason for the rejection.
        maps : mapping of str to arrays, optional
            Further arrays of an accepted sample, each written to a folder of that name.
        **facts
            Measured quantities (`volume_fraction`, `discrepancies`, ...) that can be written as JSON.

        Returns
        -------
        int or None
            The index of the sample, None if it was rejected.
        """
        self._require_lock()
        if seed in self._seeds:
            raise ValueError(f"each seed can be tried once, got {seed} again")
        if (phases is None) == (reason == ACCEPTED):
            raise ValueError(f"reason must be {ACCEPTED!r} with phases and another one without, got {reason!r}")
        if self.is_complete:
            raise ValueError("the data set is complete; no sample can be added")
        if index is not None and (phases is None or index in self._indices):
            raise ValueError(f"index must be free, and requires phases, got {index!r}")
        if invalid := [name for name in maps or {} if not is_map_name(name)]:
            raise ValueError(f"the name of a map must be an identifier other than samples, got {invalid[0]!r}")
        if index is None and phases is not None:
            index = self._free_index()
        record = {"index": index, "seed": seed, "accepted": phases is not None, "reason": reason, **facts}
        if phases is not None and index is not None:
            record["sha256"] = hash_phases(phases)
            if maps:
                record["maps"] = {name: hash_phases(values) for name, values in maps.items()}
        line = plain(record)  # raises before anything is written
        if phases is not None and index is not None:
            for name, values in (maps or {}).items():
                save_array(sample_path(self.folder, index, name), values)
            save_array(sample_path(self.folder, index), phases)
        raw = json.dumps(line).encode()
        if self._log is None:
            self._log = (self.folder / "samples.jsonl").open("ab")
        self._log.write(raw + b"\n")
        self._log.flush()  # after the sample: no line exists without its file
        self._lines.append(raw)
        self._note(line, len(self._lines) - 1)
        return index

    def _note(self, line: dict[str, Any], number: int) -> None:
        self._seeds.add(line["seed"])
        self._counts[line["reason"]] += 1
        if line["accepted"]:
            self._indices[line["index"]] = number

    def finish(self) -> None:
        """Mark the data set as complete."""
        self._require_lock()
        rejected = {reason: n for reason, n in self.counts().items() if reason != ACCEPTED}
        counts = {"n_accepted": self.n_accepted, "n_tried": self.n_tried, "rejected": rejected}
        self.info = {**self.info, "complete": True, **counts}
        write_info(self.folder, self.info)

    def _require_lock(self) -> None:
        if self._lock is None:
            raise ValueError("the data set was opened for reading, or closed; use create_or_resume to write")

    def _free_index(self) -> int:
        """Return the first index without a sample; a repair can leave gaps."""
        while self._next_index in self._indices:
            self._next_index += 1
        return self._next_index


def _check_same(root: Path, there: dict[str, Any], now: dict[str, Any]) -> None:
    before, after = (
        {**_flat(each["recipe"]), "reference_sha256": each.get("reference_sha256", []), "seeds": each.get("seeds", "")}
        for each in (there, now)
    )
    absent = dict.fromkeys(before | after, "absent")
    check_same(absent | before, absent | after, root)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested dictionaries as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
