from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from trainkit.checkpoint.head import Head, read_head
from trainkit.checkpoint.locate import locate_checkpoint, newest_checkpoint, recorded_best
from trainkit.errors import CheckpointError, CheckpointNotFoundError
from trainkit.storage.files import link_checkpoint, write_checkpoint
from trainkit.testing import TinyData, TinyModule, quiet_trainer

WHOLE: dict[str, Any] = {
    "state_dict": {},
    "optimizer_states": [],
    "lr_schedulers": [],
    "loops": {},
    "callbacks": {},
    "trainkit": {},
}


def write(path: Path, age_s: int, **content: Any) -> str:
    write_checkpoint(content or WHOLE, path)
    os.utime(path, (1e9 - age_s, 1e9 - age_s))
    return str(path)


def damage(path: str) -> None:
    content = Path(path).read_bytes()
    written = os.stat(path)
    Path(path).write_bytes(content[: len(content) // 2])
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))


def last(*roots: Path, resumes: bool = True) -> str | None:
    newest = newest_checkpoint(roots, resumes=resumes)
    return None if newest is None else newest.path


def test_last_is_what_was_written_last_in_whatever_run(tmp_path: Path) -> None:
    write(tmp_path / "version_1" / "checkpoints" / "a.ckpt", age_s=2)
    newest = write(tmp_path / "version_0" / "b.ckpt", age_s=1)
    write(tmp_path / "c.ckpt", age_s=3)
    assert last(tmp_path) == newest


def test_last_is_looked_for_below_every_root(tmp_path: Path) -> None:
    write(tmp_path / "one" / "a.ckpt", age_s=2)
    newest = write(tmp_path / "two" / "b.ckpt", age_s=1)
    assert last(tmp_path / "one", tmp_path / "two", tmp_path / "none") == newest


def test_a_link_is_as_new_as_what_it_leads_to(tmp_path: Path) -> None:
    newest = write(tmp_path / "a.ckpt", age_s=1)
    link_checkpoint(write(tmp_path / "b.ckpt", age_s=2), tmp_path / "last.ckpt")
    assert last(tmp_path) == newest


def test_a_link_that_leads_nowhere_is_no_checkpoint(tmp_path: Path) -> None:
    link_checkpoint(tmp_path / "gone.ckpt", tmp_path / "last.ckpt")
    assert last(tmp_path) is None


def test_damaged_files_are_passed_over_with_a_warning_for_each(tmp_path: Path) -> None:
    whole = write(tmp_path / "epoch=0.ckpt", age_s=3)
    for age_s in (2, 1):
        damage(write(tmp_path / f"epoch={3 - age_s}.ckpt", age_s))
    with pytest.warns(UserWarning, match="is damaged or cut off") as warned:
        assert last(tmp_path) == whole
    told = [str(warning.message) for warning in warned]
    assert ["epoch=2.ckpt" in told[0], "epoch=1.ckpt" in told[1]] == [True, True]
    assert all(f"Using {whole} instead" in message for message in told)


def test_nothing_but_damaged_files_is_an_error_that_names_them(tmp_path: Path) -> None:
    for name in ("a.ckpt", "b.ckpt"):
        damage(write(tmp_path / name, age_s=1))
    with pytest.raises(CheckpointError, match=r"none of .*can be read(.|\n)*b.ckpt is damaged(.|\n)*a.ckpt is damaged"):
        last(tmp_path)


