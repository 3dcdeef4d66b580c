"""Training structures by MCRpy's reconstruction: acceptance test, and dependence on the seed alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials import descriptor_based
from mcrpy_diffusion.materials.acceptance import (
    Target,
    check,
    distance_to_references,
    independent,
    target_of_characterization,
    target_of_micrograph,
)
from mcrpy_diffusion.materials.descriptor_based import DuplicateFilter, generate, job_of_characterization
from mcrpy_diffusion.materials.samples import SEEDS_PER_SET, Sample
from mcrpy_diffusion.mcrpy_bridge import results
from mcrpy_diffusion.mcrpy_bridge.characterization import read_characterization
from mcrpy_diffusion.mcrpy_bridge.environment import refusals_of_mcrpy
from mcrpy_diffusion.mcrpy_bridge.reconstruction import Reconstructor
from mcrpy_diffusion.settings import GenerationSettings


def blobs(shape: tuple[int, int] = (32, 32), n_phases: int = 2, seed: int = 0, fraction: float = 0.4) -> np.ndarray:
    """Smooth periodic random phases; `fraction` is the total of phases 1 and higher."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2, mode="wrap")
    levels = np.quantile(field, 1 - fraction * np.arange(n_phases - 1, 0, -1) / (n_phases - 1))
    return np.digitize(field, levels).astype(np.uint8)


SMALL = GenerationSettings(extent_x=32, extent_y=32)


def characterized(phases: np.ndarray, tmp_path: Path, settings: GenerationSettings) -> dict:
    results.save_characterization(phases, settings, tmp_path / "c_characterization.pickle")
    return read_characterization(tmp_path / "c_characterization.pickle")


# --- targets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_phases", [2, 3])
@pytest.mark.parametrize("descriptor", ["FFTCorrelations", "Correlations"])
def test_descriptors_contain_volume_fraction_and_two_point_correlation(
    tmp_path: Path, n_phases: int, descriptor: str
) -> None:
    """The target from MCRpy's descriptor, also the softly thresholded one, equals that of the micrograph."""
    phases = blobs((24, 32), n_phases)
    assert set(np.unique(phases)) == set(range(n_phases))
    settings = GenerationSettings(
        extent_x=24, extent_y=32, limit_to=6, use_multiphase=n_phases > 2, descriptor_types=(descriptor,)
    )
    target = target_of_characterization(characterized(phases, tmp_path, settings), settings)
    expected = target_of_micrograph(phases, settings, [phases])
    assert target.n_phases == n_phases
    assert target.periodic
    assert target.volume_fraction is not None
    assert target.two_point is not None
    assert expected.two_point is not None
    assert target.two_point.shape == (n_phases - 1, 6)
    np.testing.assert_allclose(target.volume_fraction, expected.volume_fraction, atol=1e-12)
    np.testing.assert_allclose(target.two_point, expected.two_point[:, :6], atol=1e-12)


def test_two_phases_characterized_as_multiphase_are_those_of_phase_1(tmp_path: Path) -> None:
    """MCRpy's characterize uses all phases by default."""
    phases = blobs()
    characterization = characterized(phases, tmp_path, SMALL.replace(use_multiphase=True))
    assert len(characterization["FFTCorrelations"]) == 2
    target = target_of_characterization(characterization, SMALL)
    np.testing.assert_allclose(target.volume_fraction, [phases.mean()])
    assert job_of_characterization(characterization, SMALL).mcrpy_settings["use_multiphase"] is False


def test_targets_without_two_point_correlation() -> None:
    settings = SimpleNamespace(n_phases=3, limit_to=16)
    fractions = np.array([0.5, 0.3, 0.2]).reshape(3, 1)
    target = target_of_characterization({"VolumeFractions": fractions, "settings": settings}, SMALL)
    np.testing.assert_allclose(target.volume_fraction, [0.3, 0.2])
    assert target.two_point is None
    target = target_of_characterization({"GramMatrices": np.ones((3, 1, 4)), "settings": settings}, SMALL)
    assert target.volume_fraction is None


def test_file_names_in_a_characterization_are_ignored(tmp_path: Path) -> None:
    """MCRpy unpickles the file called gram_weights_filename."""
    own = SimpleNamespace(
        n_phases=1,
        limit_to=5,
        periodic=False,
        use_multigrid_descriptor=True,
        threshold_steepness=7.0,
        gram_weights_filename=str(tmp_path / "hostile.pkl"),
        data_folder="/",
        target_folder="/",
    )
    job = job_of_characterization({"FFTCorrelations": np.ones((1, 1, 9, 9)), "settings": own}, SMALL)
    assert not {"gram_weights_filename", "data_folder", "target_folder"} & job.mcrpy_settings.keys()
    expected = {"limit_to": 5, "periodic": False, "use_multigrid_descriptor": True, "threshold_steepness": 7.0}
    assert expected.items() <= job.mcrpy_settings.items()
    with pytest.raises(InputError, match="FFTCorrelations, got 'Correlations'"):
        job_of_characterization(
            {"FFTCorrelations": np.ones((1, 1, 9, 9)), "settings": own},
            SMALL.replace(descriptor_types=["Correlations"]),
        )


