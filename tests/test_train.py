"""Training: it learns, it resumes bit for bit, it refuses to mix."""

from __future__ import annotations

import functools
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.models.checkpoint import ModelInfo, read_info
from mcrpy_diffusion.models.model import load_model
from mcrpy_diffusion.runtime.parallel import make_accelerator
from mcrpy_diffusion.settings import TrainingSettings
from mcrpy_diffusion.training import train as training
from mcrpy_diffusion.training.data import TrainingData, all_volume_fractions
from mcrpy_diffusion.training.log import COLUMNS, read_log
from mcrpy_diffusion.training.run import TrainingRun, learning_rate, stratified_timesteps
from mcrpy_diffusion.training.state import read_state, states
from mcrpy_diffusion.training.train import read_history, train

TINY = TrainingSettings(
    channels=8,
    channel_multipliers=(1, 2),
    n_residual_blocks=1,
    attention_levels=(),
    dropout=0.1,
    n_timesteps=100,
    n_training_steps=12,
    batch_size=4,
    warmup_steps=2,
    checkpoint_seconds=0.0,
    precision="float32",
)


def stripes(n=20, size=8, seed=0):
    """Vertical stripes of period 4 with a random phase: one number describes an image."""
    offsets = np.random.default_rng(seed).integers(0, 4, n)
    columns = (np.arange(size)[None] + offsets[:, None]) % 4 < 2
    return np.repeat(columns[:, None], size, axis=1).astype(np.uint8)


def data(phases=None, **provenance):
    phases = stripes() if phases is None else phases
    return TrainingData(phases, n_phases=int(phases.max()) + 1, periodic=True, isotropic=False, provenance=provenance)


class Killed(Exception):
    """Stands for kill -9."""


@pytest.mark.parametrize(
    ("prediction", "conditioned", "changes"),
    [
        ("epsilon", False, {}),
        ("log_odds", True, {"self_condition": True, "skip_high_snr": True, "loss": "likelihood"}),
        ("v", False, {}),
    ],
)
def test_a_killed_run_continued_equals_an_uninterrupted_one_bit_for_bit(tmp_path, prediction, conditioned, changes):
    settings = replace(
        TINY,
        prediction=prediction,
        condition_on_volume_fraction=conditioned,
        learned_variance=not conditioned,
        **changes,
    )
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = train(data(), settings, tmp_path / "whole")

    def kill(step, loss):
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(data(), settings, tmp_path / "parts", on_step=kill)
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    seen = []
    parts = train(data(), settings, tmp_path / "parts", on_step=lambda step, loss: seen.append(step))
    assert seen == list(range(5, 13))  # the state of step 4 was the last one on disk
    a, b = load_file(whole), load_file(parts)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert read_history(tmp_path / "whole") == read_history(tmp_path / "parts")


def test_a_small_network_learns_stripes(tmp_path):
    settings = replace(
        TINY,
        channels=16,
        dropout=0.0,
        prediction="v",
        schedule="cosine",
        learned_variance=False,
        learning_rate=2e-3,
        learning_rate_schedule="cosine",
        n_training_steps=250,
        batch_size=16,
        ema_decay=0.98,
        condition_on_volume_fraction=True,
    )
    settings = replace(settings, checkpoint_seconds=1e9)
    model = load_model(train(data(), settings, tmp_path))
    images = model.sample(16, n_steps=20)
    same_in_each_column = (images == images[:, :1]).mean()
    assert same_in_each_column > 0.95
    assert abs(images.mean() - 0.5) < 0.05
    assert len({tuple(image[0]) for image in images}) >= 3  # not always the same offset
    history = read_history(tmp_path)
    assert history[-1][1] < 0.5 * history[0][1]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"learning_rate": 5e-4}, "learning_rate: 0.0001 -> 0.0005"),
        ({"seed": 3}, "seed: 0 -> 3"),
        ({"n_training_steps": 14}, "n_training_steps: 12 -> 14"),
    ],
)
def test_changed_settings_are_named_and_refused(tmp_path, change, named):
    train(data(), TINY, tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match=named):
        train(data(), replace(TINY, **change), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=named):
        train(data(), replace(TINY, **change), tmp_path)
    assert before
    with pytest.raises(InputError, match="reference_sha256: None -> 'other'"):
        train(data(reference_sha256="other"), TINY, tmp_path)


