from __future__ import annotations

import gc
import os
import pty
import signal
import subprocess
import sys
import textwrap
import weakref

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from trainkit import Trainer
from trainkit.callbacks import EarlyStopping, ModelCheckpoint, ProgressBar
from trainkit.testing import TinyData, TinyModule


class Scores(TinyModule):
    """Is best in epoch 1."""

    def validation_step(self, batch, batch_idx):
        self.log("score", abs(self.current_epoch - 1.0) + 0.5)


class AtStep:
    """Does something behind an update."""

    def __init__(self, step, do):
        self.step, self.do = step, do

    def on_train_batch_end(self, trainer):
        if trainer.global_step == self.step:
            self.do(trainer)


def report(folder, capsys, *callbacks, module=None, data=None, ckpt_path=None, **arguments):
    """Return the lines that are printed around a fit, and the Trainer."""
    defaults = {"max_epochs": 3, "num_sanity_val_steps": 0, "default_root_dir": folder, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", callbacks=list(callbacks), **defaults | arguments)
    capsys.readouterr()
    try:
        trainer.fit(module or Scores(), data or TinyData(4), TinyData(1), ckpt_path=ckpt_path)
    except (RuntimeError, KeyboardInterrupt, SystemExit):
        assert trainer.interrupted
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if line.startswith(("trainkit", "  "))], trainer


def test_a_fit_tells_where_it_runs_why_it_has_ended_and_how_it_goes_on(tmp_path, capsys):
    lines, _ = report(tmp_path, capsys, logger=False)
    assert lines[0] == "trainkit: Scores on cpu, precision 32-true, strategy single"
    assert lines[1] == "trainkit: training has ended: max_epochs=3 is reached"
    kept = tmp_path / "checkpoints"
    assert lines[-3:] == [
        f"  files     {kept}",
        '  continue  fit(..., ckpt_path="last")',
        f"            with a larger max_epochs, from {kept / 'last.ckpt'}",
    ]


def test_nothing_of_a_fit_that_has_failed_stays_in_memory(tmp_path, capsys):
    class Fails(Scores):
        def training_step(self, batch, batch_idx):
            activations = self.layer(batch[0])
            held.append(weakref.ref(activations))
            raise RuntimeError("out of memory")

    held = []
    _, trainer = report(tmp_path, capsys, module=Fails(), logger=False)
    gc.collect()
    assert held[0]() is None
    assert trainer.interrupted


@pytest.mark.parametrize("how", ["signal", "error"])
def test_a_fit_that_was_interrupted_tells_what_is_done_and_saved(tmp_path, capsys, how):
    def ends(trainer):
        if how == "error":
            raise RuntimeError("no more")
        signal.raise_signal(signal.SIGINT)

    lines, _ = report(tmp_path, capsys, AtStep(6, ends), logger=False)
    assert lines[1].endswith("interrupted by SIGINT" if how == "signal" else "failed with RuntimeError: no more")
    assert lines[2].startswith("  done      1 epoch and 2 batches of the next, 6 steps; ")
    assert lines[-2:] == [
        '  continue  fit(..., ckpt_path="last")',
        f"            from {tmp_path / 'checkpoints' / 'last.ckpt'}",
    ]


def test_the_best_value_is_told_with_its_epoch_and_file(tmp_path, capsys):
    saver = ModelCheckpoint(monitor="score", filename="mine")
    lines, trainer = report(tmp_path, capsys, saver, EarlyStopping("score"))
    assert lines[2].startswith("  done      3 epochs, 12 steps; 0:00; ")
    assert lines[3] == f"  best      score 0.5 in Epoch 2/3 (epoch=1): {saver.best_model_path}"
    assert lines[4] == f"  files     {trainer.log_dir}"
    lines, _ = report(tmp_path, capsys, EarlyStopping("score"))
    assert [line for line in lines if line.startswith("  best")] == ["  best      score 0.5 in Epoch 2/3 (epoch=1)"]


def test_the_best_epoch_is_known_to_a_run_that_goes_on(tmp_path, capsys):
    report(tmp_path, capsys, EarlyStopping("score"), max_epochs=2)
    lines, trainer = report(tmp_path, capsys, EarlyStopping("score"), ckpt_path="last")
    assert (trainer.current_epoch, trainer.global_step) == (3, 12)
    assert lines[2].startswith("  done      3 epochs, 12 steps, 4 of them now; ")
    assert "  best      score 0.5 in Epoch 2/3 (epoch=1)" in lines


def test_a_stop_within_an_epoch_tells_the_batches_of_it(tmp_path, capsys):
    lines, _ = report(tmp_path, capsys, max_steps=5)
    assert lines[2].startswith("  done      1 epoch and 1 batch of the next, 5 steps; ")


def test_no_files_are_named_where_there_are_none(tmp_path, capsys):
    lines, _ = report(tmp_path, capsys, logger=False, enable_checkpointing=False)
    assert [line[:10].strip() for line in lines[2:]] == ["done"]
    lines, _ = report(tmp_path, capsys, fast_dev_run=True)
    assert lines[1:2] == ["trainkit: training has ended: all was tried that fast_dev_run asks for"]
    assert len(lines) == 3


