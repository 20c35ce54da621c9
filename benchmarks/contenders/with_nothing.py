"""No framework, but the loop by hand once more: what it seems to cost is what the measurement cannot tell."""

from __future__ import annotations

from torch.nn.parallel import DistributedDataParallel

from benchmarks.job import Job, Unsupported
from benchmarks.tasks import loss_of

DISTRIBUTION = "torch"
IMPORT = "pass"


def fit(job: Job) -> None:
    """Do ``job``."""
    loop = "nothing but the loop"
    job.refuse(compiled=loop, metrics=loop, callbacks=loop, folder=loop, val_batches=loop, accumulate=loop, real=loop)
    if job.task.autocast is not None:
        raise Unsupported("the loop without autocast")
    network = job.task.network().to(job.device)
    network.train()
    optimizer = job.task.configure(network)
    if job.ranks > 1:
        network = DistributedDataParallel(network)
    for _ in range(job.epochs):
        for batch in job.batches:
            loss = loss_of(network, batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
