"""What structures are asked for: volume fractions and their ranges, exact to the pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_train import TINY

from mcrpy_diffusion.commands import stages
from mcrpy_diffusion.diffusion import conditioning
from mcrpy_diffusion.diffusion.conditions import CONDITIONS
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials.reference import reference_from_micrographs
from mcrpy_diffusion.models.checkpoint import ModelInfo, build_network, save_model
from mcrpy_diffusion.models.model import Model, load_model
from mcrpy_diffusion.models.request import Request, micrograph_table, volume_fraction_table
from mcrpy_diffusion.settings import TrainingSettings
from mcrpy_diffusion.workflow.match_plan import make_plan

LOG_ODDS = TINY.replace(
    prediction="log_odds", schedule="cosine", learned_variance=False, condition_on_volume_fraction=True
)


def save_tiny(folder: Path, n_phases: int, settings: TrainingSettings = LOG_ODDS, sha256: str = "") -> Path:
    """A model of log odds with random weights that has seen few volume fractions."""
    rows = [[low] * (n_phases - 1) for low in (0.4, 0.42)] if settings.condition_on_volume_fraction else []
    info = ModelInfo(
        settings=settings,
        n_phases=n_phases,
        extent=(16, 16),
        periodic=True,
        conditions=rows,
        provenance={"reference_sha256": [sha256]},
    )
    torch.manual_seed(0)
    network = build_network(info)
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.1)
    save_model(folder / f"{n_phases}.safetensors", network.state_dict(), info)
    return folder / f"{n_phases}.safetensors"


@pytest.fixture
def two(tmp_path: Path) -> Model:
    return load_model(save_tiny(tmp_path, 2))


def test_a_range_is_spread_evenly_over_the_structures() -> None:
    table = volume_fraction_table(".25:.35")
    drawn = conditioning.draw(range(100), table)[:, 0].sort().values
    assert float((drawn - torch.linspace(0.2505, 0.3495, 100)).abs().max()) < 1.5e-3  # low discrepancy
    torch.testing.assert_close(conditioning.draw([7], table)[0], conditioning.draw(range(8), table)[7])


def test_ranges_of_several_phases_are_passed_through_together() -> None:
    drawn = conditioning.draw(range(9), volume_fraction_table([".1:.2", 0.5]))
    np.testing.assert_allclose(drawn[:, 1], 0.5)
    assert float(drawn[:, 0].min()) >= 0.1
    assert float(drawn[:, 0].max()) <= 0.2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("a third", "must be a number"),
        (".1:.2:.3", "must be a number"),
        ("nan", "between 0 and 1"),
        (1.5, "between 0 and 1"),
        ("-.1", "between 0 and 1"),
        (".4:.3", "rising"),
        ([0.6, ".3:.5"], "at most 1"),
    ],
)
def test_fractions_that_are_none_are_refused(given: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        volume_fraction_table(given)


def test_the_network_is_conditioned_on_the_nearest_fraction_that_it_has_seen(two: Model) -> None:
    requested = torch.tensor([[0.1], [0.41], [0.9]])
    found = two.fractions(range(3), (16, 16), requested=requested)
    np.testing.assert_allclose(found, [[0.4], [0.41], [0.42]])


@pytest.mark.parametrize("n_phases", [2, 3])
def test_structures_have_the_fraction_asked_for_to_the_pixel(tmp_path: Path, n_phases: int) -> None:
    model = load_model(save_tiny(tmp_path, n_phases))
    given = [0.35, 0.4][: n_phases - 1]
    structures = model.sample(3, n_steps=8, volume_fraction=given)
    for phase, fraction in enumerate(given, 1):
        np.testing.assert_array_equal((structures == phase).sum((1, 2)), round(256 * fraction))
    alone = model.sample(1, n_steps=8, volume_fraction=given, seed=2)
    np.testing.assert_array_equal(alone[0], structures[2])


def test_confident_pixels_give_way_to_a_fraction_that_was_asked_for() -> None:
    x_0 = torch.tensor([-1.0, -0.999, 0.3, 0.995, 0.999, 1.0]).reshape(1, 1, 2, 3)
    rounded = CONDITIONS["requested_volume_fraction"].to_phases
    assert rounded is not None
    assert rounded(x_0, torch.tensor([[1 / 6]])).flatten().tolist() == [0, 0, 0, 0, 0, 1]
    assert rounded(x_0, torch.tensor([[5 / 6]])).flatten().tolist() == [0, 1, 1, 1, 1, 1]


def test_a_fraction_far_from_the_training_data_is_a_warning(two: Model) -> None:
    assert not Request(((0.35,),)).advice(two.info)
    assert "0.4 to 0.42" in Request(((0.05,),)).advice(two.info)
    with pytest.warns(UserWarning, match="0.4 to 0.42"):
        two.sample(1, n_steps=2, volume_fraction=0.9)


def test_models_that_cannot_be_asked_say_so(two: Model, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="phase 1, got 2 numbers"):
        two.sample(1, n_steps=2, volume_fraction=[0.4, 0.4])
    with pytest.raises(InputError, match="hold_volume_fraction"):
        two.sample(1, n_steps=2, volume_fraction=0.4, hold_volume_fraction=False)
    of_noise = load_model(save_tiny(tmp_path, 2, TINY.replace(condition_on_volume_fraction=False)))
    with pytest.raises(InputError, match="log odds"):
        of_noise.sample(1, n_steps=2, volume_fraction=0.4)


def test_the_command_keeps_to_the_fraction_and_to_its_record(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["sample", "--model", str(save_tiny(tmp_path, 2)), "--out", str(tmp_path / "out"), "--n_samples", "2"]
    command += ["--n_steps", "4"]
    assert stages.main([*command, "--volume_fraction", ".35"]) == 0
    structures = np.stack([np.load(path) for path in sorted((tmp_path / "out").glob("*.npy"))])
    np.testing.assert_array_equal(structures.sum((1, 2)), 90)  # .35 of 256 pixels
    assert stages.main([*command, "--volume_fraction", ".4"]) == 2  # another request in the same folder
    assert stages.main([*command, "--volume_fraction", "much"]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 2
    assert "volume_fraction" in error[0]
    assert "number" in error[1]


def test_windows_of_a_micrograph_have_its_fractions() -> None:
    image = np.zeros((32, 16), int)
    image[:16] = 1
    table = np.array(micrograph_table([image], 2, (16, 16)))
    np.testing.assert_allclose(table[:, 0], [0, 0.25, 0.5, 0.75, 1])


def test_match_takes_the_fraction_of_the_micrograph_unless_the_model_knows_it(tmp_path: Path) -> None:
    image = np.zeros((16, 16), np.uint8)
    image[:4] = 1
    np.save(tmp_path / "m.npy", image)
    options = {"model": str(save_tiny(tmp_path, 2)), "extent_x": 16, "extent_y": 16}
    reference = reference_from_micrographs([str(tmp_path / "m.npy")], {})
    assert make_plan(options, reference).request.volume_fractions == ((0.25,),)
    assert make_plan({**options, "volume_fraction": [".4"]}, reference).request.volume_fractions == ((0.4,),)
    path = save_tiny(tmp_path, 2, sha256=reference.sha256[0])  # trained on this micrograph
    assert not make_plan({**options, "model": str(path)}, reference).request.volume_fractions