def test_a_finished_model_is_not_trained_again(tmp_path):
    train(data(), TINY, tmp_path)
    train(data(), TINY, tmp_path, on_step=lambda step, loss: pytest.fail("trained again"))


def test_the_model_carries_its_settings(tmp_path):
    settings = replace(TINY, condition_on_volume_fraction=True)
    info = read_info(train(data(origin="stripes"), settings, tmp_path))
    assert info.settings == settings
    assert (info.n_phases, info.extent, info.periodic, info.step) == (2, (8, 8), True, 12)
    assert info.provenance == {"origin": "stripes"}
    assert info.conditions == [[0.5]] * 20


def test_a_loss_that_is_not_finite_stops_with_the_step_and_a_hint(tmp_path, monkeypatch):
    class Exploding(TrainingRun):
        def loss(self, *batch):
            return super().loss(*batch) * (float("inf") if self.step == 3 else 1.0)

    monkeypatch.setattr(training, "TrainingRun", Exploding)
    with pytest.raises(FloatingPointError, match=r"at step 4; .*step_00000003\.pt: try a smaller learning_rate"):
        train(data(), TINY, tmp_path)
    monkeypatch.undo()
    # nothing of the bad step was kept
    train(data(), TINY, tmp_path)
    (tmp_path / "fresh").mkdir()
    train(data(), TINY, tmp_path / "fresh")
    ours, fresh = (load_file(folder / "model.safetensors") for folder in (tmp_path, tmp_path / "fresh"))
    assert all(torch.equal(ours[k], fresh[k]) for k in ours)


def test_a_damaged_state_is_passed_over_and_no_good_one_is_named(tmp_path, caplog):
    settings = replace(TINY, keep_checkpoints=3)

    def kill(step, loss):
        if step == 6:
            raise Killed

    with pytest.raises(Killed):
        train(data(), settings, tmp_path, on_step=kill)
    newest = states(tmp_path)[-1]
    newest.write_bytes(b"no state")
    seen = []
    train(data(), settings, tmp_path, on_step=lambda step, loss: seen.append(step))
    assert seen[0] == 5  # from step 4: that of step 5, the newest, is damaged
    assert f"{newest.name}: not a readable training state" in caplog.text
    (tmp_path / "model.safetensors").unlink()
    for path in states(tmp_path):
        path.write_bytes(b"no state")
    with pytest.raises(InputError, match="no readable training state"):
        train(data(), settings, tmp_path)


