from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.clock import Clock
from tests.profilers import measured_ranks as script
from trainkit.callbacks import CSVLogger
from trainkit.errors import ConfigError
from trainkit.hooks import stopwatch
from trainkit.profilers import SimpleProfiler, TorchProfiler
from trainkit.profilers.simple import measure_time
from trainkit.testing import TinyData, TinyModule, quiet_trainer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stopwatch, "perf_counter", clock)
    return clock


class Slow(TinyModule):
    """Takes a second for a step, 10 for its validation, and 100 to begin."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.clock.now += 1.0
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.clock.now += 10.0

    def on_fit_start(self) -> None:
        self.clock.now += 100.0


class Saves:
    def __init__(self, clock: Clock, path: Path) -> None:
        self.clock, self.path = clock, path

    def on_train_batch_end(self, trainer: Any, batch_idx: int) -> None:
        self.clock.now += 0.5
        if batch_idx == 2:
            trainer.save_checkpoint(self.path)

    def on_save_checkpoint(self) -> None:
        self.clock.now += 1000.0

    @contextmanager
    def on_nothing(self) -> Iterator[None]:
        yield


def test_each_second_is_in_the_share_that_it_belongs_to(clock: Clock, tmp_path: Path) -> None:
    class Waits(TinyData):
        def __iter__(self) -> Any:
            for batch in super().__iter__():
                clock.now += 0.25
                yield batch

    trainer = quiet_trainer(max_epochs=2, profiler="simple", callbacks=[Saves(clock, tmp_path / "a.ckpt")])
    trainer.fit(Slow(clock), Waits(4), TinyData(3))
    ledger = trainer.timing
    assert ledger is not None
    assert {share.name: share.seconds for share in ledger.shares} == {
        "waiting for data": 2.0,
        "forward": 8.0,
        "evaluation": 60.0,
        "callbacks": 100.0 + 8 * 0.5 + 2 * 1000.0,
    }
    rows = {(row.plugin, row.hook): (row.calls, row.seconds) for row in ledger.rows if row.seconds}
    assert rows == {
        ("Slow", "on_fit_start"): (1, 100.0),
        ("Saves", "on_train_batch_end"): (8, 4.0),
        ("Saves", "on_save_checkpoint"): (2, 2000.0),
    }
    assert ledger.seconds == clock.now


def test_each_call_has_a_ledger_of_its_own(clock: Clock) -> None:
    trainer = quiet_trainer(max_epochs=1, plugins={"timing": True})
    module = Slow(clock)
    trainer.fit(module, TinyData(5))
    assert trainer.timing is not None and trainer.timing.seconds == 105.0
    trainer.validate(module, TinyData(2), verbose=False)
    assert (trainer.timing.stage, trainer.timing.seconds, trainer.timing.steps) == ("validate", 20.0, 0)
    trainer.max_epochs = 2
    trainer.fit(module, TinyData(3))
    assert (trainer.timing.seconds, trainer.timing.steps) == (103.0, 3)


def test_a_fit_that_goes_on_counts_its_own_steps(tmp_path: Path) -> None:
    class Stops:
        def on_train_batch_end(self, trainer: Any, batch_idx: int) -> None:
            if trainer.progress.total_batches == 30:
                trainer.save_checkpoint(tmp_path / "a.ckpt")
                trainer.should_stop = True

    quiet_trainer(max_epochs=2, callbacks=[Stops()]).fit(TinyModule(), TinyData(25))
    trainer = quiet_trainer(max_epochs=2, profiler="simple")
    trainer.fit(TinyModule(), TinyData(25), ckpt_path=tmp_path / "a.ckpt")
    assert trainer.timing is not None
    assert (trainer.timing.steps, trainer.timing.measured_steps) == (20, 20)


@pytest.mark.parametrize("profiler", ["simple", "torch"])
def test_nothing_that_measures_is_to_be_called_by_a_run_that_goes_on(profiler: str, tmp_path: Path) -> None:
    class Saves:
        stage = "modify"

        def __init__(self) -> None:
            self.due: list[Any] = []

        def note(self, trainer: Any) -> None:
            self.due.append(trainer.dump_checkpoint()["trainkit"].get("due"))

        def on_train_batch_end(self, trainer: Any) -> None:
            self.note(trainer)

        on_validation_end = on_train_epoch_end = on_train_epoch_start = on_train_end = on_train_batch_end

    def due(**arguments: Any) -> list[Any]:
        saves = Saves()
        trainer = quiet_trainer(max_epochs=2, callbacks=[saves], default_root_dir=tmp_path, **arguments)
        trainer.fit(TinyModule(), TinyData(20), TinyData(1))
        return saves.due

    assert due(profiler=profiler) == due()
    # The forecast, which comes with a bar, neither.
    shown = due(enable_progress_bar=True)
    assert shown and "FirstBatches" not in str(shown)


def test_blocks_of_the_users_own_are_rows(clock: Clock) -> None:
    class Marks(Slow):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            with self.trainer.profiler.profile("augment"):
                clock.now += 7.0
            return super().training_step(batch, batch_idx)

    trainer = quiet_trainer(max_epochs=1, profiler="simple")
    trainer.fit(Marks(clock), TinyData(3))
    assert trainer.timing is not None
    assert (trainer.timing.seconds_of("own blocks"), trainer.timing.seconds_of("forward")) == (21.0, 3.0)
    assert ("", "augment", 3, 21.0) in [row[:4] for row in trainer.timing.rows]


def test_loggers_log_and_savers_save(tmp_path: Path) -> None:
    trainer = quiet_trainer(
        max_epochs=1,
        profiler="simple",
        logger=CSVLogger(tmp_path),
        log_every_n_steps=1,
        enable_checkpointing=True,
        gradient_clip_val=1.0,
        default_root_dir=tmp_path,
    )
    trainer.fit(TinyModule(), TinyData(3), TinyData(1))
    assert trainer.timing is not None
    assert trainer.timing.seconds_of("logging") > 0 and trainer.timing.seconds_of("saving") > 0
    assert {"CSVLogger", "ModelCheckpoint", "GradientClipping"} <= {row.plugin for row in trainer.timing.rows}
    assert trainer.timing.seconds_of("callbacks") == 0


def test_the_table_is_printed_when_a_call_ends(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = quiet_trainer(max_epochs=1, profiler="simple")
    trainer.fit(TinyModule(), TinyData(3))
    out = capsys.readouterr().out
    assert out.startswith("trainkit: where the ") and "s of fit went" in out
    trainer.predict(TinyModule(), TinyData(1))
    assert "s of predict went" in capsys.readouterr().out


def test_two_that_measure_plugins_are_refused() -> None:
    trainer = quiet_trainer(max_epochs=1, profiler="simple", callbacks=[SimpleProfiler()])
    with pytest.raises(ConfigError, match="two SimpleProfilers"):
        trainer.fit(TinyModule(), TinyData(1))


def test_a_trainer_can_be_told_later_to_measure() -> None:
    trainer = quiet_trainer(max_epochs=1)
    measure_time(trainer)
    measure_time(trainer)
    assert isinstance(trainer.profiler, SimpleProfiler)
    trainer.fit(TinyModule(), TinyData(1))
    assert trainer.timing is not None
    torch = quiet_trainer(profiler=TorchProfiler())
    measure_time(torch)
    assert isinstance(torch.profiler, TorchProfiler)


@pytest.mark.distributed
def test_ranks_tell_how_long_they_wait_for_each_other() -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    done = subprocess.run(
        [*torchrun, script.__file__], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.count("where the ") == 1
    waits = {}
    for line in done.stdout.splitlines():
        words = line.split()
        if len(words) == 4 and words[0] in ("0", "1"):
            waits[words[0]] = (float(words[1]), float(words[2]))
    # Rank 1 waits for its data, and rank 0 for rank 1.
    assert waits["1"][0] > waits["0"][0]
    assert waits["0"][1] > waits["1"][1] == 0
