"""Samples from worker processes: dependence on seeds alone, repeated attempts, killed processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from coin import CheckedFunction, Coin, Sleeper, structure
from scipy.stats import binom

from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.data.dataset_check import verify
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials import engine
from mcrpy_diffusion.materials.acceptance import Target
from mcrpy_diffusion.materials.dask_workers import DaskWorkers
from mcrpy_diffusion.materials.engine import fill
from mcrpy_diffusion.materials.local_workers import LocalWorkers
from mcrpy_diffusion.materials.samples import MAX_DRAWS, SEEDS_PER_SET, Draw, Sample, draw_seed
from mcrpy_diffusion.materials.workers import number_of_workers
from mcrpy_diffusion.settings import GenerationSettings

ROOT = Path(__file__).parents[1]


def expected_draws(source: Coin, n_samples: int, seed: int) -> dict[int, str]:
    """The seeds that must be tried, and whether each is accepted, by the rule alone."""
    draws = {}
    for index in range(n_samples):
        for attempt in range(MAX_DRAWS):
            number = draw_seed(seed, index, attempt)
            draws[number] = source.make(index, number).reason or "accepted"
            if draws[number] == "accepted":
                break
    return draws


def check_filled(folder: Path, source: Coin, n_samples: int, seed: int) -> Dataset:
    """Check that the data set on disk agrees with the rule."""
    dataset = Dataset.open(folder)
    assert {line["seed"]: line["reason"] for line in dataset.samples} == expected_draws(source, n_samples, seed)
    assert dataset.accepted == list(range(n_samples))
    for line in dataset.samples:
        if line["accepted"]:
            assert line["index"] == line["number"]
            np.testing.assert_array_equal(dataset.sample(line["index"]), structure(line["seed"]))
    return dataset


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for an event, with a limit against hanging."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- seeds -----------------------------------------------------------------------------------------------------------


def test_sample_i_has_seed_i() -> None:
    assert [draw_seed(0, i, 0) for i in range(3)] == [0, 1, 2]
    assert [draw_seed(2, i, 0) for i in range(3)] == [2 * SEEDS_PER_SET + i for i in range(3)]
    assert len({draw_seed(0, 5, a) for a in range(MAX_DRAWS)}) == MAX_DRAWS
    assert all(0 <= draw_seed(4000, SEEDS_PER_SET - 1, a) < 2**32 for a in range(MAX_DRAWS))


def test_no_two_draws_of_a_set_share_a_seed() -> None:
    """The first seeds of the attempts, modulo 2**32, are at least a whole set apart."""
    starts = np.sort([draw_seed(0, 0, attempt) for attempt in range(MAX_DRAWS)])
    gaps = np.diff([*starts, starts[0] + 2**32])
    assert gaps.min() >= SEEDS_PER_SET
    assert np.diff(np.sort([draw_seed(0, 0, a) for a in range(2 * MAX_DRAWS)])).min() < SEEDS_PER_SET  # a real limit


# --- filling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accepted_part", [1.0, 0.3])
def test_samples_do_not_depend_on_the_number_of_workers(tmp_path: Path, accepted_part: float) -> None:
    made = []
    for n_workers in (1, 3):
        folder, seen = tmp_path / str(n_workers), []
        (tmp_path / f"started_{n_workers}").mkdir()
        source = Coin(accepted_part, 0.005, folder=str(tmp_path / f"started_{n_workers}"), n_workers=n_workers)
        with Dataset.create_or_resume(folder, {}) as dataset, LocalWorkers(n_workers, source) as workers:
            fill(
                dataset,
                source,
                n_samples=40,
                seed=7,
                workers=workers,
                progress=lambda *numbers, seen=seen: seen.append(numbers),
            )
        dataset = check_filled(folder, source, 40, 7)
        assert seen[-1] == (40, dataset.n_tried - 40)
        assert [sum(numbers) for numbers in seen] == list(range(1, len(seen) + 1))
        assert len({line["process"] for line in dataset.samples}) == n_workers
        assert {line["environment"] for line in dataset.samples} == {"1"}
        assert "COIN" not in os.environ
        assert dataset.counts()["accepted"] == 40
        made.append(dataset.load())
    np.testing.assert_array_equal(*made)


def test_a_data_set_is_resumed(tmp_path: Path) -> None:
    source = Coin(0.5)
    with LocalWorkers(2, source) as workers:
        for n_samples in (5, 12, 12):
            with Dataset.create_or_resume(tmp_path, {}) as dataset:
                before = dataset.n_tried
                fill(dataset, source, n_samples=n_samples, seed=1, workers=workers)
            check_filled(tmp_path, source, n_samples, 1)
        assert before == dataset.n_tried  # the data set was complete
        sample = tmp_path / "samples" / "000003.npy"
        old = sample.read_bytes()
        sample.unlink()
        with Dataset.create_or_resume(tmp_path, {}) as dataset:
            fill(dataset, source, n_samples=12, seed=1, workers=workers)
    check_filled(tmp_path, source, 12, 1)
    assert sample.read_bytes() == old


def test_closing_ends_tasks_at_once_and_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    failures: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    started = time.monotonic()
    with LocalWorkers(1, Sleeper(folder=str(tmp_path))) as workers:
        for index in range(workers.n_tasks):
            workers.submit([Draw(index, 0, index)])
        wait_until(lambda: list(tmp_path.iterdir()))
    assert time.monotonic() - started < 600
    (begun,) = tmp_path.iterdir()
    assert not is_running(int(begun.name.split()[1]))
    assert failures == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX processes")
def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    """Both a busy worker and an idle one end."""
    code = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from coin import Sleeper
from mcrpy_diffusion.materials.samples import Draw
from mcrpy_diffusion.materials.local_workers import LocalWorkers

with LocalWorkers(2, Sleeper(folder={str(tmp_path)!r})) as workers:
    tasks = [workers.submit([Draw(index, 0, index)]) for index in (0, 1)]
    tasks[1].result()
    print("waiting", flush=True)
    tasks[0].result()
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "waiting\n"
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2)
    workers = [int(path.name.split()[1]) for path in tmp_path.iterdir()]
    assert len(set(workers)) == 2
    assert all(map(is_running, workers))
    parent.kill()
    parent.wait()
    wait_until(lambda: not any(map(is_running, workers)))


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    """Worker processes do not run the script again."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, mcrpy_diffusion\n"
        "print('once')\n"
        "made = mcrpy_diffusion.make_material('fibre', sys.argv[1], n_jobs=2, n_training_samples=3)\n"
        "print(made.n_accepted)\n"
    )
    command = [sys.executable, str(script), str(tmp_path / "set")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stdout) == (0, "once\n3\n")


