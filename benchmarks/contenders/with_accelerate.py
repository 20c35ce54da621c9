"""Hugging Face Accelerate, which has no loop of its own: the usual one, with its parts in it."""

from __future__ import annotations

from accelerate import Accelerator

from benchmarks.job import Job
from benchmarks.tasks import MAX_NORM, loss_of, schedule

DISTRIBUTION = "accelerate"
IMPORT = "import accelerate; accelerate.Accelerator"


def fit(job: Job) -> None:
    """Do ``job``."""
    loop = "no loop of its own"
    job.refuse(compiled="no compiled step", metrics=loop, callbacks=loop, folder=loop, val_batches=loop)
    accelerator = Accelerator(
        cpu=job.device == "cpu",
        gradient_accumulation_steps=job.accumulate,
        mixed_precision="no" if job.task.autocast is None else "bf16",
    )
    network = job.task.network()
    optimizer = job.task.configure(network)
    network, optimizer, scheduler = accelerator.prepare(network, optimizer, schedule(optimizer) if job.real else None)
    network.train()
    for _ in range(job.epochs):
        for batch in job.batches:
            with accelerator.accumulate(network):
                loss = loss_of(network, batch)
                optimizer.zero_grad()
                accelerator.backward(loss)
                if job.real:
                    accelerator.clip_grad_norm_(network.parameters(), MAX_NORM)
                optimizer.step()
                if job.real:
                    scheduler.step()
