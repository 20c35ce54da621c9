"""The hooks of modules and data modules, so that ``super().on_train_start()`` finds one to call."""

from __future__ import annotations

from torch import nn

from trainkit.batch.transfer import TransferHooks
from trainkit.compat.lightning.binding import stub


class ModelHooks(nn.Module):
    """The hooks of a run."""

    on_fit_start = on_fit_end = on_train_start = on_train_end = on_train_epoch_start = on_train_epoch_end = stub
    on_validation_start = on_validation_end = on_validation_epoch_start = on_validation_epoch_end = stub
    on_test_start = on_test_end = on_test_epoch_start = on_test_epoch_end = stub
    on_predict_start = on_predict_end = on_predict_epoch_start = on_predict_epoch_end = stub
    on_train_batch_start = on_train_batch_end = on_validation_batch_start = on_validation_batch_end = stub
    on_test_batch_start = on_test_batch_end = on_predict_batch_start = on_predict_batch_end = stub
    on_before_zero_grad = on_before_backward = on_after_backward = on_before_optimizer_step = stub

    def on_validation_model_eval(self) -> None:
        """Switch to eval mode before a validation."""
        self.eval()

    def on_test_model_eval(self) -> None:
        """Switch to eval mode before a test."""
        self.eval()

    def on_predict_model_eval(self) -> None:
        """Switch to eval mode before a prediction."""
        self.eval()

    # Modes have been put back before these are called.
    on_validation_model_train = on_test_model_train = on_predict_model_train = stub
    # Never called: gradients live until the next batch clears them.
    on_validation_model_zero_grad = stub


class CheckpointHooks:
    """The hooks of checkpoints."""

    on_save_checkpoint = on_load_checkpoint = stub


class DataHooks(TransferHooks):
    """The hooks of data.

    Attributes:
        prepare_data_per_node: Accepted: ``prepare_data`` always runs once on each machine.
        allow_zero_length_dataloader_with_multiple_devices: Accepted: a rank without batches is always allowed.
    """

    prepare_data_per_node = True
    allow_zero_length_dataloader_with_multiple_devices = False
    prepare_data = setup = teardown = stub
