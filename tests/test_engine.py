"""The engine of the data factory: seeds decide alone, refused samples are drawn again, processes may be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from coin import CheckedFunction, Coin, structure, who
from scipy.stats import binom

from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.data.dataset_check import verify
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials import engine
from mcrpy_diffusion.materials.acceptance import Target
from mcrpy_diffusion.materials.engine import fill
from mcrpy_diffusion.materials.samples import MAX_DRAWS, SEEDS_PER_SET, Sample, draw_seed
from mcrpy_diffusion.materials.workers import WORKER_BYTES, DaskWorkers, LocalWorkers, number_of_workers
from mcrpy_diffusion.settings import GenerationSettings

ROOT = Path(__file__).parents[1]


def expected_draws(source: Coin, n_samples: int, seed: int) -> dict[int, str]:
    """Each seed that has to be tried, and what becomes of it, by the rule and nothing else."""
    draws = {}
    for index in range(n_samples):
        for attempt in range(MAX_DRAWS):
            number = draw_seed(seed, index, attempt)
            draws[number] = source.make(index, number).reason or "accepted"
            if draws[number] == "accepted":
                break
    return draws


def check_filled(folder: Path, source: Coin, n_samples: int, seed: int) -> Dataset:
    """What is on disk is what the rule says, whoever made it."""
    dataset = Dataset.open(folder)
    assert {line["seed"]: line["reason"] for line in dataset.samples} == expected_draws(source, n_samples, seed)
    assert dataset.accepted == list(range(n_samples))
    for line in dataset.samples:
        if line["accepted"]:
            assert line["index"] == line["number"]
            np.testing.assert_array_equal(dataset.sample(line["index"]), structure(line["seed"]))
    return dataset


def warm_up(workers: LocalWorkers, n_workers: int) -> None:
    """Wait until so many processes are at work."""
    seen: set[int] = set()
    while len(seen) < n_workers:
        seen |= {future.result() for future in [workers._submit(who) for _ in range(n_workers)]}


# --- seeds -----------------------------------------------------------------------------------------------------------


def test_sample_i_is_drawn_from_seed_i() -> None:
    assert [draw_seed(0, i, 0) for i in range(3)] == [0, 1, 2]
    assert [draw_seed(2, i, 0) for i in range(3)] == [2 * SEEDS_PER_SET + i for i in range(3)]
    assert len({draw_seed(0, 5, a) for a in range(MAX_DRAWS)}) == MAX_DRAWS
    assert all(0 <= draw_seed(4000, SEEDS_PER_SET - 1, a) < 2**32 for a in range(MAX_DRAWS))


def test_no_two_draws_of_a_set_share_a_seed() -> None:
    """The first seeds of the attempts lie, around the circle of 2**32, at least a whole set apart."""
    starts = np.sort([draw_seed(0, 0, attempt) for attempt in range(MAX_DRAWS)])
    gaps = np.diff([*starts, starts[0] + 2**32])
    assert gaps.min() >= SEEDS_PER_SET
    assert np.diff(np.sort([draw_seed(0, 0, a) for a in range(2 * MAX_DRAWS)])).min() < SEEDS_PER_SET  # a real limit


# --- filling ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accepted_part", [1.0, 0.3])
def test_what_is_made_does_not_depend_on_the_number_of_workers(tmp_path: Path, accepted_part: float) -> None:
    source = Coin(accepted_part, seconds=0.005)
    made = []
    for n_workers in (1, 3):
        folder, seen = tmp_path / str(n_workers), []
        with Dataset.create_or_resume(folder, {}) as dataset, LocalWorkers(n_workers) as workers:
            warm_up(workers, n_workers)
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
        assert dataset.counts()["accepted"] == 40
        made.append(dataset.load())
    np.testing.assert_array_equal(*made)


def test_a_set_grows_where_it_stopped(tmp_path: Path) -> None:
    source = Coin(0.5)
    with LocalWorkers(2) as workers:
        for n_samples in (5, 12, 12):
            with Dataset.create_or_resume(tmp_path, {}) as dataset:
                before = dataset.n_tried
                fill(dataset, source, n_samples=n_samples, seed=1, workers=workers)
            check_filled(tmp_path, source, n_samples, 1)
        assert before == dataset.n_tried  # nothing was left to do
        sample = tmp_path / "samples" / "000003.npy"
        old = sample.read_bytes()
        sample.unlink()
        with Dataset.create_or_resume(tmp_path, {}) as dataset:
            fill(dataset, source, n_samples=12, seed=1, workers=workers)
    check_filled(tmp_path, source, 12, 1)
    assert sample.read_bytes() == old


def test_ending_while_tasks_wait_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loky's thread fails, with a traceback on the terminal, if it is ended before it has passed all tasks on."""
    failures: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    for _ in range(3):
        with LocalWorkers(1) as workers:
            warm_up(workers, 1)
            for _ in range(workers.n_tasks):
                workers._submit(time.sleep, 0.2)
    assert failures == []


