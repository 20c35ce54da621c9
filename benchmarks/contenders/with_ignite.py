"""PyTorch-Ignite."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import Checkpoint, DiskSaver, ProgressBar
from ignite.handlers.tensorboard_logger import TensorboardLogger
from torch.nn.functional import cross_entropy

from benchmarks.job import Job
from benchmarks.tasks import MAX_NORM, schedule

DISTRIBUTION = "pytorch-ignite"
IMPORT = "import ignite.engine"


def fit(job: Job) -> None:
    """Do ``job``."""
    job.refuse(compiled="no compiled step", metrics="no log() in a step")
    network = job.task.network().to(job.device)
    optimizer = job.task.configure(network)

    def loss_fn(predicted: Any, target: Any) -> Any:
        return cross_entropy(predicted.flatten(0, -2), target.flatten())

    trainer = (
        _scheduled(network, optimizer, loss_fn)
        if job.real
        else create_supervised_trainer(
            network,
            optimizer,
            loss_fn,
            device=job.device,
            gradient_accumulation_steps=job.accumulate,
            output_transform=lambda x, y, predicted, loss: loss,
            amp_mode=None if job.task.autocast is None else "amp",
        )
    )
    for _ in range(job.callbacks):
        trainer.add_event_handler(Events.ITERATION_STARTED, _nothing)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, _nothing)
    if job.val_batches is not None:
        evaluator = create_supervised_evaluator(network, device=job.device)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: evaluator.run(job.val_batches))
    if job.folder is None:
        # It does not count a stream, and has to be told.
        length = len(job.batches.batches) if job.stream else None
        trainer.run(job.batches, max_epochs=job.epochs, epoch_length=length)
        return
    ProgressBar().attach(trainer, output_transform=lambda loss: {"loss": loss.item()})
    writer = TensorboardLogger(log_dir=job.folder)
    writer.attach_output_handler(
        trainer, Events.ITERATION_COMPLETED(every=50), tag="train", output_transform=lambda loss: {"loss": loss.item()}
    )
    state = {"model": network, "optimizer": optimizer, "trainer": trainer}
    trainer.add_event_handler(Events.EPOCH_COMPLETED, Checkpoint(state, DiskSaver(job.folder, require_empty=False)))
    trainer.run(job.batches, max_epochs=job.epochs)
    writer.close()


def _scheduled(network: Any, optimizer: Any, loss_fn: Any) -> Engine:
    """Return an engine whose step is written by hand: of clipping and schedules in a step ignite knows nothing."""
    scheduler = schedule(optimizer)

    def update(engine: Engine, batch: Any) -> Any:
        network.train()
        optimizer.zero_grad()
        inputs, targets = batch
        loss = loss_fn(network(inputs), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), MAX_NORM)
        optimizer.step()
        scheduler.step()
        return loss

    return Engine(update)


def _nothing(engine: Engine) -> None:
    pass