def test_frequent_rejection_of_few_samples_keeps_all_workers_busy(tmp_path: Path) -> None:
    """Attempts at the last sample are made in advance; those after the accepted one are not recorded."""

    class Counting(LocalWorkers):
        n_in_flight = most = 0

        def submit(self, draws):  # type: ignore[no-untyped-def]
            self.n_in_flight += 1
            self.most = max(self.most, self.n_in_flight)
            return super().submit(draws)

        def result(self, future):  # type: ignore[no-untyped-def]
            self.n_in_flight -= 1
            return super().result(future)

    source = Coin(0.08, seconds=0.02)
    with Dataset.create_or_resume(tmp_path, {}) as dataset, Counting(2, source) as workers:
        fill(dataset, source, n_samples=1, seed=5, workers=workers)
    assert check_filled(tmp_path, source, 1, 5).n_tried == 16
    assert workers.most == 5


class Alternating:
    """Rejects each third sample, so the result depends on the order."""

    def __init__(self) -> None:
        self.n = 0

    def reason(self, sample: Sample) -> str:
        return "third" if self.n % 3 == 2 else ""

    def record(self, sample: Sample, accepted: bool) -> None:
        self.n += 1


def test_a_filter_is_called_in_order(tmp_path: Path) -> None:
    source, orders = Coin(0.6, seconds=0.005), []
    for n_workers in (1, 3):
        folder = tmp_path / str(n_workers)
        with Dataset.create_or_resume(folder, {}) as dataset, LocalWorkers(n_workers, source) as workers:
            fill(dataset, source, n_samples=15, seed=3, workers=workers, sample_filter=Alternating())
        lines = Dataset.open(folder).samples
        orders.append([(line["seed"], line["reason"]) for line in lines])
        assert [line["number"] for line in lines] == sorted(line["number"] for line in lines)
        assert sum(line["reason"] == "third" for line in lines) > 2
    assert orders[0] == orders[1]


