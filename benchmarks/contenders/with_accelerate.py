"""Hugging Face Accelerate, which has no loop of its own: the usual one, with its parts in it."""

from __future__ import annotations

from accelerate import Accelerator

from benchmarks.job import Job
from benchmarks.tasks import loss_of

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
    network, optimizer = accelerator.prepare(network, job.task.configure(network))
    network.train()
    for _ in range(job.epochs):
        for batch in job.batches:
            with accelerator.accumulate(network):
                loss = loss_of(network, batch)
                optimizer.zero_grad()
                accelerator.backward(loss)
                optimizer.step()
