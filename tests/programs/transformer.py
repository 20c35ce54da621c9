"""A small language model: a schedule with warm-up that knows the length of the run, clipping, accumulation."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

import trainkit.compat.lightning as pl
from trainkit.compat.lightning.utilities import grad_norm
from trainkit.compat.lightning.utilities.types import OptimizerLRScheduler

TEXT = "the quick brown fox jumps over the lazy dog. pack my box with five dozen liquor jugs. " * 8


class Characters(Dataset):
    def __init__(self, text, block_size=16):
        self.vocabulary = sorted(set(text))
        self.data = torch.tensor([self.vocabulary.index(character) for character in text])
        self.block_size = block_size

    def __len__(self):
        return (len(self.data) - 1) // self.block_size

    def __getitem__(self, index):
        start = index * self.block_size
        chunk = self.data[start : start + self.block_size + 1]
        return chunk[:-1], chunk[1:]


class LitTransformer(pl.LightningModule):
    def __init__(self, vocabulary_size: int, width: int = 32, lr: float = 1e-2, warmup: float = 0.2):
        super().__init__()
        self.save_hyperparameters()
        self.embed = nn.Embedding(vocabulary_size, width)
        self.position = nn.Parameter(torch.zeros(16, width))
        layer = nn.TransformerEncoderLayer(width, nhead=2, dim_feedforward=64, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=1, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocabulary_size)
        self.learning_rates = []

    def forward(self, tokens):
        length = tokens.size(1)
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=tokens.device)
        hidden = self.encoder(self.embed(tokens) + self.position[:length], mask=mask, is_causal=True)
        return self.head(hidden)

    def training_step(self, batch, batch_idx):
        tokens, targets = batch
        loss = F.cross_entropy(self(tokens).flatten(0, 1), targets.flatten())
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.log("perplexity", loss.detach().exp(), on_step=False, on_epoch=True)
        return loss

    def on_before_optimizer_step(self, optimizer):
        norms = grad_norm(self.head, norm_type=2)
        self.log_dict(norms)

    def on_train_batch_end(self, outputs, batch, batch_idx):
        self.learning_rates.append(self.lr_schedulers().get_last_lr()[0])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        decay = [parameter for parameter in self.parameters() if parameter.dim() > 1]
        rest = [parameter for parameter in self.parameters() if parameter.dim() <= 1]
        groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.hparams.lr)
        total = self.trainer.estimated_stepping_batches
        warmup = int(total * self.hparams.warmup)

        def factor(step):
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main(root):
    pl.seed_everything(5)
    data = Characters(TEXT)
    model = LitTransformer(len(data.vocabulary))
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        gradient_clip_val=1.0,
        gradient_clip_algorithm="norm",
        accumulate_grad_batches=2,
        default_root_dir=root,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, DataLoader(data, batch_size=4, shuffle=True, drop_last=True))
    return {
        "steps": trainer.global_step,
        "perplexity": trainer.callback_metrics["perplexity"].item(),
        "train_loss": trainer.callback_metrics["train_loss_epoch"].item(),
        "peak": max(model.learning_rates),
        "last": model.learning_rates[-1],
    }