def test_few_samples_that_are_mostly_refused_keep_all_workers_busy(tmp_path: Path) -> None:
    """Of the last sample, further attempts are made in advance; none beyond the accepted one is recorded."""

    class Counting(LocalWorkers):
        n_in_flight = most = 0

        def submit(self, source, draws):  # type: ignore[no-untyped-def]
            self.n_in_flight += 1
            self.most = max(self.most, self.n_in_flight)
            return super().submit(source, draws)

        def result(self, future):  # type: ignore[no-untyped-def]
            self.n_in_flight -= 1
            return super().result(future)

    source = Coin(0.08, seconds=0.02)
    with Dataset.create_or_resume(tmp_path, {}) as dataset, Counting(2) as workers:
        fill(dataset, source, n_samples=1, seed=5, workers=workers)
    assert check_filled(tmp_path, source, 1, 5).n_tried == 16
    assert workers.most == 5


class Alternating:
    """Refuses every third sample that it is asked about: its answers depend on the order."""

    def __init__(self) -> None:
        self.n = 0

    def reason(self, sample: Sample) -> str:
        return "third" if self.n % 3 == 2 else ""

    def record(self, sample: Sample, accepted: bool) -> None:
        self.n += 1


def test_a_judge_sees_the_samples_in_their_order(tmp_path: Path) -> None:
    source, orders = Coin(0.6, seconds=0.005), []
    for n_workers in (1, 3):
        folder = tmp_path / str(n_workers)
        with Dataset.create_or_resume(folder, {}) as dataset, LocalWorkers(n_workers) as workers:
            fill(dataset, source, n_samples=15, seed=3, workers=workers, judge=Alternating())
        lines = Dataset.open(folder).samples
        orders.append([(line["seed"], line["reason"]) for line in lines])
        assert [line["number"] for line in lines] == sorted(line["number"] for line in lines)
        assert sum(line["reason"] == "third" for line in lines) > 2
    assert orders[0] == orders[1]


def test_quick_samples_are_made_several_at_once(tmp_path: Path) -> None:
    class Counting(LocalWorkers):
        sizes: list[int] = []

        def submit(self, source, draws):  # type: ignore[no-untyped-def]
            self.sizes.append(len(draws))
            return super().submit(source, draws)

    with Dataset.create_or_resume(tmp_path, {}) as dataset, Counting(1) as workers:
        fill(dataset, Coin(1.0), n_samples=600, seed=0, workers=workers)
    assert workers.sizes[0] == 1
    assert max(workers.sizes) == 64
    check_filled(tmp_path, Coin(1.0), 600, 0)


def test_workers_are_replaced_and_their_output_goes_to_the_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    source = Coin(0.7, seconds=0.01)
    with (
        Dataset.create_or_resume(tmp_path / "set", {}) as dataset,
        LocalWorkers(2, log_path=log, environment=source.environment, recycle_after=10) as workers,
    ):
        fill(dataset, source, n_samples=30, seed=0, workers=workers)
    assert capfd.readouterr() == ("", "")
    dataset = check_filled(tmp_path / "set", source, 30, 0)
    of_process = [line["process"] for line in dataset.samples]
    assert len(set(of_process)) >= 4
    assert max(of_process.count(process) for process in of_process) <= 20 + 5  # two workers may share unevenly
    assert all(f"tossing {seed}" in log.read_text() for seed in dataset.tried)
    for process in set(of_process):
        assert not is_running(process)


