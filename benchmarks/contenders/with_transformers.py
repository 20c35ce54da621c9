"""The Trainer of Hugging Face transformers."""

from __future__ import annotations

import tempfile
from typing import Any

import transformers
from transformers import TrainerCallback, TrainingArguments

from benchmarks.job import Job
from benchmarks.tasks import loss_of

DISTRIBUTION = "transformers"
IMPORT = "from transformers import Trainer"


class Trainer(transformers.Trainer):
    job: Job

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        return loss_of(model, inputs["batch"])

    def get_train_dataloader(self) -> Any:
        return InDicts(self.job.batches)

    def create_optimizer(self, model: Any = None) -> Any:
        self.optimizer = self.job.task.configure(self.model)
        return self.optimizer


class InDicts:
    """Batches as the Trainer wants them: by name."""

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self.dataset = range(len(batches))
        self.batch_size = 1

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        return map(_in_dict, self.batches)


class Empty(TrainerCallback):
    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        pass

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        pass


def fit(job: Job) -> None:
    """Do ``job``."""
    job.refuse(
        compiled="no compiled step",
        metrics="no log() in a step",
        val_batches="evaluates through loaders of its own",
        real="measured without clipping",
        stream="measured with a length",
    )
    transformers.utils.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            job.folder or folder,
            num_train_epochs=job.epochs,
            gradient_accumulation_steps=job.accumulate,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            bf16=job.task.autocast is not None,
            use_cpu=job.device == "cpu",
            disable_tqdm=job.folder is None,
            report_to=["tensorboard"] if job.folder else [],
            logging_strategy="steps" if job.folder else "no",
            logging_steps=50,
            save_strategy="epoch" if job.folder else "no",
        )
        trainer = Trainer(
            job.task.network(),
            arguments,
            train_dataset=range(len(job.batches)),
            callbacks=[type(f"Empty{number}", (Empty,), {})() for number in range(job.callbacks)],
        )
        trainer.job = job
        trainer.train()


def _in_dict(batch: Any) -> dict[str, Any]:
    return {"batch": batch}
