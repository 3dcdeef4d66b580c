"""Known pixels: unchanged in samples, seen by self-conditioning, and compatible with the other conditions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_request import LOG_ODDS, save_tiny

from mcrpy_diffusion.commands import stages
from mcrpy_diffusion.diffusion.denoiser import Denoised
from mcrpy_diffusion.diffusion.known_pixels import KnownPixels, keep_known_pixels
from mcrpy_diffusion.diffusion.log_odds import LogOdds
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.models.known import read_known_pixels
from mcrpy_diffusion.models.model import Model, load_model
from mcrpy_diffusion.models.request import Request


@pytest.mark.parametrize("shape", [(6,), (4, 5), (3, 4, 5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_expected_image_is_the_known_one_where_it_is_known(shape: tuple[int, ...], channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    phases = torch.randint(2 if channels == 1 else 3, shape, generator=generator)
    image = torch.stack([(phases == (1 if channels == 1 else c)).float() * 2 - 1 for c in range(channels)])
    mask = torch.rand(shape, generator=generator) > 0.5
    log_odds = LogOdds(*torch.randn(2, 2, channels, *shape, generator=generator) * 9)
    known = KnownPixels(image, mask)
    x_t, t = log_odds.evidence, torch.zeros(2)
    kept = keep_known_pixels(lambda x, t, e=None: Denoised.of_phases(log_odds), known)(x_t, t)
    assert torch.equal(kept.x_0[..., mask], image[..., mask].expand(2, -1, -1))
    torch.testing.assert_close(kept.x_0[..., ~mask], log_odds.expected_x_0()[..., ~mask])
    plain = keep_known_pixels(lambda x, t, e=None: Denoised(x), known)(x_t, t)
    assert torch.equal(plain.x_0[..., mask], kept.x_0[..., mask])


def test_unknown_pixels_have_the_fraction_that_was_drawn() -> None:
    known = KnownPixels(torch.tensor([[1.0, 1.0, -1.0, 1.0]]), torch.tensor([True, True, False, False]))
    assert known.whole_fractions(torch.tensor([[0.5]])).item() == pytest.approx(0.75)


def request(model: Model, **more: object) -> tuple[Request, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    phases, mask = generator.integers(model.info.n_phases, size=(16, 16)), generator.random((16, 16)) > 0.4
    one_hot = [phases == (1 if model.n_channels == 1 else c) for c in range(model.n_channels)]
    image = torch.from_numpy(np.stack(one_hot)).float() * 2 - 1
    return Request(known=KnownPixels(image, torch.from_numpy(mask)), **more), phases, mask


@pytest.mark.parametrize("n_phases", [2, 3])
def test_known_pixels_come_out_unchanged_at_any_fraction(tmp_path: Path, n_phases: int) -> None:
    model = load_model(save_tiny(tmp_path, n_phases, LOG_ODDS.replace(self_condition=True)))
    wanted = 0.45 if n_phases == 2 else 0.3  # within what the known pixels allow
    for fractions in ((), ((wanted,) * (n_phases - 1),)):
        asked, phases, mask = request(model, volume_fractions=fractions)
        settings = model.info.sampling_settings(n_sampling_steps=10)
        ((_, structures),) = model.batches(range(3), settings, request=asked)
        assert (structures[:, mask] == phases[mask]).all()
        assert not (structures[:, ~mask] == phases[~mask]).all()
        for phase in range(1, n_phases) if fractions else ():
            np.testing.assert_array_equal((structures == phase).sum((1, 2)), round(256 * wanted))


def test_the_next_estimate_starts_from_the_known_pixels(tmp_path: Path) -> None:
    model = load_model(save_tiny(tmp_path, 2, LOG_ODDS.replace(self_condition=True)))
    asked, phases, mask = request(model)
    seen = []
    forward = model.network.forward

    def spy(x, t, conditions=None, estimate=None):
        seen.append(estimate)
        return forward(x, t, conditions, estimate)

    model.network.forward = spy
    list(model.batches([0], model.info.sampling_settings(n_sampling_steps=8, precision="float32"), request=asked))
    given = [estimate for estimate in seen if estimate is not None]
    assert given
    for estimate in given:
        np.testing.assert_array_equal(estimate[0, 0].numpy()[mask], 2 * phases[mask] - 1)


def test_files_and_contradictions(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    image = np.zeros((16, 16), np.uint8)
    image[:8] = 1
    mask = np.zeros((16, 16), np.uint8)
    mask[:, :8] = 1
    for name, array in (("image", image), ("mask", mask), ("other", mask[:8]), ("large", np.eye(32, dtype=np.uint8))):
        np.save(tmp_path / f"{name}.npy", array)
    command = ["sample", "--model", str(save_tiny(tmp_path, 2)), "--n_samples", "1", "--n_steps", "4"]
    command += ["--out", str(tmp_path / "out")]
    known, where = ["--known", str(tmp_path / "image.npy")], ["--known_mask", str(tmp_path / "mask.npy")]
    assert stages.main([*command, *known, *where]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "0.npy")[:, :8], image[:, :8])
    capsys.readouterr()
    for wrong, words in (
        (known, "no pixel unknown"),
        (where, "needs known"),
        ([*known, "--known_mask", str(tmp_path / "other.npy")], "16 x 16"),
        (["--known", str(tmp_path / "large.npy"), *where], "at most 16 x 16"),
        ([*known, *where, "--volume_fraction", ".8"], "between 0.25 and 0.75"),
    ):
        assert stages.main([*command, *wrong]) == 2
        assert words in capsys.readouterr().err


def test_a_smaller_image_comes_into_the_middle(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(4, dtype=np.uint8))
    known, _ = read_known_pixels(str(tmp_path / "a.npy"), None, 2, (8, 7))
    assert known.mask.nonzero().amin(0).tolist() == [2, 1]
    assert int(known.mask.sum()) == 16
    np.testing.assert_array_equal(known.image[0, 2:6, 1:5], 2 * np.eye(4) - 1)
    with pytest.raises(InputError, match="does not exist"):
        read_known_pixels(str(tmp_path / "b.npy"), None, 2, (8, 7))
