"""Checkpoints that are whole and wrong: a value of a valid one, at any place, replaced by a wrong one.

Each is used in a process of its own, forked from this one, which tells of everything that it opens for writing,
deletes, imports, connects to or starts outside the folder of its run.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from click.testing import CliRunner

import trainkit
from tests.checkpoint_fuzz.programs import PROGRAMS, Program, all_checkpoints
from trainkit.cli.checkpoint import command as checkpoint_command
from trainkit.errors import TrainkitError
from trainkit.storage.files import write_checkpoint

LONGEST_S = 30
GONE = object()
"""In place of a value: there is none."""

WRONG: list[Any] = [
    *(GONE, None, True, 0, 1, -1, 7, 10**12, 2**63, 0.5, float("nan"), float("inf"), 1j),
    *("", "x", "../x", "/etc/hostname", "reference://x", "ftp://127.0.0.1:9/x", "[bold]x[/y]", "\x1b[31mx", "\ud800"),
    *("{epoch}", "${oc.env:HOME}", "$(touch acted)", "os.system", b"x"),
    *([], [None], {}, {"x": 1}, (), ("x",), {1}, [[1]], {0: {}}),
    *(torch.zeros(0), torch.zeros(3), torch.tensor(float("nan")), torch.zeros(2, device="meta")),
    torch.zeros(1).expand(1000),
]

USES = ("fit", "last", "validate", "load", "best", "show", "verify", "diff", "export")


@dataclass(frozen=True)
class Mutation:
    """What is wrong with a checkpoint, and who uses it.

    Attributes:
        seed: By which it was drawn.
        checkpoint: Which of the valid ones.
        program: What has saved it.
        place: The keys that lead to the value.
        wrong: What is there instead.
        use: Who uses it.
    """

    seed: int
    checkpoint: int
    program: str
    place: tuple[Any, ...]
    wrong: Any
    use: str

    def __str__(self) -> str:
        wrong = "nothing" if self.wrong is GONE else repr(self.wrong)[:40]
        return f"{self.seed}: {self.use} of {self.program} {self.checkpoint} with {wrong} at {list(self.place)}"


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield all places within ``value``, of containers too. Of long lists the first entries stand for all."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, entry in list(entries)[:40]:
        yield (*path, key)
        yield from places(entry, (*path, key))


def put(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """Return a copy of ``value`` with ``new`` at ``place``."""
    key, *rest = place
    if isinstance(value, dict):
        changed = dict(value)
        if not rest and new is GONE:
            del changed[key]
        else:
            changed[key] = put(value[key], tuple(rest), new) if rest else new
        return changed
    entries = list(value)
    if not rest and new is GONE:
        del entries[key]
    else:
        entries[key] = put(value[key], tuple(rest), new) if rest else new
    return type(value)(entries)


class Fuzz:
    """Draws mutations and tries them.

    Args:
        folder: For all files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with warnings.catch_warnings(action="ignore"):
            self.valid = all_checkpoints(folder / "valid")
        self._places = [list(places(checkpoint)) for _, checkpoint in self.valid]

    def draw(self, seed: int) -> Mutation:
        chance = random.Random(seed)
        number = chance.randrange(len(self.valid))
        # Half of them lead to a fit, which looks at most of the file.
        use = chance.choice(USES) if chance.random() < 0.5 else "fit"
        place, wrong = chance.choice(self._places[number]), chance.choice(WRONG)
        return Mutation(seed, number, self.valid[number][0], place, wrong, use)

    def try_one(self, mutation: Mutation) -> str:
        """Return what is wrong with how a mutation is met; empty if it is a named error, or all is well."""
        place = self.folder / str(mutation.seed)
        # As files lie in the folder of a run.
        run = place / "trainkit_logs" / "version_0"
        run.mkdir(parents=True)
        try:
            valid = self.valid[mutation.checkpoint][1]
            write_checkpoint(put(valid, mutation.place, mutation.wrong), run / "a.ckpt")
            write_checkpoint(valid, run / "whole.ckpt")
        except trainkit.errors.CheckpointError:
            return ""  # it cannot be written, and so not be read
        code, told = in_child(lambda: use(mutation.use, PROGRAMS[mutation.program], run / "a.ckpt", place), place)
        kind = {0: "", 3: ""}.get(code, f"exit code {code}")
        return "; ".join(part for part in (kind, *told) if part)