def test_checked_functions_are_refused_by_the_check(tmp_path: Path) -> None:
    target = Target(2, volume_fraction=np.array([0.5]))
    source = CheckedFunction(structure, target, GenerationSettings(volume_fraction_tolerance=0.06), "structures")
    with Dataset.create_or_resume(tmp_path, {}) as dataset, LocalWorkers(1) as workers:
        fill(dataset, source, n_samples=10, seed=0, workers=workers)
        assert np.abs(dataset.load().mean(axis=(1, 2)) - 0.5).max() <= 0.06
        assert set(dataset.counts()) == {"accepted", "volume fraction"}


def with_map(seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    return structure(seed), {"grains": structure(seed) + 7}


def test_maps_of_a_function_are_kept(tmp_path: Path) -> None:
    source = CheckedFunction(with_map, Target(2), GenerationSettings())
    with Dataset.create_or_resume(tmp_path, {}) as dataset, LocalWorkers(1) as workers:
        fill(dataset, source, n_samples=2, seed=0, workers=workers)
    np.testing.assert_array_equal(np.load(tmp_path / "grains" / "000001.npy"), structure(1) + 7)


def test_too_many_samples_for_the_seeds(tmp_path: Path) -> None:
    with (
        Dataset.create_or_resume(tmp_path, {}) as dataset,
        LocalWorkers(1) as workers,
        pytest.raises(InputError, match="1000001 samples were asked for; allowed are 1000000"),
    ):
        fill(dataset, Coin(), n_samples=SEEDS_PER_SET + 1, seed=0, workers=workers)


# --- acceptance ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accepted_part", [0.0, 0.01])
def test_a_recipe_that_hardly_ever_passes_stops_with_the_reasons(tmp_path: Path, accepted_part: float) -> None:
    source = Coin(accepted_part)
    for _ in range(2):  # run again, it knows
        with (
            Dataset.create_or_resume(tmp_path, {}) as dataset,
            LocalWorkers(2) as workers,
            pytest.raises(InputError) as caught,
        ):
            fill(dataset, source, n_samples=1000, seed=0, workers=workers)
        counts = dataset.counts()
        said = f"only {dataset.n_accepted} of {dataset.n_tried} coins passed their check; refused for: "
        said += f"tails {counts['tails']}, edge {counts['edge']}; what helps: another coin against tails"
        assert str(caught.value) == said
    assert sum(counts.values()) == dataset.n_tried < 400


def test_a_recipe_stops_only_where_it_surely_passes_too_rarely() -> None:
    """The first numbers of draws, by the binomial distribution summed by hand; chance alone hardly stops 10 %."""
    assert (engine._draws_to_refuse(0), engine._draws_to_refuse(1), engine._draws_to_refuse(2)) == (59, 93, 124)
    for n_accepted in (0, 1, 5, 40):
        n = engine._draws_to_refuse(n_accepted)
        assert binom.cdf(n_accepted, n, 0.05) < 0.05 <= binom.cdf(n_accepted, n - 1, 0.05)
    generator, n_stopped = np.random.default_rng(0), 0
    for _ in range(200):
        passed = np.cumsum(generator.random(1000) < 0.1)
        n_stopped += any(n >= engine._draws_to_refuse(int(k)) for n, k in enumerate(passed, start=1))
    assert n_stopped <= 4


def test_no_more_workers_than_samples_cores_and_memory_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    n_workers = number_of_workers

    def available(n_bytes: int) -> None:
        monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=n_bytes))

    available(2**50)
    assert (n_workers(8, 3), n_workers(2, 100), n_workers(1, 0)) == (3, 2, 1)
    assert n_workers(-1, 10**6) >= 1
    with pytest.raises(InputError, match="n_jobs is 0"):
        n_workers(0, 5)
    available(int(3.5 * WORKER_BYTES))
    assert n_workers(8, 100) == 3
    assert n_workers(8, 100, WORKER_BYTES / 2) == 7
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
from mcrpy_diffusion.materials.workers import LocalWorkers

def main():
    with Dataset.create_or_resume(sys.argv[1], {{}}) as dataset, LocalWorkers(2) as workers:
        fill(dataset, Coin(0.5, float(sys.argv[2])), n_samples=60, seed=2, workers=workers,
             progress=lambda accepted, rejected: print(accepted, rejected, flush=True))
        dataset.finish()

if __name__ == "__main__":
    sys.exit(run(main))