def test_three_phases_and_grey_values_can_be_trained(tmp_path):
    three = stripes() + (np.arange(8) < 2)[None, :, None].astype(np.uint8)
    (tmp_path / "three").mkdir()
    (tmp_path / "grey").mkdir()
    settings = replace(TINY, condition_on_volume_fraction=True)
    images = load_model(train(data(three), settings, tmp_path / "three")).sample(2, n_steps=3)
    assert images.dtype == np.uint8
    assert images.max() <= 2
    grey = TrainingData(stripes() * np.float32(0.7), 0, True, False, {})
    images = load_model(train(grey, settings, tmp_path / "grey")).sample(2, n_steps=3)
    assert images.dtype == np.float32
    assert 0 <= images.min() <= images.max() <= 1


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_train import TINY, data
from dataclasses import replace
from mcrpy_diffusion.training.train import train
settings = replace(TINY, n_training_steps=100000, checkpoint_seconds=1e9)
train(data(), settings, Path({folder!r}), on_step=lambda step, loss: print(step, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state_of_a_whole_step(tmp_path, number):
    script = SCRIPT.format(tests=os.path.dirname(__file__), folder=str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "3":
            process.send_signal(number)
            break
    rest, errors = process.communicate(timeout=600)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
    last = int(rest.split()[-1]) if rest.split() else 3
    assert read_state(states(tmp_path)[-1])["step"] == last


def test_timesteps_are_spread_evenly_and_uniform():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([stratified_timesteps(8, 1000, generator) for _ in range(500)])
    assert bool((drawn.diff(dim=1) >= 124).all())
    counts = torch.bincount(drawn.flatten() // 100, minlength=10)
    np.testing.assert_allclose(counts / counts.sum(), 0.1, atol=0.02)


def test_the_learning_rate_warms_up_and_falls_to_a_fiftieth():
    settings = replace(TINY, n_training_steps=100, warmup_steps=10, learning_rate_schedule="cosine")
    rates = [learning_rate(step, settings) for step in range(100)]
    assert rates[0] == pytest.approx(1e-5)
    assert max(rates) == pytest.approx(1e-4, rel=0.05)
    assert rates[-1] == pytest.approx(2e-6, rel=0.05)
    assert learning_rate(99, replace(settings, learning_rate_schedule="constant")) == 1e-4


def trained(folder, settings, **arguments):
    folder.mkdir()
    return load_file(train(data(), settings, folder, device="cpu", **arguments))


@pytest.mark.parametrize("conditioned", [True, False])
def test_a_batch_in_parts_gives_the_same_result(tmp_path, conditioned):
    settings = replace(TINY, dropout=0.0, condition_on_volume_fraction=conditioned)
    whole = trained(tmp_path / "whole", settings)
    parts = trained(tmp_path / "parts", replace(settings, gradient_accumulation=4))
    for k in whole:
        torch.testing.assert_close(parts[k], whole[k], rtol=1e-4, atol=2e-4)  # Adam blows up rounding
    losses = [[loss for _, loss in read_history(tmp_path / name)] for name in ("whole", "parts")]
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_batch_that_cannot_be_shared_evenly_is_refused(tmp_path):
    with pytest.raises(InputError, match="batch_size must be a multiple of 3 .*got 4"):
        train(data(), replace(TINY, gradient_accumulation=3), tmp_path)


def test_the_last_checkpoints_are_kept_and_can_be_sampled_from(tmp_path):
    settings = replace(TINY, checkpoint_seconds=1e9, checkpoint_steps=3, keep_checkpoints=2)
    model = load_model(train(data(), settings, tmp_path))
    assert [path.name for path in states(tmp_path)] == ["step_00000009.pt", "step_00000012.pt"]
    last, before = (load_model(path) for path in states(tmp_path)[::-1])
    np.testing.assert_array_equal(last.sample(2, n_steps=5), model.sample(2, n_steps=5))
    assert (last.info.settings, last.info.step, before.info.step) == (settings, 12, 9)


def test_the_log_has_a_line_per_ten_steps_and_goes_on_after_a_kill(tmp_path):
    settings = replace(TINY, n_training_steps=40, checkpoint_seconds=1e9, checkpoint_steps=15)

    def kill(step, loss):
        if step == 29:  # the last state is that of step 15: the line of step 20 is written anew
            raise Killed

    with pytest.raises(Killed):
        train(data(), settings, tmp_path, on_step=kill)
    assert [line["step"] for line in read_log(tmp_path)] == [10, 20]
    with (tmp_path / "training_log.csv").open("a") as file:
        file.write("40,0.1")  # cut off in the middle
    train(data(), settings, tmp_path)
    lines = read_log(tmp_path)
    assert [line["step"] for line in lines] == [10, 20, 30, 40]
    np.testing.assert_allclose(
        [line["loss"] for line in lines], [loss for _, loss in read_history(tmp_path)], rtol=1e-5
    )
    for line in lines:
        assert tuple(line) == COLUMNS
        assert line["gradient_norm"] > 0
        assert line["images_per_second"] > 0
        assert 0.1 < line["memory_gib"] < 20
        assert line["learning_rate"] == pytest.approx(settings.learning_rate)


def test_previews_show_eight_structures_and_change_nothing(tmp_path):
    from PIL import Image

    plain = trained(tmp_path / "plain", TINY)
    drawn = trained(tmp_path / "drawn", replace(TINY, preview_steps=6, condition_on_volume_fraction=False))
    assert all(torch.equal(plain[k], drawn[k]) for k in plain)
    pictures = sorted((tmp_path / "drawn" / "previews").glob("*.png"))
    assert [path.name for path in pictures] == ["00000006.png", "00000012.png"]
    pixels = np.asarray(Image.open(pictures[0]))
    assert pixels.shape == (8, 8 * (8 + 4))
    assert set(np.unique(pixels)) <= {0, 128, 255}


def test_tensorboard_holds_the_log(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(data(), replace(TINY, tensorboard=True), tmp_path)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [
        (10, pytest.approx(read_log(tmp_path)[0]["loss"], rel=1e-4))
    ]


def test_a_compiled_network_learns_the_same(tmp_path, monkeypatch):
    """The graphs of the network, which the back end then turns into machine code in minutes, are the network."""
    graphs = functools.partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", graphs)
    settings = replace(TINY, dropout=0.0, n_training_steps=3, channel_multipliers=(1,))
    plain, compiled = trained(tmp_path / "a", settings), trained(tmp_path / "b", replace(settings, compile=True))
    assert plain.keys() == compiled.keys()
    for k in plain:
        torch.testing.assert_close(compiled[k], plain[k], rtol=1e-4, atol=2e-4)


def test_the_memory_is_named_before_the_run(tmp_path, caplog):
    with caplog.at_level("INFO", logger="mcrpy_diffusion.training"):
        train(data(), TINY, tmp_path)
    line = next(r.getMessage() for r in caplog.records if r.getMessage().startswith("memory: "))
    assert re.fullmatch(r"memory: training needs about 0\.\d\d GiB, \d+\.\d GiB are free", line)


def test_too_little_memory_is_warned_of_and_running_out_is_one_line_with_advice(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("mcrpy_diffusion.training.run.available_memory", lambda device: 1000)
    train(data(), TINY, tmp_path)
    assert "may be too much: try gradient_accumulation 2" in caplog.text
    (tmp_path / "other").mkdir()
    monkeypatch.setattr(TrainingRun, "do_step", lambda self, stop: torch.empty(2**60, dtype=torch.uint8))
    with pytest.raises(InputError, match="out of memory: try gradient_accumulation 2 .* below 4"):
        train(data(), TINY, tmp_path / "other")


def test_without_augmentation_every_batch_holds_training_images_as_they_are(tmp_path):
    images = data(np.random.default_rng(0).integers(2, size=(6, 8, 8)).astype(np.uint8))
    for augmentation in (True, False):
        settings = replace(TINY, augmentation=augmentation, batch_size=32)
        info = ModelInfo(settings, n_phases=2, extent=(8, 8), periodic=True)
        fractions = all_volume_fractions(images)
        run = TrainingRun(images, info, make_accelerator("cpu"), fractions)
        x_0 = run.draw_batch(torch.Generator().manual_seed(0))[0]
        there = (x_0[:, None, 0] > 0).eq(torch.from_numpy(images.phases > 0)[None]).all(dim=(2, 3)).any(dim=1)
        assert bool(there.all()) != augmentation


def test_a_state_from_before_a_setting_was_there_goes_on_with_its_default(tmp_path):
    def kill(step, loss):
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(data(), TINY, tmp_path, on_step=kill)
    newest = states(tmp_path)[-1]
    state = read_state(newest)
    del state["info"]["settings"]["augmentation"]
    torch.save(state, newest)
    with pytest.raises(InputError, match="augmentation: True -> False"):
        train(data(), replace(TINY, augmentation=False), tmp_path)
    seen = []
    train(data(), TINY, tmp_path, on_step=lambda step, loss: seen.append(step))
    assert seen[0] == state["step"] + 1