# --- acceptance test --------------------------------------------------------------------------------------------------


def test_each_reason_for_rejection() -> None:
    phases = blobs()
    target = target_of_micrograph(phases, SMALL, [phases])
    assert check(phases, target, SMALL)[0] == "copy"
    assert check(np.roll(phases, (5, -7), axis=(0, 1)), target, SMALL)[0] == "copy"
    assert check(np.roll(phases[::-1, ::-1], 3, axis=0), target, SMALL)[0] == "copy"
    assert check(np.roll(phases[:, ::-1], (2, 11), axis=(0, 1)), target, SMALL)[0] == "copy"  # mirrored
    assert check(np.roll(phases[::-1], 5, axis=1), replace(target, periodic=False), SMALL)[0] == "copy"
    assert check(phases, target, SMALL.replace(copy_tolerance=0.0))[0] == ""
    assert check(np.zeros_like(phases), target, SMALL)[0] == "phases"
    assert check(2 * phases, target, SMALL)[0] == "phases"
    dilated = phases.copy()
    dilated[:3] = 1
    assert check(dilated, target, SMALL)[0] == "volume fraction"
    shuffled = np.random.default_rng(0).permutation(phases.ravel()).reshape(phases.shape)
    assert check(shuffled, target, SMALL)[0] == "two-point correlation"
    assert check(shuffled, target, SMALL.replace(two_point_tolerance_percent=1e3))[0] == "lineal path"


def test_measured_facts() -> None:
    phases, other = blobs(seed=0), blobs(seed=1)
    reason, facts = check(other, target_of_micrograph(phases, SMALL, [phases]), SMALL)
    assert facts["volume_fraction"] == [pytest.approx(other.mean())]
    assert set(facts["discrepancies"]) == {"two_point_correlation", "lineal_path"}
    assert 0.1 < facts["distance"] < independent(np.array([0.4]))
    assert reason in ("", "two-point correlation", "lineal path")
    _, same = check(phases, target_of_micrograph(phases, SMALL, [phases]), SMALL)
    assert same["discrepancies"] == {"two_point_correlation": 0, "lineal_path": 0}
    assert same["distance"] == 0


def test_copies_of_a_part_of_a_larger_micrograph() -> None:
    large = blobs((48, 40))
    target = Target(2, references=[large])
    assert check(large[5:37, 3:35], target, SMALL)[0] == "copy"
    assert check(large[5:37, 35:3:-1], target, SMALL)[0] == "copy"
    assert "distance" not in check(blobs(), Target(2, references=[blobs((48, 16))]), SMALL)[1]  # too small to compare
    assert check(blobs(seed=1), target, SMALL)[0] == ""


def test_distance_is_the_minimum_over_shifts_reflections_and_half_turns() -> None:
    generator = np.random.default_rng(0)
    phases, reference = generator.integers(2, size=(2, 5, 6))
    expected = min(
        np.mean(phases != np.roll(reference[::rows, ::columns], (i, j), axis=(0, 1)))
        for i in range(5)
        for j in range(6)
        for rows in (1, -1)
        for columns in (1, -1)
    )
    assert distance_to_references(phases, [reference]) == pytest.approx(expected, abs=1e-12)
    assert distance_to_references(phases, [1 - phases, reference]) <= expected
    larger = generator.integers(2, size=(7, 9))
    expected = min(
        np.mean(phases != turned[i : i + 5, j : j + 6])
        for turned in (larger, larger[::-1], larger[:, ::-1], larger[::-1, ::-1])
        for i in range(3)
        for j in range(4)
    )
    assert distance_to_references(phases, [larger]) == pytest.approx(expected, abs=1e-12)


def test_expected_distance_of_independent_structures() -> None:
    assert independent(np.array([0.3])) == pytest.approx(2 * 0.3 * 0.7)
    assert independent(np.array([0.5, 0.2])) == pytest.approx(1 - 0.25 - 0.04 - 0.09)


def made(phases: np.ndarray, loss: float = 1.0) -> Sample:
    facts = {"volume_fraction": [float(phases.mean())], "discrepancies": {}, "loss": loss, "n_iterations": 1}
    return Sample(phases, "", facts)