def test_a_run_that_has_nothing_left_to_do_tells_no_figures(tmp_path, capsys):
    report(tmp_path, capsys)
    with pytest.warns(UserWarning, match="nothing is left to train"):
        lines, _ = report(tmp_path, capsys, ckpt_path="last")
    assert len(lines) == 1


def test_a_fit_that_fails_before_training_tells_that(tmp_path, capsys):
    class Fails(Scores):
        def validation_step(self, batch, batch_idx):
            raise RuntimeError("no more")

    lines, _ = report(tmp_path, capsys, module=Fails(), num_sanity_val_steps=1)
    assert lines[1:] == ["trainkit: the fit has ended before training: failed with RuntimeError: no more"]


@pytest.mark.parametrize("shown", [True, False])
def test_how_an_interrupted_fit_goes_on_is_told_once(tmp_path, capfd, shown):
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=shown,
        max_epochs=1,
        default_root_dir=tmp_path,
        callbacks=[AtStep(2, lambda trainer: signal.raise_signal(signal.SIGINT))],
    )
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(TinyModule(), TinyData(4))
    printed = capfd.readouterr()
    assert (printed.out + printed.err).count(str(tmp_path / "checkpoints" / "last.ckpt")) == 1


@pytest.mark.parametrize("quiet", [{"barebones": True}, {"enable_progress_bar": False}, {"callbacks": 0}])
def test_it_is_silent_where_progress_is(tmp_path, capsys, quiet):
    callbacks = [ProgressBar(refresh_rate=0)] if quiet.pop("callbacks", None) == 0 else []
    if quiet.get("barebones"):
        quiet["enable_model_summary"] = None
    assert report(tmp_path, capsys, *callbacks, **quiet)[0] == []


def test_it_is_silent_on_other_ranks(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Trainer, "is_global_zero", property(lambda self: False))
    assert report(tmp_path, capsys, logger=False, enable_checkpointing=False)[0] == []


def test_evaluations_tell_nothing(tmp_path, capsys):
    trainer = report(tmp_path, capsys)[1]
    trainer.validate(Scores(), TinyData(1), verbose=False)
    assert "trainkit" not in capsys.readouterr().out


def test_speed_is_in_samples_where_the_loader_knows_them_and_in_batches_otherwise(tmp_path, capsys):
    assert report(tmp_path, capsys, data=TinyData(4))[0][2].endswith(" batches/s")
    data = TensorDataset(*(torch.cat(parts) for parts in zip(*TinyData(4), strict=True)))
    assert report(tmp_path, capsys, data=DataLoader(data, batch_size=2))[0][2].endswith(" samples/s")


def test_a_second_fit_of_one_trainer_tells_of_itself(tmp_path, capsys):
    trainer = report(tmp_path, capsys, max_epochs=1)[1]
    trainer.max_epochs = 2
    trainer.fit(Scores(), TinyData(4), TinyData(1))
    assert "2 epochs, 8 steps" in capsys.readouterr().out


PROGRAM = """
    import sys
    from trainkit import Trainer
    from trainkit.testing import TinyData, TinyModule
    {before}
    trainer = Trainer(accelerator="cpu", max_epochs=2, logger=False, default_root_dir=sys.argv[1])
    trainer.fit(TinyModule(), TinyData(3))
    print("the program goes on", file=sys.stderr)
"""


def program(before=""):
    return textwrap.dedent(PROGRAM).format(before=before)


def test_in_a_terminal_epochs_and_the_end_remain(tmp_path):
    outer, inner = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", program(), str(tmp_path)],
        stdout=inner,
        stderr=inner,
        env={**environment, "TERM": "xterm-256color", "COLUMNS": "100"},
    )
    os.close(inner)
    written = b""
    while chunk := _read(outer):
        written += chunk
    os.close(outer)
    assert process.wait() == 0
    text = written.decode()
    order = ["trainkit: TinyModule on cpu", "Epoch 1/2: 3/3", "Epoch 2/2: 3/3", "training has ended: max_epochs=2"]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


def _read(outer):
    try:
        return os.read(outer, 65536)
    except OSError:  # on Linux, what the end of the other side is
        return b""


def test_a_stdout_that_is_closed_ends_nothing(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", program("sys.stdout.close()"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "the program goes on" in done.stderr


def test_in_a_notebook_text_remains(tmp_path):
    pytest.importorskip("IPython", reason="needs IPython")
    before = """
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output
    InteractiveShell.instance().kernel = None
    """
    fit = textwrap.dedent(PROGRAM).format(before="").strip().splitlines()
    indented = "\n".join(f"    {line}" for line in fit[3:])
    code = textwrap.dedent(before) + "\n".join(fit[:3]) + "\nwith capture_output() as captured:\n" + indented
    code += "\nprint(captured.stdout)\nprint([output.data['text/plain'] for output in captured.outputs])"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Epoch 2/2: 3/3" in done.stdout
    assert "training has ended: max_epochs=2 is reached" in done.stdout
    assert "''" in done.stdout.splitlines()[-1]  # what the widgets were replaced by