"""


def start_filler(folder: Path, seconds: float = 0.01) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = [sys.executable, "-c", FILLER.format(tests=str(Path(__file__).parent)), str(folder), str(seconds)]
    return subprocess.Popen(code, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no kill -9 here")
def test_kill_9_in_the_middle_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    n_tried = 0
    for _ in range(3):
        process = start_filler(tmp_path)
        assert process.stdout is not None
        for _ in range(12):
            process.stdout.readline()
        with pytest.raises(InputError, match=f"written by another process .number {process.pid}"):
            Dataset.create_or_resume(tmp_path, {})
        process.kill()
        process.communicate()
        dataset = Dataset.open(tmp_path)
        assert dataset.n_tried >= n_tried + 12  # what was said to be there is there
        assert len(dataset.tried) == dataset.n_tried
        n_tried = dataset.n_tried
    process = start_filler(tmp_path)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    dataset = check_filled(tmp_path, Coin(0.5), 60, 2)
    assert verify(tmp_path).n_tried == len(dataset.tried)
    workers = {line["process"] for line in dataset.samples}
    deadline = time.monotonic() + 10
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, workers))  # those of killed processes too


def test_two_processes_on_one_folder_refuse_each_other(tmp_path: Path) -> None:
    first = start_filler(tmp_path, seconds=0.5)
    try:
        assert first.stdout is not None
        first.stdout.readline()
        second = start_filler(tmp_path)
        output, errors = second.communicate(timeout=60)
        assert (second.returncode, output) == (2, "")
        assert errors == (
            f"error: {str(tmp_path)!r} is being written by another process (number {first.pid}); "
            "wait for it, stop it, or give another folder\n"
        )
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()
    Dataset.create_or_resume(tmp_path, {}).close()  # the lock has gone with its process


def test_a_dead_worker_ends_the_work_with_advice(tmp_path: Path) -> None:
    with (
        Dataset.create_or_resume(tmp_path, {}) as dataset,
        LocalWorkers(1) as workers,
        pytest.raises(RuntimeError, match="fewer --n_jobs, the same command continues"),
    ):
        fill(dataset, Deadly(), n_samples=5, seed=0, workers=workers)


class Deadly(Coin):
    def make(self, index: int, seed: int) -> Sample:
        os._exit(9)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- Dask ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster() -> Iterator[str]:
    """The address of a scheduler with two workers, each a process of its own, as users start them."""
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
    """The same set as from processes of our own, one of the workers being killed on the way."""
    source, killed = Coin(0.5, seconds=0.01), []

    def kill_one(accepted: int, rejected: int) -> None:
        processes = {line["process"] for line in dataset.samples}
        if len(processes) == 2 and not killed:
            killed.append(min(processes))
            os.kill(killed[0], signal.SIGKILL)

    with (
        Dataset.create_or_resume(tmp_path / "set", {}) as dataset,
        DaskWorkers(cluster, log_path=tmp_path / "log") as workers,
    ):
        assert workers.call(structure, 3).tolist() == structure(3).tolist()
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
        DaskWorkers(cluster.scheduler_address) as workers,
    ):
        fill(dataset, source, n_samples=20, seed=0, workers=workers)
    check_filled(tmp_path, source, 20, 0)


def test_schedulers_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("mcrpy_diffusion.materials.workers._DASK_TIMEOUT", 0.5)
    for address in ("tcp://127.0.0.1:1", "nonsense", "foo://bar"):
        with pytest.raises(InputError, match=f"no Dask scheduler answers at '{address}'") as caught:
            DaskWorkers(address)
        assert "\n" not in str(caught.value)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        pytest.raises(InputError, match="has no workers; start some: dask worker"),
    ):
        DaskWorkers(cluster.scheduler_address)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"Dask is not installed; install mcrpy-diffusion\[dask\]"):
        DaskWorkers("tcp://127.0.0.1:8786")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX processes")
def test_a_worker_ends_when_its_parent_is_killed() -> None:
    code = (
        "import os, subprocess, sys, time\n"
        "child = 'import os; from mcrpy_diffusion.materials.workers import _end_with_parent; '\n"
        "child += '_end_with_parent(os.getppid())'\n"
        "print(subprocess.Popen([sys.executable, '-c', child]).pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    time.sleep(2)  # the child has asked for its parent by now
    os.kill(child, 0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        if not is_running(child):
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the child outlived its parent")