def test_losses_and_duplicates_are_filtered_without_a_micrograph(tmp_path: Path) -> None:
    """The same samples are accepted after a restart."""
    first, second = blobs(seed=0), blobs(seed=1)
    series = [
        made(first),
        made(np.roll(first, 9, axis=1)),
        made(second, loss=10.5),
        made(second, loss=9.5),
        made(np.roll(second[::-1, ::-1], 4, axis=0)),
        made(blobs(seed=2)),
    ]
    expected = ["accepted", "duplicate", "loss", "accepted", "duplicate", "accepted"]
    for stop in (0, 2, 4):
        for numbers in (range(stop), range(stop, len(series))):
            with Dataset.create_or_resume(tmp_path / str(stop), {}) as dataset:
                sample_filter = DuplicateFilter(dataset, SMALL)
                for number in numbers:
                    sample = series[number]
                    reason = sample_filter.reason(sample)
                    sample_filter.record(sample, not reason)
                    dataset.append(
                        number, None if reason else sample.phases, reason=reason or "accepted", **sample.facts
                    )
        assert [line["reason"] for line in Dataset.open(tmp_path / str(stop)).samples] == expected


# --- MCRpy's reconstruction -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_phases", "optimizer"), [(2, "LBFGSB"), (3, "LBFGSB"), (2, "TNC"), (2, "Adam")])
def test_a_reused_reconstructor_agrees_with_mcrpy(n_phases: int, optimizer: str) -> None:
    """The structure of a seed equals that of `mcrpy.reconstruct`, independent of previous reconstructions."""
    phases = blobs((16, 16), n_phases)
    settings = GenerationSettings(
        extent_x=16, extent_y=16, use_multiphase=n_phases > 2, optimizer_type=optimizer, max_iter=25
    )
    job = descriptor_based._job_of_micrograph(0, [phases], settings)
    arguments = {"n_phases": job.n_phases, "shape": job.shape, "settings": job.mcrpy_settings}
    warm = Reconstructor(job.descriptors, **arguments)
    several = {seed: warm(seed) for seed in (5, 3, 4)}
    import mcrpy

    for seed in (3, 5):
        np.random.seed(seed)  # noqa: NPY002  as a user of MCRpy does
        characterization = {**job.descriptors, "settings": SimpleNamespace(n_phases=job.n_phases)}
        mcrpy_settings = mcrpy.ReconstructionSettings(**job.mcrpy_settings)
        convergence, microstructure = mcrpy.reconstruct(characterization, (16, 16), settings=mcrpy_settings)
        np.testing.assert_array_equal(several[seed].phases, microstructure.decode_phases())
        assert several[seed].loss == pytest.approx(float(convergence["line_data"][-1][1]), rel=1e-9)
        assert warm(seed).phases.tobytes() == several[seed].phases.tobytes()
        assert several[seed].phases.dtype == np.uint8


def test_early_stopping() -> None:
    phases = blobs((16, 16))
    settings = GenerationSettings(extent_x=16, extent_y=16, max_iter=100)
    job = descriptor_based._job_of_micrograph(0, [phases], settings)
    shown = []

    def third(structure: np.ndarray) -> bool:
        shown.append(structure)
        return len(shown) == 3

    reconstruct = Reconstructor(
        job.descriptors, n_phases=job.n_phases, shape=job.shape, settings=job.mcrpy_settings, stopping_criterion=third
    )
    stopped = reconstruct(0)
    assert stopped.n_iterations == 76
    np.testing.assert_array_equal(stopped.phases, shown[-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"descriptor_types": ["Nonsense"]}, "descriptor type must be one of .*, got 'Nonsense'"),
        ({"optimizer_type": "Nonsense"}, "optimizer type must be one of .*LBFGSB.*, got 'Nonsense'"),
        ({"loss_type": "Nonsense"}, "loss type must be one of .*MSE.*, got 'Nonsense'"),
        ({"descriptor_weights": [1.0, 2.0]}, "MCRpy cannot reconstruct"),
        ({"limit_to": 12}, "MCRpy cannot reconstruct"),
    ],
)
def test_settings_that_mcrpy_rejects(change: dict, message: str) -> None:
    phases = blobs((16, 16))
    settings = GenerationSettings(extent_x=16, extent_y=16, max_iter=2)
    job = descriptor_based._job_of_micrograph(0, [phases], settings)
    with pytest.raises(InputError, match=message) as caught:
        Reconstructor(
            job.descriptors, n_phases=job.n_phases, shape=job.shape, settings={**job.mcrpy_settings, **change}
        )(0)
    assert "\n" not in str(caught.value)


def test_own_errors_are_not_attributed_to_mcrpy() -> None:
    with pytest.raises(InputError) as ours, refusals_of_mcrpy("MCRpy cannot"):
        raise InputError("a weight is missing; install it")
    assert str(ours.value) == "a weight is missing; install it"
    with pytest.raises(InputError) as theirs, refusals_of_mcrpy("MCRpy cannot"):
        raise ValueError("\n first line\nsecond")
    assert str(theirs.value) == "MCRpy cannot: ValueError: first line second"
    with pytest.raises(RuntimeError, match="a fault"), refusals_of_mcrpy("MCRpy cannot"):
        raise RuntimeError("a fault of the program")