def in_child(work: Callable[[], None], place: Path) -> tuple[int, list[str]]:
    """Do ``work`` in a process of its own; return its exit code, 3 for a named error, and what it did elsewhere."""
    output, reports = place / "output", place / "reports"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            descriptor = os.open(output, os.O_WRONLY | os.O_CREAT)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            sys.stdout, sys.stderr = (os.fdopen(to, "w", errors="backslashreplace", closefd=False) for to in (1, 2))
            torch.set_num_threads(1)
            warnings.simplefilter("ignore")
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(LONGEST_S)
            os.chdir(place)
            watch(place, os.open(reports, os.O_WRONLY | os.O_CREAT))
            work()
            code = 0
        except TrainkitError as error:
            print(f"{type(error).__name__}: {error}")
            code = 3
        except BaseException as error:
            traceback.print_exc()
            code = 3 if is_of_the_user(error) else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    told = [json.loads(line) for line in reports.read_text().splitlines()] if reports.exists() else []
    if code not in (0, 3):
        told.append(" | ".join(output.read_text(errors="replace").strip().splitlines()[-1:]))
    return code, told


def is_of_the_user(error: BaseException) -> bool:
    """Whether an error is that of somebody else's ``load_state_dict`` or constructor, and says of which file."""
    return any("(tests." in note and "which was given" in note for note in getattr(error, "__notes__", ()))


def is_record(command: list[str]) -> bool:
    """Whether ``command`` is what the record of a run asks git, whatever the checkpoint is, of the folder of this."""
    # Of the checkpoint nothing is in it, so it is the same each time but for the folder.
    asks = "status" in command or "diff" in command
    return command[:2] == ["git", "-C"] and Path(command[2]) in Path(__file__).parents and asks


def watch(place: Path, reports: int) -> None:
    """Report whatever goes beyond ``place``."""
    known = set(sys.modules)
    folder = os.path.realpath(place)

    def is_outside(path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        real = os.path.realpath(os.fsdecode(path))
        return not (real + os.sep).startswith(folder + os.sep) and not real.startswith(("/dev/", "/proc/"))

    def listen(event: str, arguments: tuple[Any, ...]) -> None:
        what = ""
        if event == "open":
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            # A folder is opened for a file without a name, into which git prints.
            is_file = writes and is_outside(arguments[0]) and not os.path.isdir(arguments[0])
            what = f"opens {arguments[0]}" if is_file else ""
        elif event in ("os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate", "shutil.rmtree"):
            what = f"{event} {arguments[0]}" if is_outside(arguments[0]) else ""
        elif event in ("os.rename", "os.link", "os.symlink"):
            what = f"{event} {arguments[:2]}" if any(map(is_outside, arguments[:2])) else ""
        elif event == "subprocess.Popen" and is_record(arguments[1]):
            what = ""
        elif event in ("socket.connect", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"):
            what = f"{event} {arguments}"
        elif event == "import" and str(arguments[0]).split(".")[0] in ("fsspec", "x") and arguments[0] not in known:
            what = f"imports {arguments[0]}"
        if what:
            os.write(reports, (json.dumps(what) + "\n").encode())

    sys.addaudithook(listen)


def use(how: str, program: Program, path: Path, place: Path) -> None:
    """Use a checkpoint as users do; whatever is printed is looked at as well."""
    trainkit.seed_everything(1)
    if how in ("fit", "last"):
        ckpt_path = str(path) if how == "fit" else "last"
        program.trainer(place).fit(program.module(), datamodule=program.data(), ckpt_path=ckpt_path)
    elif how in ("validate", "best"):
        ckpt_path = str(path) if how == "validate" else "best"
        program.trainer(place).validate(program.module(), datamodule=program.data(), ckpt_path=ckpt_path)
    elif how == "load":
        program.module.load_from_checkpoint(path)  # type: ignore[attr-defined]
    else:
        others = {"diff": [str(path.with_name("whole.ckpt"))], "export": ["out.safetensors"]}.get(how, [])
        arguments = [how, str(path), *others, *(["--tensors"] if how == "show" else [])]
        result = CliRunner().invoke(checkpoint_command, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        if "\x1b" in result.output:
            raise AssertionError("prints an escape sequence from the file")
