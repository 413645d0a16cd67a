"""The paper's procedure as PyTorch users write it, in a separate process.

The code runs eagerly. Every step runs the teacher in eval mode under no_grad, and augments the
images one by one on the host, as torchvision does.

`python -m experiments.benchmarks.pytorch` reads requests from standard input, one per line, and
answers each with its seconds.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import transformers
from torch import nn
from torch.nn import functional

from experiments.benchmarks.shapes import BATCH_SIZE, ENCODER, TEACHER, tokens


def stage_one() -> Callable[[np.ndarray], None]:
    """Returns a step of stage I with a live teacher, on images uint8 [B, 32, 32, 3]."""
    torch.manual_seed(0)
    teacher, student = _resnet(18).eval(), _resnet(1)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    rng = np.random.default_rng(0)
    mean, std = np.full(3, 127.5, np.float32), np.full(3, 64.0, np.float32)

    def view(image: np.ndarray) -> np.ndarray:
        padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
        top, left = rng.integers(0, 9, 2)
        cropped = padded[top : top + 32, left : left + 32]
        flipped = cropped[:, ::-1] if rng.random() < 0.5 else cropped
        return ((flipped.astype(np.float32) - mean) / std).transpose(2, 0, 1)

    def step(images: np.ndarray) -> None:
        inputs = torch.from_numpy(np.stack([view(image) for image in images]))
        with torch.no_grad():
            targets = 0.4 * teacher(inputs)
        loss = functional.mse_loss(student(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def _resnet(blocks: int) -> Any:
    """Returns a CIFAR ResNet of 6 * blocks + 2 layers."""

    class Block(nn.Module):
        def __init__(self, in_channels: int, width: int, stride: int):
            super().__init__()
            self.conv1 = nn.Conv2d(in_channels, width, 3, stride, 1, bias=False)
            self.norm1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(width)
            self.shortcut = nn.Sequential()
            if in_channels != width:
                conv = nn.Conv2d(in_channels, width, 1, stride, bias=False)
                self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(width))

        def forward(self, x: Any) -> Any:
            out = functional.relu(self.norm1(self.conv1(x)))
            return functional.relu(self.norm2(self.conv2(out)) + self.shortcut(x))

    layers: list[Any] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    in_channels = 16
    for width in (16, 32, 64):
        for number in range(blocks):
            layers.append(Block(in_channels, width, 2 if width > 16 and number == 0 else 1))
            in_channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def encoder(ids: np.ndarray, labels: np.ndarray, *, distill: bool = False) -> Callable[[], None]:
    """Returns a step of an encoder on one batch.

    Args:
      ids: token ids, int [B, L].
      labels: class indices, int [B].
      distill: whether the step belongs to stage I and runs a teacher of BERT-base's size.
    """
    torch.manual_seed(0)
    model = _bert(ENCODER).train()
    teacher = _bert(TEACHER).eval() if distill else None
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
        lr=2e-5,
    )
    inputs, targets = torch.from_numpy(ids).long(), torch.from_numpy(labels).long()
    mask = torch.ones_like(inputs)

    def step() -> None:
        if teacher is None:
            loss = model(input_ids=inputs, attention_mask=mask, labels=targets).loss
        else:
            with torch.no_grad():
                annealed = 0.4 * teacher(input_ids=inputs, attention_mask=mask).logits
            logits = model(input_ids=inputs, attention_mask=mask).logits
            loss = functional.mse_loss(logits, annealed)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()

    return step


def _bert(sizes: dict[str, Any]) -> Any:
    return transformers.BertForSequenceClassification(transformers.BertConfig(**sizes))


def main() -> None:
    """Answers requests with seconds.

    Requests are 'images N', N steps of stage I on images; 'text L', a step on sentences of L
    tokens; and 'text_stage_1 L', a step of stage I on them.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH_SIZE, 32, 32, 3), np.uint8)
    image_step = stage_one()
    text_steps: dict[str, Callable[[], None]] = {}
    for line in sys.stdin:
        kind, number = line.split()
        if kind != "images" and line not in text_steps:
            text_steps[line] = encoder(*tokens(int(number)), distill=kind == "text_stage_1")
        started = time.perf_counter()
        if kind == "images":
            for _ in range(int(number)):
                image_step(images)
        else:
            text_steps[line]()
        print(json.dumps(time.perf_counter() - started), flush=True)


if __name__ == "__main__":
    main()