# --- data sets, in worker processes -----------------------------------------------------------------------------------


def grow(
    folder: Path, phases: np.ndarray, n_samples: int, n_jobs: int, settings: GenerationSettings = SMALL
) -> Dataset:
    with Dataset.create_or_resume(folder, {}) as dataset:
        generate(dataset, settings, references=[phases], n_samples=n_samples, n_jobs=n_jobs)
    return Dataset.open(folder)


def test_a_structure_depends_on_its_seed_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    phases, seen = blobs(seed=3), []
    log = tmp_path / "mcrpy.log"
    with Dataset.create_or_resume(tmp_path / "two", {}) as dataset:
        generate(
            dataset,
            SMALL.replace(seed=1),
            references=[phases],
            n_samples=4,
            n_jobs=2,
            log_path=log,
            progress=lambda *numbers: seen.append(numbers),
        )
    two = Dataset.open(tmp_path / "two")
    assert two.accepted == list(range(4))
    assert seen[-1] == (4, two.n_tried - 4)
    assert [sum(numbers) for numbers in seen] == list(range(1, len(seen) + 1))
    assert "Iteration" in log.read_text()
    assert capfd.readouterr() == ("", "")

    one = grow(tmp_path / "one", phases, 4, n_jobs=1, settings=SMALL.replace(seed=1))
    by_seed = [sorted(each.samples, key=lambda line: line["seed"]) for each in (one, two)]
    assert by_seed[0] == by_seed[1]
    np.testing.assert_array_equal(one.load(), two.load())
    assert {SEEDS_PER_SET + i for i in range(4)} <= two.tried  # the first draw of each
    target = target_of_micrograph(phases, SMALL, [phases])
    for structure in two.load():
        assert check(structure, target, SMALL)[0] == ""
        assert structure.dtype == np.uint8


def test_three_phases_and_several_micrographs(tmp_path: Path, samples_made_here: None) -> None:
    references = [blobs(n_phases=3, seed=3, fraction=0.6), blobs(n_phases=3, seed=4, fraction=0.5)]
    settings = SMALL.replace(use_multiphase=True, lineal_path_tolerance_percent=60)
    with Dataset.create_or_resume(tmp_path, {}) as dataset:
        generate(dataset, settings, references=references, n_samples=2, n_jobs=1)
        for line in dataset.samples:
            if line["accepted"]:
                own = references[line["index"] % 2]
                for phase, fraction in zip((1, 2), line["volume_fraction"]):
                    assert fraction == pytest.approx(np.mean(own == phase), abs=0.01)
        assert set(np.unique(dataset.load())) == {0, 1, 2}


def test_structures_from_a_characterization_alone(tmp_path: Path, samples_made_here: None) -> None:
    """The micrograph, and so the characterized range of S2, is larger than the structures."""
    phases = blobs((48, 48), seed=3)
    characterization = characterized(phases, tmp_path, SMALL.replace(extent_x=48, extent_y=48))
    assert characterization["FFTCorrelations"].shape[-1] == 47
    with Dataset.create_or_resume(tmp_path / "set", {}) as dataset:
        generate(dataset, SMALL, characterizations=[characterization], n_samples=3, n_jobs=1)
        structures = dataset.load()
    assert structures.shape == (3, 32, 32)
    np.testing.assert_allclose(structures.mean(axis=(1, 2)), phases.mean(), atol=0.01)
    target = target_of_micrograph(phases, SMALL, [phases])
    assert target.two_point is not None
    for structure in structures:
        two_point = check(structure, target, SMALL)[1]["discrepancies"]["two_point_correlation"]
        assert two_point <= SMALL.two_point_tolerance_percent


def test_a_low_acceptance_rate_is_an_error_with_the_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples_made_here: None
) -> None:
    """One iteration is not sufficient; a second call fails at once."""
    settings = GenerationSettings(extent_x=16, extent_y=16, max_iter=1)
    with pytest.raises(InputError, match=r"only 0 of 59 .*a larger --max_iter"):
        grow(tmp_path, blobs((16, 16)), 5, n_jobs=1, settings=settings)
    assert Dataset.open(tmp_path).n_tried == 59
    monkeypatch.setattr("mcrpy_diffusion.materials.engine.open_workers", None)
    with pytest.raises(InputError, match="only 0 of 59"):
        grow(tmp_path, blobs((16, 16)), 5, n_jobs=1, settings=settings)


def test_invalid_settings_are_reported_from_the_worker(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got 'Nonsense'"):
        grow(tmp_path, blobs(), 2, n_jobs=1, settings=SMALL.replace(descriptor_types=["Nonsense"]))