def test_a_fit_passes_over_weights_and_files_of_others(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.ckpt", age_s=3)
    write(tmp_path / "b.ckpt", age_s=2, state_dict={})
    weights = write(tmp_path / "c.ckpt", age_s=1, state_dict={}, trainkit={})
    assert last(tmp_path) == whole
    assert last(tmp_path, resumes=False) == weights


def test_what_was_read_to_find_out_is_not_read_again(tmp_path: Path) -> None:
    write(tmp_path / "a.ckpt", age_s=1)
    newest = newest_checkpoint([tmp_path], resumes=True)
    assert newest is not None
    assert newest.checkpoint == WHOLE


# What ckpt_path means


def locate(ckpt_path: Any, root: Path, best: str | None = None) -> Any:
    return locate_checkpoint(ckpt_path, roots=[root], best=best, resumes=True)


def test_without_any_checkpoint_last_starts_fresh_with_a_warning(tmp_path: Path) -> None:
    write(tmp_path / "weights.ckpt", age_s=1, state_dict={})
    with pytest.warns(UserWarning, match=f"no checkpoint from which a fit can continue below {tmp_path}; starting"):
        assert locate("last", tmp_path) is None


def test_best_is_what_the_callback_says(tmp_path: Path) -> None:
    assert locate("best", tmp_path, best="/runs/b.ckpt").path == "/runs/b.ckpt"
    with pytest.raises(CheckpointError, match="asks for the best checkpoint of this Trainer"):
        locate("best", tmp_path, best="")


def test_a_path_has_to_exist_and_none_starts_fresh(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError, match=r"(?s)no checkpoint .*none.ckpt.*allowed.*'best', or 'last'"):
        locate(tmp_path / "none.ckpt", tmp_path)
    path = write(tmp_path / "a.ckpt", age_s=1)
    assert locate(Path(path), tmp_path) == (path, None)
    assert locate(None, tmp_path) is None


def of_run(run: str, step: int, **progress: Any) -> dict[str, Any]:
    fit = {"global_step": step, "total_batches": step, **progress}
    return {**WHOLE, "loops": {"fit": fit}, "trainkit": WHOLE["trainkit"] | {"run": run}}


def test_within_a_run_the_step_decides_and_not_the_time(tmp_path: Path) -> None:
    furthest = write(tmp_path / "v/last.ckpt", 5, **of_run("v/last.ckpt", 24))
    write(tmp_path / "v/checkpoints/late.ckpt", 1, **of_run("v/last.ckpt", 12))
    assert last(tmp_path) == furthest


def test_of_two_states_at_one_step_the_later_one_counts(tmp_path: Path) -> None:
    ended = write(tmp_path / "last.ckpt", 2, **of_run("last.ckpt", 4, epoch=1, ended=True))
    write(tmp_path / "epoch.ckpt", 1, **of_run("last.ckpt", 4, epoch_ended=True))
    assert last(tmp_path) == ended


def test_another_run_is_newer_although_it_has_not_come_as_far(tmp_path: Path) -> None:
    write(tmp_path / "last.ckpt", 2, **of_run("last.ckpt", 24))
    newest = write(tmp_path / "last-v1.ckpt", 1, **of_run("last-v1.ckpt", 3))
    assert last(tmp_path) == newest


def test_the_newest_state_counts_wherever_a_callback_saves_unless_several_have_its_name(tmp_path: Path) -> None:
    furthest = write(tmp_path / "a/last.ckpt", 5, **of_run("last.ckpt", 24))
    late = write(tmp_path / "ranked/late.ckpt", 1, **of_run("last.ckpt", 12))
    assert last(tmp_path) == furthest
    write(tmp_path / "b/last.ckpt", 6, **of_run("last.ckpt", 30))
    assert last(tmp_path) == late


@pytest.mark.parametrize("first", [{}, {"epoch": 0, "global_step": 0}], ids=["of no known beginning", "known"])
def test_what_is_furthest_is_found_wherever_it_stands(tmp_path: Path, first: dict[str, Any]) -> None:
    def write_at(age_s: int, step: int) -> str:
        known = {"epoch": step // 4, "global_step": step} if first else {}
        fit = {"global_step": step, "total_batches": step, "epoch": step // 4}
        return write(tmp_path / f"{age_s}.ckpt", age_s, **(known | of_run("last.ckpt", step, **fit)))

    paths = {step: write_at(age_s, step) for age_s, step in enumerate([3, 9, 1, 12, 7, 2, 11])}
    for step in sorted(paths, reverse=True):
        assert last(tmp_path) == paths[step]
        Path(paths[step]).unlink()


def test_few_of_many_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Saves:
        def on_train_batch_end(self, trainer: Any) -> None:
            trainer.save_checkpoint(tmp_path / f"{trainer.global_step}.ckpt")
            trainer.save_checkpoint(tmp_path / f"weights-{trainer.global_step}.ckpt", weights_only=True)

    read: list[str] = []

    def noting(path: str) -> Head:
        read.append(path)
        return read_head(path)

    quiet_trainer(callbacks=[Saves()], default_root_dir=tmp_path).fit(TinyModule(), TinyData(20))
    monkeypatch.setattr("trainkit.checkpoint.locate.read_head", noting)
    assert last(tmp_path) == str(tmp_path / "20.ckpt")
    assert set(read) <= {str(tmp_path / name) for name in ("20.ckpt", "weights-20.ckpt", "last.ckpt")}


def test_a_damaged_furthest_state_is_passed_over_for_the_next_of_its_run(tmp_path: Path) -> None:
    furthest = write(tmp_path / "last.ckpt", 1, **of_run("last.ckpt", 24))
    before = write(tmp_path / "a.ckpt", 4, **of_run("last.ckpt", 12))
    write(tmp_path / "b.ckpt", 3, **of_run("last.ckpt", 6))
    damage(furthest)
    with pytest.warns(UserWarning, match="cut off"):
        # What is left is ordered by time until a file can be read, and by step from there.
        assert last(tmp_path) == before


def test_best_is_what_the_newest_run_has_recorded(tmp_path: Path) -> None:
    best = write(tmp_path / "best.ckpt", 9)
    ranked = {"ModelCheckpoint": {"best_model_path": best}, "Other": ["no", "dict"]}
    write(tmp_path / "last.ckpt", 1, **WHOLE | {"callbacks": ranked})
    assert recorded_best([tmp_path]) == best
    assert locate_checkpoint("best", roots=[tmp_path], best=None) == (best, None)
    os.unlink(best)
    with pytest.raises(CheckpointError, match="best.ckpt is not there any more"):
        recorded_best([tmp_path])


def test_a_recorded_best_is_no_path_to_anywhere_else(tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere/a.ckpt", 9)
    states = {"ModelCheckpoint": {"best_model_path": elsewhere}}
    write(tmp_path / "root/last.ckpt", 1, **WHOLE | {"callbacks": states})
    with pytest.raises(CheckpointError):
        recorded_best([tmp_path / "root"])


def test_the_name_of_a_file_that_was_found_is_of_one_line(tmp_path: Path) -> None:
    write(tmp_path / "a\nUsing.ckpt", age_s=3)
    damage(write(tmp_path / "b.ckpt", age_s=2))
    with pytest.warns(UserWarning, match=r"Using .*a\\nUsing.ckpt instead\.$"):
        assert last(tmp_path) is not None
