"""`mcrpy_diffusion evaluate` on real micrographs: copies are found, other real structures pass, wrong ones do not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcrpy_diffusion.commands.cli import main

pytestmark = pytest.mark.usefixtures("blank_figures")


def tiles(file: Path) -> np.ndarray:
    """The 64 tiles of 32 x 32 pixels, mixed: they have no pixel in common."""
    phases = np.rint(np.load(file)).astype(np.uint8)
    cut = phases.reshape(8, 32, 8, 32).swapaxes(1, 2).reshape(64, 32, 32)
    return cut[np.random.default_rng(0).permutation(64)]


def evaluated(folder: Path, *options: str, **sets: np.ndarray) -> dict[str, Any]:
    """Run the command on sets of structures; those named original, generated and held_out are its folders."""
    arguments = ["evaluate", "--out", str(folder / "out"), *options]
    for name, images in sets.items():
        (folder / name).mkdir()
        for i, image in enumerate(images):
            np.save(folder / name / f"{i}.npy", image)
        arguments += [f"--{name}", str(folder / name)]
    assert main(arguments) == 0
    metrics: dict[str, Any] = json.loads((folder / "out" / "metrics.json").read_text())
    return metrics


@pytest.mark.parametrize("material", ["ceramics", "copolymer"])
def test_other_tiles_pass_and_noise_and_another_material_do_not(
    microstructures: Path, tmp_path: Path, material: str
) -> None:
    real = tiles(microstructures / f"{material}_256.npy")
    original, held_out, made = real[:24], real[24:40], real[40:]
    noise = np.random.default_rng(1).permuted(made.reshape(24, -1), axis=1).reshape(made.shape)
    sets = {"real": made, "noise": noise, "other": tiles(microstructures / "carbonate_256.npy")[:24]}
    found = {}
    for name, generated in sets.items():
        (tmp_path / name).mkdir()
        given = {"original": original, "generated": generated, "held_out": held_out}
        found[name] = evaluated(tmp_path / name, "--non_periodic", **given)
    assert abs(found["real"]["data_copying"]["z"]) < 3
    for measure, wrong in {
        "two_point_correlation": ["other"],  # noise is as uncorrelated at most distances as the material itself
        "lineal_path": ["noise", "other"],
        "chord_length": ["noise", "other"],
        "specific_surface": ["noise", "other"],
    }.items():
        of_scalar = measure == "specific_surface"
        off = {n: abs(m[measure]["difference" if of_scalar else "discrepancy_percent"]) for n, m in found.items()}
        allowed = 3 * found["real"][measure]["floor" if of_scalar else "floor_percent"]
        assert off["real"] < allowed, measure
        assert all(off[name] > allowed for name in wrong), measure
    assert found["noise"]["volume_fraction"]["difference"] == pytest.approx(
        found["real"]["volume_fraction"]["difference"]
    )


@pytest.mark.parametrize(
    ("options", "shift", "mirrored"),
    [(["--non_periodic"], (0, 0), False), ([], (5, 11), False), (["--isotropic"], (5, 11), True)],
    ids=["copy", "shifted", "shifted and mirrored"],
)
def test_a_planted_copy_is_found_and_a_set_of_copies_fails(
    microstructures: Path, tmp_path: Path, options: list[str], shift: tuple[int, int], mirrored: bool
) -> None:
    real = tiles(microstructures / "ceramics_256.npy")
    original, held_out, made = real[:24], real[24:40], real[40:].copy()
    made[3] = np.roll(original[7][:, ::-1] if mirrored else original[7], shift, axis=(0, 1))
    one = evaluated(tmp_path, *options, original=original, generated=made, held_out=held_out)["nearest_training_image"]
    assert (one["minimum_mse"], one["n_exact_copies"], one["held_out_minimum_mse"] > 0.1) == (0, 1, True)
    first = one["closest_pairs"][0]
    assert (first["generated_index"], first["training_index"], first["shift"]) == (3, 7, list(shift))
    assert first["transformation"] == ("flip_columns" if mirrored else "identity")
    assert one["closest_pairs"][1]["mse"] > 0.1
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert re.search(r"\b1 of the generated structures is an exact copy\b", page)

    changed = np.random.default_rng(2).random(original.shape) < 0.02
    copies = np.roll(np.where(changed, 1 - original, original), shift, axis=(1, 2))
    (tmp_path / "all").mkdir()
    all_of_them = evaluated(tmp_path / "all", *options, original=original, generated=copies, held_out=held_out)
    assert all_of_them["data_copying"]["z"] < -4
    assert all_of_them["data_copying"]["n_nearer_than_any_real"] == 24
