"""MCRpy from its repository, of which only the differences are imitated: its files' names, progress lines, logging.

Its `cli_main()` and the options' way through it are in test_bridge_commands.py, its options' names in
test_mcrpy_options.py, its reset of the root logger beneath our functions in test_environment.py.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pytest

from mcrpy_diffusion.commands import gui, mcrpy_options
from mcrpy_diffusion.commands import mcrpy_commands as commands
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge import environment, mcrpy_arguments, results

REPOSITORYS_MATCH = """
import argparse, logging, os, pickle, sys, time
import numpy as np
from mcrpy.src import log

def setup_logging(folder, args):
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.setLevel(args.logging_level)
    root.addHandler(logging.StreamHandler(sys.stdout))
    root.addHandler(logging.FileHandler(os.path.join(folder, f"{args.logfile_name}.log")))

def main(args):
    os.makedirs(args.data_folder, exist_ok=True)
    log.setup_logging(args.data_folder, args)
    logging.info("the repository's")
    base = os.path.splitext(os.path.basename(args.microstructure_filenames[0]))[0]
    suffix = "" if args.information is None else f"_{args.information}"
    print(f"\\t{'Time':>8}  {'Iter':>7}  {'Loss':>12}")
    for n in (0, 10, 20):
        print(f"\\t{time.strftime('%H:%M:%S'):>8}  {n:>3}/{args.max_iter:<3}  {0.1 / (n + 1):>12.6e}")
    start = os.path.join(args.data_folder, base)
    np.save(f"{start}_reconstructed{suffix}.npy", np.load(args.microstructure_filenames[0]))
    with open(f"{start}_convergence_data{suffix}.pickle", "wb") as file:
        pickle.dump({"line_data": np.zeros((3, 2))}, file)

def cli_main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--microstructure_filenames", nargs="+")
    parser.add_argument("--data_folder", default="results")
    parser.add_argument("--information")
    parser.add_argument("--max_iter", type=int, default=500)
    parser.add_argument("--ori_repr", default="Rodrigues")
    parser.add_argument("--full_3d", action="store_true")
    parser.add_argument("--logfile_name", default="logfile")
    parser.add_argument("--logging_level", type=int, default=20)
    main(parser.parse_args())

if __name__ == "__main__":
    cli_main()
"""


@pytest.fixture
def repositorys_match(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A module of MCRpy in the form of its repository's match."""
    mcrpy = environment.import_mcrpy(threads=1)
    from mcrpy.src import log

    names: dict[str, object] = {}
    exec(REPOSITORYS_MATCH.split("def main")[0], names)
    monkeypatch.setattr(log, "setup_logging", names["setup_logging"])
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "repositorys_match.py").write_text(REPOSITORYS_MATCH)
    monkeypatch.setattr(mcrpy, "__path__", [*mcrpy.__path__, str(tmp_path / "more")])
    monkeypatch.chdir(tmp_path)
    np.save("sand.npy", np.eye(8, dtype=int))
    return "repositorys_match"


@pytest.mark.parametrize("information", [None, "first"])
def test_its_files_are_found_its_progress_is_read_and_the_log_is_kept(
    repositorys_match: str, capsys: pytest.CaptureFixture[str], information: str | None
) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    words = ["--microstructure_filenames", "sand.npy", "--max_iter", "200", "--method", "descriptor"]
    words += [] if information is None else ["--information", information]
    assert commands._run_with_method(repositorys_match, words) == 0
    assert (root.handlers, root.level) == (handlers, level)
    lines = capsys.readouterr().out.splitlines()
    stripped = [re.search(gui.PROGRESS, line.strip()) for line in lines]  # Gooey strips them before it looks
    assert [(m["current"], m["total"]) for m in stripped if m] == [("0", "200"), ("10", "200"), ("20", "200")]
    structure, convergence = results.result_files("results", "sand", information)
    suffix = "" if information is None else "_first"
    assert (structure.name, convergence.name) == (
        f"sand_reconstructed{suffix}.npy",
        f"sand_convergence_data{suffix}.pickle",
    )
    np.testing.assert_array_equal(np.load(structure), np.eye(8))
    log = Path("results/logfile.log").read_text()
    assert log.splitlines() == [*environment.notes(), "the repository's"]


def test_its_own_options_are_named_with_diffusion(
    repositorys_match: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "more" / "match.py").write_text(REPOSITORYS_MATCH)
    monkeypatch.setattr(mcrpy_arguments, "mcrpy_folder", lambda: tmp_path / "more")
    words = "--method diffusion --microstructure_filenames sand.npy --ori_repr Quaternion --full_3d"
    options = mcrpy_options.parse_for_diffusion("match", words.split(), "mcrpy_match")
    assert options == {"microstructure_filenames": ["sand.npy"], "ignored": ["--ori_repr", "--full_3d"]}


def test_pypis_files_are_found_too(tmp_path: Path) -> None:
    for name in ("last_frame.npy", "convergence_data.pickle", "last_frame_two.npy"):
        (tmp_path / name).touch()
    found = results.result_files(tmp_path, "sand")
    assert [path.name for path in found] == ["last_frame.npy", "convergence_data.pickle"]
    with pytest.raises(InputError, match="sand_reconstructed_two.npy with sand_convergence_data_two.pickle or last_"):
        results.result_files(tmp_path, "sand", "two")
