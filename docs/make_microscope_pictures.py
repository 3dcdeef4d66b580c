"""Draw the pictures of docs/microscope.md from synthetic images: `python docs/make_microscope_pictures.py`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mcrpy_diffusion import read_micrograph
from mcrpy_diffusion.io.files import write_file
from mcrpy_diffusion.materials.reference_images import level_set, random_field
from mcrpy_diffusion.reports.segmentation import segmentation_png

FOLDER = Path(__file__).parent
ROWS, COLUMNS, BAR = 240, 320, 26


def grey_image(levels: tuple[float, ...], fractions: tuple[float, ...], *, noise: float, seed: int) -> np.ndarray:
    """Return a noisy grey image (I, J) uint8 of a random field: one grey level for each phase."""
    generator = np.random.default_rng(seed)
    field = random_field((ROWS, COLUMNS), length=5.0, exponent=2.0, smoothing=1.5, generator=generator)
    phases = sum(level_set(field, fraction).astype(int) for fraction in np.cumsum(fractions[::-1]))
    values = np.array(levels)[phases] + noise * generator.standard_normal(field.shape)
    return values.clip(0, 255).astype(np.uint8)


def with_bar(values: np.ndarray) -> Image.Image:
    """Add the information bar of a scanning electron microscope."""
    image = Image.fromarray(np.vstack([values, np.zeros((BAR, COLUMNS), np.uint8)]))
    draw = ImageDraw.Draw(image)
    draw.line([(0, ROWS), (COLUMNS, ROWS)], fill=255)
    draw.text((6, ROWS + 6), "5.00 kV   WD 4.1 mm   12.5 nm/pixel", fill=255, font=ImageFont.load_default(12))
    draw.line([(COLUMNS - 90, ROWS + 14), (COLUMNS - 10, ROWS + 14)], fill=255, width=3)  # 80 pixels, 1 micrometre
    return image


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sem.png"
        with_bar(grey_image((60, 165), (0.35,), noise=16, seed=0)).save(path)
        for name, settings in (("with_bar", {}), ("cropped", {"crop": (ROWS, COLUMNS)})):
            draw(path, f"microscope_{name}.png", **settings)
        path = Path(folder) / "three_phases.png"
        Image.fromarray(grey_image((45, 115, 200), (0.3, 0.2), noise=12, seed=1)).save(path)
        draw(path, "microscope_multiotsu.png", segmentation=("multiotsu", "3"))


def draw(path: Path, name: str, **settings: object) -> None:
    """Read an image and write the picture of its segmentation."""
    reading = read_micrograph(path, **settings).reading  # type: ignore[arg-type]
    picture = None if reading is None else segmentation_png([reading], dpi=70)
    if picture is not None:
        write_file(FOLDER / name, picture)


if __name__ == "__main__":
    main()