def test_fast_samples_are_made_in_batches(tmp_path: Path) -> None:
    class Counting(LocalWorkers):
        sizes: list[int] = []

        def submit(self, draws):  # type: ignore[no-untyped-def]
            self.sizes.append(len(draws))
            return super().submit(draws)

    with Dataset.create_or_resume(tmp_path, {}) as dataset, Counting(1, Coin(1.0)) as workers:
        fill(dataset, Coin(1.0), n_samples=600, seed=0, workers=workers)
    assert workers.sizes[0] == 1
    assert max(workers.sizes) == 64
    check_filled(tmp_path, Coin(1.0), 600, 0)


def test_output_of_workers_goes_to_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = Coin(0.7)
    with (
        Dataset.create_or_resume(tmp_path / "set", {}) as dataset,
        LocalWorkers(2, source, log_path=tmp_path / "log") as workers,
    ):
        fill(dataset, source, n_samples=30, seed=0, workers=workers)
    assert capfd.readouterr() == ("", "")
    printed = (tmp_path / "log").read_text()
    for word in ("tossing", "below"):
        assert all(f"{word} {seed}\n" in printed for seed in dataset.tried)
    assert not any(is_running(line["process"]) for line in dataset.samples)


def test_samples_are_rejected_by_their_check(tmp_path: Path) -> None:
    target = Target(2, volume_fraction=np.array([0.5]))
    source = CheckedFunction(structure, target, GenerationSettings(volume_fraction_tolerance=0.06), "structures")
    with Dataset.create_or_resume(tmp_path, {}) as dataset, LocalWorkers(1, source) as workers:
        fill(dataset, source, n_samples=10, seed=0, workers=workers)
        assert np.abs(dataset.load().mean(axis=(1, 2)) - 0.5).max() <= 0.06
        assert set(dataset.counts()) == {"accepted", "volume fraction"}


