"""Draw the first structures of a benchmark, a row for each method, not chosen.

    python benchmarks/benchmark_picture.py DIR --methods s2_lbfgsb gram diffusion_fast --out docs/copolymer.png

DIR is the folder that `mcrpy_diffusion benchmark --out DIR` wrote.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

GREY, GAP, SCALE = 128, 6, 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the picture and print its path."""
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--methods", nargs="+", required=True, metavar="NAME", help="from above")
    parser.add_argument("--n_shown", type=int, default=8, metavar="N", help="of each (8)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    rows = [first_structures(options.folder / name, options.n_shown) for name in options.methods]
    Image.fromarray(tiled(rows)).save(options.out, optimize=True)
    print(options.out)


def first_structures(folder: Path, n: int) -> np.ndarray:
    """The structures of the n smallest seeds, (n, I, J)."""
    files = sorted(folder.glob("*.npy"), key=lambda file: int(file.stem))[:n]
    if not files:
        raise SystemExit(f"{folder}: no structures; give methods that the benchmark made")
    return np.stack([np.load(file, allow_pickle=False) for file in files])


def tiled(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Grey values 0 (phase 0) to 255 (the last phase) of rows of structures, with a grey gap around each."""
    last = max(max(int(row.max()) for row in rows), 1)
    rows = [np.kron(255 * row.astype(int) // last, np.ones((1, SCALE, SCALE), int)).astype(np.uint8) for row in rows]
    n, (height, width) = max(map(len, rows)), rows[0].shape[1:]
    sheet = np.full((len(rows) * (height + GAP) + GAP, n * (width + GAP) + GAP), GREY, np.uint8)
    for i, row in enumerate(rows):
        for j, image in enumerate(row):
            top, left = GAP + i * (height + GAP), GAP + j * (width + GAP)
            sheet[top : top + height, left : left + width] = image
    return sheet


if __name__ == "__main__":
    main()
