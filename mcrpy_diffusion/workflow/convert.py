"""Structures in .npy files -> the formats of viewers and solvers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.files import make_folder, write_if_absent
from mcrpy_diffusion.io.npy_files import load_npy
from mcrpy_diffusion.io.provenance import read_provenance
from mcrpy_diffusion.io.structure_files import SUFFIXES, contents
from mcrpy_diffusion.io.untrusted import reject_symlinks
from mcrpy_diffusion.runtime.progress import Progress
from mcrpy_diffusion.settings import PixelSize


def convert(
    paths: Sequence[str | os.PathLike[str]],
    formats: Sequence[str],
    *,
    output: str | os.PathLike[str] | None = None,
    pixel_size: PixelSize | None = None,
) -> tuple[int, int]:
    """Write structures in other formats; files that exist with the same content are left as they are.

    Parameters
    ----------
    paths : sequence of paths
        .npy files of structures (I, J) or (I, J, K), and folders of them (or data sets).
    formats : sequence of str
        Of `settings.FORMATS`.
    output : path, optional
        Folder of the files; by default each is written beside its .npy file.
    pixel_size : PixelSize, optional
        By default that of the model or data set, where it is recorded beside the structures.

    Returns
    -------
    (int, int)
        The numbers of structures, and of those for which a file was written.

    Raises
    ------
    InputError
        If there is no structure, one cannot be read or does not fit a format, or a file with other content exists.
    """
    files = [file for path in paths for file in npy_files(Path(path))]
    n_written = 0
    with Progress(len(files), "converting") as bar:
        for file in files:
            structure = load_npy(file)
            size = pixel_size or recorded_pixel_size(file.parent)
            metres = None if size is None else size.metres
            folder = file.parent if output is None else make_folder(output)
            targets = [folder / f"{file.stem}{SUFFIXES[name]}" for name in formats]
            written = [
                write_if_absent(each, write)
                for target in targets
                for each, write in contents(target, structure, pixel_size=metres).items()
            ]
            n_written += any(written)
            bar.update()
    return len(files), n_written


def npy_files(path: Path) -> Iterator[Path]:
    """Yield a file, or the .npy files of a folder or of its subfolder `samples` by number and name."""
    if not path.is_dir():
        if path.suffix != ".npy":
            raise InputError(f"{str(path)!r} must be a .npy file or a folder of such files")
        yield path
        return
    is_dataset = (path / "dataset.json").exists()
    found = [*(path / "samples" if is_dataset else path).glob("*.npy")]
    if not found:
        raise InputError(f"{str(path)!r} must hold structures (.npy), got none")
    if is_dataset:  # it may come from a stranger
        reject_symlinks(path / "samples", *found)
    yield from sorted(found, key=lambda each: (len(each.name), each.name))


def recorded_pixel_size(folder: Path) -> PixelSize | None:
    """Return the pixel size that the records of a folder hold, if they agree."""
    is_dataset = folder.name == "samples"
    records = [folder.parent / "dataset.json"] if is_dataset else [*folder.glob("*sampling*.json")]
    found = [read_provenance(record) for record in records if record.is_file()]
    sizes = [record["pixel_size"] for record in found if "pixel_size" in record]
    if not sizes or any(size != sizes[0] for size in sizes):
        return None
    return PixelSize.from_dict(sizes[0])
