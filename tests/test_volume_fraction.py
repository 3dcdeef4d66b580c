"""Volume fractions that are kept while sampling: closed forms, exact conditional distributions, samples."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching
from test_train import TINY

from mcrpy_diffusion.diffusion.denoiser import NetworkDenoiser
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
from mcrpy_diffusion.diffusion.volume_fraction import constrain_volume_fraction, exact_phases, tilt_log_odds
from mcrpy_diffusion.models.checkpoint import ModelInfo, build_network, save_model
from mcrpy_diffusion.models.model import Model, load_model


def logit(p: torch.Tensor | float) -> torch.Tensor:
    return torch.logit(torch.as_tensor(p, dtype=torch.float64))


@pytest.mark.parametrize("n_phases", [2, 3, 5])
def test_the_probabilities_have_the_wanted_means(n_phases: int) -> None:
    log_odds = 3 * torch.randn(4, 1 if n_phases == 2 else n_phases, 16, 12, generator=torch.Generator().manual_seed(0))
    wanted = torch.tensor([[0.02], [0.3], [0.5], [0.97]]) * torch.ones(n_phases - 1) / (n_phases - 1)
    shifted = log_odds + tilt_log_odds(log_odds, wanted)
    shown = shifted.sigmoid() if n_phases == 2 else shifted.softmax(1)[:, 1:]
    torch.testing.assert_close(shown.mean((2, 3)), wanted, atol=2e-5, rtol=0)


def test_even_log_odds_become_those_of_the_fraction() -> None:
    one = tilt_log_odds(torch.full((1, 1, 8, 8), -1.5, dtype=torch.float64), torch.tensor([[0.2]]))
    assert float(one) == pytest.approx(float(logit(0.2)) + 1.5, abs=1e-5)
    several = tilt_log_odds(
        torch.tensor([1.0, 0.0, -1.0])[None, :, None, None].expand(1, 3, 8, 8), torch.tensor([[0.2, 0.3]])
    )
    ratio = (torch.tensor([1.0, 0.0, -1.0]) + several[0, :, 0, 0]).softmax(0)
    torch.testing.assert_close(ratio, torch.tensor([0.5, 0.2, 0.3]), atol=1e-5, rtol=0)


def test_what_keeps_the_fractions_is_left_as_it_is() -> None:
    log_odds = 2 * torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    assert float(tilt_log_odds(log_odds, log_odds.sigmoid().mean((2, 3))).abs().max()) < 1e-4


def test_no_fraction_turns_pixels_that_are_certain() -> None:
    log_odds = torch.tensor([-40.0] * 8 + [40.0] * 8, dtype=torch.float64).reshape(1, 1, 4, 4)
    for fraction in (0.0, 0.5, 1.0):
        probability = (log_odds + tilt_log_odds(log_odds, torch.tensor([[fraction]]))).sigmoid()
        assert bool((probability.round() == (log_odds > 0)).all())


@pytest.mark.parametrize("n", [8, 16])
def test_it_is_what_follows_from_knowing_the_number_of_pixels(n: int) -> None:
    """The exact probabilities, over all images of n pixels of which a quarter is set, to the order 1 / n."""
    log_odds = torch.linspace(-3, 2, n, dtype=torch.float64)
    images = torch.tensor(list(itertools.product((0.0, 1.0), repeat=n)), dtype=torch.float64)
    images = images[images.sum(1) == n / 4]
    exact = (images @ log_odds).softmax(0) @ images
    grid = log_odds.reshape(1, 1, 2, -1)
    tilted = (grid + tilt_log_odds(grid, torch.tensor([[0.25]]))).sigmoid().flatten()
    assert float((tilted - exact).abs().max()) < 0.6 / n
    assert float((log_odds.sigmoid() - exact).abs().max()) > 0.2


def test_the_expected_image_keeps_the_fractions_at_all_times() -> None:
    schedule = NoiseSchedule.named("cosine", 100)
    generator = torch.Generator().manual_seed(0)
    fractions = torch.tensor([[0.1], [0.6]])
    denoise = constrain_volume_fraction(
        NetworkDenoiser(lambda x, t: torch.randn(x.shape, generator=generator), schedule, "log_odds"), fractions
    )
    for time in (99, 70, 40):
        t = torch.full((2,), time)
        x = torch.randn(2, 1, 16, 16, generator=generator)
        x_0 = denoise(x, t).x_0
        torch.testing.assert_close((x_0.mean((2, 3)) + 1) / 2, fractions, atol=1e-5, rtol=0)


@pytest.mark.parametrize("n_phases", [2, 3, 5])
def test_rounding_gives_the_numbers_of_pixels(n_phases: int) -> None:
    x_0 = (
        torch.rand(3, 1 if n_phases == 2 else n_phases, 8, 12, generator=torch.Generator().manual_seed(0)) * 1.9 - 0.95
    )
    wanted = torch.tensor([[7], [30], [95]]) // (n_phases - 1) + torch.zeros(n_phases - 1, dtype=torch.long)
    phases = exact_phases(x_0, wanted / 96)
    assert phases.shape == (3, 8, 12)
    assert phases.dtype == torch.uint8
    found = torch.stack([(phases == phase).sum((1, 2)) for phase in range(1, n_phases)], dim=1)
    assert torch.equal(found, wanted)
    for image in range(3):  # no image depends on its batch
        assert torch.equal(exact_phases(x_0[image : image + 1], wanted[image : image + 1] / 96)[0], phases[image])


def test_rounding_loses_the_least() -> None:
    x_0 = torch.rand(1, 1, 3, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 1.9 - 0.95
    for n in range(13):
        images = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=12)), dtype=torch.float64)
        images = images[(images > 0).sum(1) == n]
        nearest = images[(images @ x_0.flatten()).argmax()]
        phases = exact_phases(x_0, torch.tensor([[n / 12]]))
        assert torch.equal(phases.flatten() == 1, nearest > 0)


def test_rounding_leaves_what_has_its_fractions_and_what_is_certain() -> None:
    x_0 = torch.tensor([-1.0, -0.999, -0.6, 0.3, 0.7, 1.0, 1.0, 1.0]).reshape(1, 1, 2, 4)
    signs = (x_0[:, 0] > 0).to(torch.uint8)
    assert torch.equal(exact_phases(x_0, torch.tensor([[5 / 8]])), signs)
    assert exact_phases(x_0, torch.tensor([[0.0]])).flatten().tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert exact_phases(x_0, torch.tensor([[1.0]])).flatten().tolist() == [0, 0, 1, 1, 1, 1, 1, 1]


def test_certain_pixels_of_one_phase_do_not_keep_another_from_giving_way() -> None:
    x_0 = torch.full((1, 3, 1, 6), -1.0)
    for pixel, phase in enumerate((0, 0, 0, 1, 1, 2)):
        x_0[0, phase, 0, pixel] = 1.0
    x_0[0, :, 0, 4] = torch.tensor([-0.9, 0.5, 0.4])  # the only pixel that is not certain
    phases = exact_phases(x_0, torch.tensor([[1 / 6, 4 / 6]]))  # wanted are 1, 1 and 4 pixels
    assert phases.flatten().tolist() == [0, 0, 0, 1, 2, 2]


def of_chain(*scores: list[float]) -> torch.Tensor:
    return torch.tensor(scores, dtype=torch.float64).T[None, :, None]


def test_pixels_go_along_a_chain_of_phases_where_none_can_go_directly() -> None:
    """Phase 0 can only become 1, and 1 only 2: five pixels move 0 -> 1 and five others 1 -> 2."""
    x_0 = of_chain(*[[1.0, 0.5, -1.0]] * 10, *[[-1.0, 0.9, 0.2]] * 10, *[[-1.0, -1.0, 1.0]] * 10)
    phases = exact_phases(x_0, torch.tensor([[10 / 30, 15 / 30]]))
    assert phases.flatten().bincount().tolist() == [5, 10, 15]
    assert int((phases.flatten()[:10] == 2).sum()) == 0
    assert phases.flatten()[20:].unique().tolist() == [2]


def test_the_fractions_are_reached_wherever_confident_pixels_allow() -> None:
    """Against the largest bipartite matching of pixels to places of phases, by scipy."""
    generator = torch.Generator().manual_seed(0)
    n_missed = 0
    for k in range(60):
        x_0 = torch.where(torch.rand(1, 4, 1, 24, generator=generator) < (0.2, 0.7)[k % 2], -0.5, -1.0)
        x_0.scatter_(1, torch.randint(4, (1, 1, 1, 24), generator=generator), 1.0)
        wanted = torch.randint(5, (4,), generator=generator)
        wanted[0] = 24 - wanted[1:].sum()
        scores = x_0[0, :, 0]
        is_open = (scores.amax(0) - scores <= 2 * 0.99)[torch.arange(4).repeat_interleave(wanted)]
        possible = int((maximum_bipartite_matching(csr_matrix(is_open.numpy())) >= 0).sum())
        numbers = exact_phases(x_0, wanted[None, 1:] / 24).flatten().bincount(minlength=4)
        assert int(torch.minimum(numbers, wanted).sum()) == possible
        n_missed += possible < 24
    assert 5 < n_missed < 55


@pytest.mark.parametrize("numbers", [(1.5, 2.4), (1.6, 1.6), (0.2, 7.9), (8.0, 0.0)])
def test_fractions_between_pixels_are_rounded_to_what_is_there(numbers: tuple[float, float]) -> None:
    wanted = torch.tensor([numbers]) / 8
    phases = exact_phases(torch.zeros(1, 3, 2, 4), wanted.double())
    found = phases.flatten().bincount(minlength=3)[1:].numpy()
    assert np.abs(found - numbers).max() < 1


@pytest.fixture(params=[(2, False), (2, True), (3, True)], ids=["two", "two without certain times", "three"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    n_phases, skips = request.param
    settings = TINY.replace(
        prediction="log_odds",
        schedule="cosine",
        learned_variance=False,
        condition_on_volume_fraction=True,
        skip_high_snr=skips,
    )
    table = [[k / 256] * (n_phases - 1) for k in range(20, 84, 4)]
    info = ModelInfo(settings=settings, n_phases=n_phases, extent=(16, 16), periodic=True, conditions=table)
    torch.manual_seed(0)
    network = build_network(info)
    for parameter in network.parameters():
        parameter.data.normal_(0, 0.1)
    save_model(tmp_path / "m.safetensors", network.state_dict(), info)
    return load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm_solver"])
def test_structures_have_the_volume_fractions_that_they_were_to_have(model: Model, sampler: str) -> None:
    wanted = model.fractions(range(8), (16, 16))
    assert wanted is not None
    for hold in (True, False):
        structures = model.sample(8, n_steps=40, sampler=sampler, hold_volume_fraction=hold)
        found = np.stack([(structures == phase).mean((1, 2)) for phase in range(1, model.info.n_phases)], axis=1)
        assert (np.abs(found - wanted.numpy()).max() < 1e-6) == hold  # to the pixel