def with_map(seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return structure(seed), {"grains": structure(seed) + 7}


def test_maps_are_stored(tmp_path: Path) -> None:
    source = CheckedFunction(with_map, Target(2), GenerationSettings())
    with Dataset.create_or_resume(tmp_path, {}) as dataset, LocalWorkers(1, source) as workers:
        fill(dataset, source, n_samples=2, seed=0, workers=workers)
    np.testing.assert_array_equal(np.load(tmp_path / "grains" / "000001.npy"), structure(1) + 7)


def test_too_many_samples_for_the_seeds(tmp_path: Path) -> None:
    with (
        Dataset.create_or_resume(tmp_path, {}) as dataset,
        LocalWorkers(1, Coin()) as workers,
        pytest.raises(InputError, match="at most 1000000, got 1000001"),
    ):
        fill(dataset, Coin(), n_samples=SEEDS_PER_SET + 1, seed=0, workers=workers)


# --- acceptance ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accepted_part", [0.0, 0.01])
def test_a_low_acceptance_rate_is_an_error_with_the_reasons(tmp_path: Path, accepted_part: float) -> None:
    source = Coin(accepted_part)
    for _ in range(2):  # the second call fails at once
        with (
            Dataset.create_or_resume(tmp_path, {}) as dataset,
            LocalWorkers(2, source) as workers,
            pytest.raises(InputError) as caught,
        ):
            fill(dataset, source, n_samples=1000, seed=0, workers=workers)
        counts = dataset.counts()
        for said in (
            f"{dataset.n_accepted} of {dataset.n_tried}",
            f"tails {counts['tails']}",
            "another coin against tails",
        ):
            assert said in str(caught.value)
    assert sum(counts.values()) == dataset.n_tried < 400


def test_number_of_draws_of_the_binomial_test() -> None:
    """The first numbers of draws by the binomial distribution; an acceptance rate of 10 % rarely stops."""
    assert (engine._draws_to_stop(0), engine._draws_to_stop(1), engine._draws_to_stop(2)) == (59, 93, 124)
    for n_accepted in (0, 1, 5, 40):
        n = engine._draws_to_stop(n_accepted)
        assert binom.cdf(n_accepted, n, 0.05) < 0.05 <= binom.cdf(n_accepted, n - 1, 0.05)
    generator, n_stopped = np.random.default_rng(0), 0
    for _ in range(200):
        passed = np.cumsum(generator.random(1000) < 0.1)
        n_stopped += any(n >= engine._draws_to_stop(int(k)) for n, k in enumerate(passed, start=1))
    assert n_stopped <= 4


def test_workers_are_limited_by_samples_cores_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    n_workers = partial(number_of_workers, worker_bytes=1e9)

    def available(n_bytes: int) -> None:
        monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=n_bytes))

    available(2**50)
    assert (n_workers(8, 3), n_workers(2, 100), n_workers(1, 0)) == (3, 2, 1)
    assert n_workers(-1, 10**6) >= 1
    with pytest.raises(InputError, match="n_jobs .*got 0"):
        n_workers(0, 5)
    available(int(3.5e9))
    assert n_workers(8, 100) == 3
    assert n_workers(8, 100, worker_bytes=5e8) == 7
    available(1000)
    assert n_workers(8, 100) == 1


# --- real processes --------------------------------------------------------------------------------------------------

FILLER = """
import sys
sys.path.insert(0, {tests!r})
from coin import Coin
from mcrpy_diffusion.runtime.console import run
from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.materials.engine import fill
from mcrpy_diffusion.materials.local_workers import LocalWorkers

def main():
    source = Coin(0.5, float(sys.argv[2]))
    with Dataset.create_or_resume(sys.argv[1], {{}}) as dataset, LocalWorkers(2, source) as workers:
        fill(dataset, source, n_samples=60, seed=2, workers=workers,
             progress=lambda accepted, rejected: print(accepted, rejected, flush=True))
        dataset.finish()

if __name__ == "__main__":
    sys.exit(run(main))
"""


def start_filler(folder: Path, seconds: float = 0.01) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = [sys.executable, "-c", FILLER.format(tests=str(Path(__file__).parent)), str(folder), str(seconds)]
    return subprocess.Popen(
        code, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill -9 here")
def test_sigkill_loses_and_repeats_no_sample(tmp_path: Path) -> None:
    n_tried = 0
    for _ in range(3):
        process = start_filler(tmp_path)
        assert process.stdout is not None
        for _ in range(12):
            process.stdout.readline()
        with pytest.raises(InputError, match="in use by another process"):
            Dataset.create_or_resume(tmp_path, {})
        process.kill()
        process.communicate()
        dataset = Dataset.open(tmp_path)
        assert dataset.n_tried >= n_tried + 12  # reported samples are recorded
        assert len(dataset.tried) == dataset.n_tried
        n_tried = dataset.n_tried
    process = start_filler(tmp_path)
    _, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, "")
    dataset = check_filled(tmp_path, Coin(0.5), 60, 2)
    assert verify(tmp_path).n_tried == len(dataset.tried)
    workers = {line["process"] for line in dataset.samples}
    wait_until(lambda: not any(map(is_running, workers)))  # also the workers of killed processes


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_all_processes_without_a_traceback(tmp_path: Path) -> None:
    """A terminal sends the signal to the workers as well, even while they start."""
    for n_lines in (0, 3):
        process = start_filler(tmp_path, seconds=0.1)
        assert process.stdout is not None
        wait_until(partial(children, process.pid))
        time.sleep(0.2)  # the interpreters have started, the imports have not finished
        for _ in range(n_lines):
            process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 130
        assert "Traceback" not in errors
    assert Dataset.open(tmp_path).n_tried >= 3


