"""Draw a volume in perspective with pyvista: an array (.npy) on standard input -> a PNG on standard output.

A process of its own: what VTK draws with off screen does not always agree with the other libraries that a run has
loaded, and ends the process where it does not.
"""

from __future__ import annotations

import io
import sys
from importlib import import_module
from typing import Any

import numpy as np
from PIL import Image

PIXELS = 700
COLOURS = ("#4c6a85", "#d9d2c3", "#c98b4b", "#7d9b76", "#a56d83")


def view(volume: np.ndarray, n_phases: int) -> bytes:
    """Draw phases (I, J, K): of two phases phase 1, of more all but phase 0; other voxels are empty."""
    pyvista: Any = import_module("pyvista")
    grid = pyvista.ImageData(dimensions=tuple(n + 1 for n in volume.shape))
    grid.cell_data["phase"] = volume.ravel(order="F")
    with pyvista.vtk_verbosity("error"):  # without a display VTK warns, and draws off screen
        plotter = pyvista.Plotter(off_screen=True, window_size=(PIXELS, PIXELS))
        plotter.set_background("white")
        for phase in range(1, max(n_phases, 2)):
            solid = grid.threshold([phase - 0.5, phase + 0.5], scalars="phase")
            if solid.n_cells:
                surface = solid.extract_surface(algorithm="dataset_surface")
                plotter.add_mesh(surface, color=COLOURS[phase % len(COLOURS)], ambient=0.15, scalars=None)
        plotter.add_mesh(grid.outline(), color="black")
        plotter.add_axes(xlabel="x", ylabel="y", zlabel="z")
        plotter.camera_position = "iso"
        pixels = plotter.screenshot(return_img=True)
        plotter.close()
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", optimize=True)
    return stream.getvalue()


if __name__ == "__main__":
    phases = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    sys.stdout.buffer.write(view(phases, int(sys.argv[1])))
