"""What is trained: networks, their batches and losses, the same for every contender."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Task:
    """A network and a batch to train it on.

    Attributes:
        name: What it is called.
        make_network: Makes the network, with fixed weights.
        make_batch: Makes the batch, which is the same at each step.
        optimizer: A class of ``torch.optim`` and its arguments.
        autocast: The dtype of autocast; None for none.
    """

    name: str
    make_network: Callable[[], nn.Module]
    make_batch: Callable[[], Batch]
    optimizer: tuple[str, dict[str, Any]] = ("SGD", {"lr": 0.01})
    autocast: torch.dtype | None = None

    def network(self) -> nn.Module:
        """Return the network; every one is equal to every other."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.make_network()

    def batch(self) -> Batch:
        """Return the batch; every one is equal to every other."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.make_batch()

    def configure(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return the optimizer of ``network``."""
        name, arguments = self.optimizer
        optimizer: torch.optim.Optimizer = getattr(torch.optim, name)(network.parameters(), **arguments)
        return optimizer


MAX_NORM = 1.0
"""To which norm gradients are clipped in a step as it is in practice."""


def schedule(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    """Return a schedule that changes the rate at each step."""
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1_000_000)


def loss_of(network: nn.Module, batch: Batch) -> Tensor:
    """Return the loss of one batch. All tasks classify: rows of images, or tokens of sequences."""
    inputs, targets = batch
    return cross_entropy(network(inputs).flatten(0, -2), targets.flatten())


def mlp() -> nn.Module:
    """64-64-10: so small that a step is mostly what surrounds the arithmetic."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def convnet() -> nn.Module:
    """Three convolutions over 3 x 32 x 32 pixels."""
    layers: list[nn.Module] = []
    for channels, wider in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(channels, wider, 3, padding=1), nn.BatchNorm2d(wider), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


class Transformer(nn.Module):
    """A decoder over tokens.

    Args:
        width: Size of a token's vector.
        depth: Number of layers.
        heads: Number of attention heads.
        vocabulary: Number of different tokens.
        context: Tokens in a sequence.
    """

    def __init__(self, width: int, depth: int, heads: int, vocabulary: int, context: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.zeros(context, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.head = nn.Linear(width, vocabulary)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(context), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return a score for each token that may come next. Shape (batch, context, vocabulary)."""
        hidden = self.tokens(tokens) + self.positions
        output: Tensor = self.head(self.layers(hidden, mask=self.mask, is_causal=True))
        return output


def images(count: int, size: int, classes: int) -> Batch:
    """Return random images and their classes."""
    return torch.randn(count, 3, size, size), torch.randint(classes, (count,))


def sequences(count: int, context: int, vocabulary: int) -> Batch:
    """Return random sequences, and what is to be predicted at each place of them."""
    tokens = torch.randint(vocabulary, (count, context + 1))
    return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def resnet50() -> nn.Module:
    """Return a ResNet-50 of torchvision without trained weights."""
    from torchvision.models import resnet50

    network: nn.Module = resnet50()
    return network


MLP = Task("mlp", mlp, lambda: (torch.randn(32, 64), torch.randint(10, (32,))))
MLP_ADAMW = Task("mlp, AdamW", mlp, MLP.make_batch, ("AdamW", {"lr": 1e-3}))
MLP_BF16 = Task("mlp, bf16", mlp, MLP.make_batch, autocast=torch.bfloat16)
CONVNET = Task("convnet", convnet, lambda: images(64, 32, 10))
TRANSFORMER = Task(
    "transformer", lambda: Transformer(128, 2, 4, 256, 64), lambda: sequences(8, 64, 256), ("AdamW", {"lr": 1e-3})
)
RESNET50 = Task("ResNet-50", resnet50, lambda: images(128, 224, 1000), autocast=torch.bfloat16)
GPT2 = Task(
    "GPT-2 size",
    lambda: Transformer(768, 12, 12, 50257, 1024),
    lambda: sequences(8, 1024, 50257),
    ("AdamW", {"lr": 1e-4, "fused": True}),
    autocast=torch.bfloat16,
)
