"""Lightning's names are where Lightning has them, and the core knows nothing of them."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import trainkit
import trainkit.compat.lightning as pl

MODULES = [module.name for module in pkgutil.walk_packages(pl.__path__, f"{pl.__name__}.")]

IMPORTS = """
from trainkit.compat.lightning import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from trainkit.compat.lightning.accelerators import CPUAccelerator, CUDAAccelerator
from trainkit.compat.lightning.callbacks import EarlyStopping, LambdaCallback, LearningRateMonitor, ModelCheckpoint
from trainkit.compat.lightning.callbacks import BasePredictionWriter, GradientAccumulationScheduler, TQDMProgressBar
from trainkit.compat.lightning.callbacks.callback import Callback
from trainkit.compat.lightning.callbacks.early_stopping import EarlyStopping, EarlyStoppingReason
from trainkit.compat.lightning.callbacks.model_checkpoint import ModelCheckpoint
from trainkit.compat.lightning.callbacks.progress import RichProgressBar
from trainkit.compat.lightning.callbacks.progress.rich_progress import RichProgressBarTheme
from trainkit.compat.lightning.callbacks.rich_model_summary import RichModelSummary
from trainkit.compat.lightning.core import LightningModule
from trainkit.compat.lightning.core.datamodule import LightningDataModule
from trainkit.compat.lightning.core.hooks import DataHooks, ModelHooks
from trainkit.compat.lightning.core.mixins import HyperparametersMixin
from trainkit.compat.lightning.core.module import LightningModule
from trainkit.compat.lightning.core.optimizer import LightningOptimizer
from trainkit.compat.lightning.loggers import CSVLogger, Logger, TensorBoardLogger
from trainkit.compat.lightning.loggers.logger import DummyLogger, Logger, rank_zero_experiment
from trainkit.compat.lightning.loggers.tensorboard import TensorBoardLogger
from trainkit.compat.lightning.plugins import DoublePrecision, HalfPrecision, MixedPrecision, TorchSyncBatchNorm
from trainkit.compat.lightning.profilers import PassThroughProfiler, SimpleProfiler
from trainkit.compat.lightning.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from trainkit.compat.lightning.strategies.ddp import DDPStrategy
from trainkit.compat.lightning.trainer import Trainer
from trainkit.compat.lightning.trainer.states import RunningStage, TrainerFn, TrainerState, TrainerStatus
from trainkit.compat.lightning.trainer.trainer import Trainer
from trainkit.compat.lightning.utilities import AttributeDict, CombinedLoader, grad_norm, move_data_to_device
from trainkit.compat.lightning.utilities import rank_zero_info, rank_zero_only, rank_zero_warn
from trainkit.compat.lightning.utilities.combined_loader import CombinedLoader
from trainkit.compat.lightning.utilities.enums import GradClipAlgorithmType
from trainkit.compat.lightning.utilities.exceptions import MisconfigurationException
from trainkit.compat.lightning.utilities.model_helpers import is_overridden
from trainkit.compat.lightning.utilities.model_summary import ModelSummary, summarize
from trainkit.compat.lightning.utilities.rank_zero import rank_zero_only
from trainkit.compat.lightning.utilities.seed import isolate_rng
from trainkit.compat.lightning.utilities.types import EVAL_DATALOADERS, STEP_OUTPUT, OptimizerLRScheduler
from trainkit.compat.lightning.utilities.warnings import PossibleUserWarning
from trainkit.compat.lightning.fabric.utilities import rank_zero_only
from trainkit.compat.lightning.fabric.utilities.seed import seed_everything
from trainkit.compat.lightning.fabric.utilities.warnings import PossibleUserWarning
from trainkit.compat.lightning.pytorch import Trainer
from trainkit.compat.lightning.pytorch.callbacks.early_stopping import EarlyStopping
"""


@pytest.mark.parametrize("line", IMPORTS.strip().splitlines())
def test_names_are_where_lightning_has_them(line: str) -> None:
    exec(line)


def test_packages_are_reached_from_the_top() -> None:
    assert pl.callbacks.ModelCheckpoint is pl.callbacks.model_checkpoint.ModelCheckpoint
    assert pl.utilities.rank_zero.rank_zero_only is pl.utilities.rank_zero_only
    assert pl.trainer.states.TrainerFn.FITTING == "fit"
    assert pl.pytorch is pl
    assert importlib.import_module(f"{pl.__name__}.pytorch.callbacks.timer") is pl.callbacks.timer


@pytest.mark.slow
def test_every_module_is_reached_as_an_attribute_without_an_import_of_its_own() -> None:
    code = "import trainkit.compat.lightning as pl; pl"
    names = [name.removeprefix(f"{pl.__name__}.") for name in MODULES]
    code += "".join(f", pl.{name}" for name in names)
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("own", "core"),
    [
        (pl.Trainer, trainkit.Trainer),
        (pl.LightningModule, trainkit.TrainModule),
        (pl.LightningDataModule, trainkit.DataModule),
        (pl.Callback, trainkit.Callback),
        (pl.callbacks.ModelCheckpoint, trainkit.callbacks.ModelCheckpoint),
        (pl.callbacks.EarlyStopping, trainkit.callbacks.EarlyStopping),
        (pl.callbacks.RichProgressBar, trainkit.callbacks.ProgressBar),
        (pl.loggers.TensorBoardLogger, trainkit.callbacks.TensorBoardLogger),
        (pl.loggers.CSVLogger, trainkit.callbacks.CSVLogger),
    ],
)
def test_lightnings_classes_are_trainkits(own: type, core: type) -> None:
    assert issubclass(own, core)


@pytest.mark.slow
def test_the_core_imports_nothing_of_the_layer() -> None:
    code = "import sys, trainkit; trainkit.Trainer; trainkit.testing; trainkit.config; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "trainkit.trainer" in loaded
    assert not [name for name in loaded if name.startswith("trainkit.compat")]


@pytest.mark.slow
def test_the_layer_imports_no_optional_package() -> None:
    code = "import sys, trainkit.compat.lightning; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"tensorboard", "torchmetrics", "torchvision", "lightning", "rich"} & set(loaded)
