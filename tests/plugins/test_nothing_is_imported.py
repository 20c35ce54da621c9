"""What is installed and not named runs no line: an import hook notes whoever looks for a module of such a package.

There is one entry point of each kind, under names that nobody uses, under names of trainkit's own parts and of its
defaults, and in groups that nobody reads. Each module behind them raises when it is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.installed import Site
from trainkit.plugins import catalog
from trainkit.plugins.installed import KINDS

pytestmark = pytest.mark.slow

HOOK = """
import sys

class Watch:
    asked = []

    def find_spec(self, name, path=None, target=None):
        if name.startswith("trap_"):
            self.asked.append(name)

sys.meta_path.insert(0, Watch())
"""

CHECK = """
assert not Watch.asked, Watch.asked
assert not [name for name in sys.modules if name.startswith("trap_")]
print("nothing was imported")
"""

MODELS = """
import trainkit
from trainkit.testing import TinyData, TinyModule as Net

class Data(trainkit.DataModule):
    def train_dataloader(self):
        return TinyData(4)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader
"""

CONFIG = """
seed: 7
module: {_target_: models.Net, lr: 0.1}
data: {_target_: models.Data}
callbacks: {early_stopping: {monitor: val/loss}}
trainer: {max_epochs: 1, logger: {use: csv}, accelerator: cpu, default_root_dir: runs}
"""

IN_PYTHON = """
import trainkit
from trainkit.testing import TinyData, TinyModule
from trainkit.trainer import Trainer

def trainer(epochs):
    return Trainer(max_epochs=epochs, accelerator="cpu", logger="csv", callbacks=["timer"], precision="bf16-mixed",
                   strategy="single", gradient_clip_val=1.0, default_root_dir="python")

data, module = TinyData(4), TinyModule()
first = trainer(1)
first.explain(module, data, data)
first.fit(module, data, data)
first.save_checkpoint("one.ckpt")
trainer(2).fit(TinyModule(), data, data, ckpt_path="one.ckpt")
module = TinyModule.load_from_checkpoint("one.ckpt")
for call in (first.validate, first.test, first.predict):
    call(module, data)
try:
    trainkit.Trainer(callbacks=["no_such_name"])
except trainkit.TrainkitError as error:
    print(error)
try:
    trainkit.Trainer(callbacks=["trap_a:broken-by-package"])
except trainkit.TrainkitError as error:
    print(error)
"""

COMMANDS = [
    ["--help"],
    ["--version"],
    ["plugins"],
    ["plugins", "--json"],
    ["plugins", "--from", "trainkit", "--check"],
    ["config", "config.yaml"],
    ["config", "config.yaml", "--check"],
    ["config", "config.yaml", "--origins"],
    ["config", "config.yaml", "--schema"],
    ["config", "config.yaml", "--help-of", "callbacks.early_stopping"],
    ["explain", "config.yaml"],
    ["fit", "config.yaml"],
    ["fit", "config.yaml", "ckpt_path=last", "trainer.max_epochs=2"],
    ["fit", "config.yaml", "--no-plugin", "early_stopping", "plugins.disable=[trap-package]"],
    ["validate", "config.yaml", "ckpt_path=last"],
    ["test", "config.yaml", "ckpt_path=last"],
    ["predict", "config.yaml", "ckpt_path=last"],
    ["runs", "runs"],
    ["checkpoint", "show", "python.ckpt"],
    ["checkpoint", "verify", "python.ckpt"],
    ["fitt", "config.yaml"],
    ["plugin", "new", "mine"],
]


@pytest.fixture
def traps(site: Site) -> Site:
    own = {kind: [each.name for each in catalog.entries(kind) if each.distribution == "trainkit"] for kind in KINDS}
    own["cli"] = ["fit", "plugins", "trap-command"]
    points = ""
    for kind in KINDS:
        names = [*own[kind], f"trap-{kind}", "default", "on_fit_start"]
        points += f"[trainkit.{kind}]\n" + "".join(f"{name} = trap_{kind}.inner:Thing\n" for name in names)
    points += "[trainkit.callback]\nslip = trap_slip:Thing\n[trainkit_plugins]\nother = trap_other:Thing\n"
    modules = {f"trap_{name}": "raise SystemExit('a package was imported')\n" for name in (*KINDS, "slip", "other")}
    site.install("trap-package", "1.0", points, requires=["trainkit>=0.0.1"], **modules)
    site.install("trap-too-new", "1.0", points, requires=["trainkit>=99"], **modules)
    return site


def run(code: str, traps: Site, folder: Path, *arguments: str) -> str:
    (folder / "models.py").write_text(MODELS)
    (folder / "config.yaml").write_text(CONFIG)
    program = [sys.executable, "-W", "ignore", "-c", HOOK + code + CHECK, *arguments]
    path = os.pathsep.join([str(traps.folder), *sys.path])
    done = subprocess.run(
        program, cwd=folder, env=os.environ | {"PYTHONPATH": path, "COLUMNS": "120"}, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.endswith("nothing was imported\n"), done.stdout + done.stderr
    return done.stdout


def test_by_no_call_of_a_program(traps: Site, tmp_path: Path) -> None:
    told = run(IN_PYTHON, traps, tmp_path)
    assert "unknown callback 'no_such_name'" in told


def test_by_no_command(traps: Site, tmp_path: Path) -> None:
    code = """
from click.testing import CliRunner
from trainkit.cli.main import main
for arguments in COMMANDS:
    result = CliRunner().invoke(main, arguments)
    if arguments[0] == "fit":
        import glob, shutil
        shutil.copy(sorted(glob.glob("runs/**/*.ckpt", recursive=True))[-1], "python.ckpt")
    expected = 2 if arguments[0] == "fitt" else 0
    assert result.exit_code == expected and not isinstance(result.exception, AssertionError), (arguments, result.output)
    assert not Watch.asked, (arguments, Watch.asked)
"""
    run(f"COMMANDS = {COMMANDS!r}\n{code}", traps, tmp_path)


def test_the_hook_sees_what_is_named(traps: Site, tmp_path: Path) -> None:
    code = """
from trainkit.errors import PluginError
from trainkit.plugins import catalog
try:
    catalog.load("callbacks", "trap-package:trap-callbacks")
except (SystemExit, PluginError) as error:
    print(error)
assert Watch.asked and Watch.asked[0] == "trap_callbacks"
asked = len(Watch.asked)
for name in ("trap-too-new:trap-callbacks", "trap-callbacks"):
    try:
        catalog.load("callbacks", name)
    except PluginError as error:
        print(error)
assert len(Watch.asked) == asked, "one for another trainkit was imported, or one of two was chosen"
Watch.asked.clear()
"""
    told = run(code, traps, tmp_path)
    assert "a package was imported" in told and "needs trainkit>=99" in told and "offered by 2 packages" in told