def children(pid: int) -> list[int]:
    """The worker processes of a process, and its resource tracker."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()][1:]


def test_two_processes_cannot_fill_one_folder(tmp_path: Path) -> None:
    first = start_filler(tmp_path, seconds=0.5)
    try:
        assert first.stdout is not None
        first.stdout.readline()
        second = start_filler(tmp_path)
        output, errors = second.communicate(timeout=300)
        assert (second.returncode, output) == (2, "")
        assert "in use by another process" in errors
        assert errors.count("\n") == 1
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()
    Dataset.create_or_resume(tmp_path, {}).close()  # the lock ended with its process


def test_a_crashed_worker_is_an_error_with_advice(tmp_path: Path) -> None:
    with (
        Dataset.create_or_resume(tmp_path, {}) as dataset,
        LocalWorkers(1, Deadly()) as workers,
        pytest.raises(RuntimeError, match="fewer --n_jobs"),
    ):
        fill(dataset, Deadly(), n_samples=5, seed=0, workers=workers)


class Deadly(Coin):
    def make(self, index: int, seed: int) -> Sample:
        os._exit(9)


# --- Dask ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a scheduler with two workers in separate processes, as users start them."""
    pytest.importorskip("distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": path}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", address, "--no-dashboard"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "2", "--no-dashboard"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    processes = [subprocess.Popen(dask, **quiet)]  # type: ignore[call-overload]
    try:
        processes += [subprocess.Popen([*worker, "--no-nanny"], **quiet) for _ in range(2)]  # type: ignore[call-overload]
        yield address
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            try:
                process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def test_a_scheduler_and_two_workers(tmp_path: Path, cluster: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The data set equals that of local workers, although one worker is killed."""
    source, killed = Coin(0.5, seconds=0.01), []

    def kill_one(accepted: int, rejected: int) -> None:
        processes = {line["process"] for line in dataset.samples}
        if len(processes) == 2 and not killed:
            killed.append(min(processes))
            os.kill(killed[0], signal.SIGKILL)

    with (
        Dataset.create_or_resume(tmp_path / "set", {}) as dataset,
        DaskWorkers(cluster, source, log_path=tmp_path / "log") as workers,
    ):
        fill(dataset, source, n_samples=60, seed=5, workers=workers, progress=kill_one)
    assert killed
    assert capfd.readouterr().out == ""
    dataset = check_filled(tmp_path / "set", source, 60, 5)
    assert len({line["process"] for line in dataset.samples}) == 2
    for word in ("tossing", "below"):
        assert all(f"{word} {seed}\n" in (tmp_path / "log").read_text() for seed in dataset.tried)


def test_a_local_cluster(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    source = Coin(0.4)
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=3, processes=False, dashboard_address=None) as cluster,
        Dataset.create_or_resume(tmp_path, {}) as dataset,
        DaskWorkers(cluster.scheduler_address, source) as workers,
    ):
        fill(dataset, source, n_samples=20, seed=0, workers=workers)
    check_filled(tmp_path, source, 20, 0)


def test_unusable_schedulers(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("mcrpy_diffusion.materials.dask_workers._DASK_TIMEOUT", 0.5)
    for address in ("tcp://127.0.0.1:1", "nonsense", "foo://bar"):
        with pytest.raises(InputError, match=f"no Dask scheduler answers at '{address}'") as caught:
            DaskWorkers(address, Coin())
        assert "\n" not in str(caught.value)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        pytest.raises(InputError, match="has no workers; start some: dask worker"),
    ):
        DaskWorkers(cluster.scheduler_address, Coin())
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"Dask is not installed; install mcrpy-diffusion\[dask\]"):
        DaskWorkers("tcp://127.0.0.1:8786", Coin())
