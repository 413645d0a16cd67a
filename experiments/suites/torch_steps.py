"""The paper's procedure as PyTorch users write it, against the library's.

PyTorch runs eagerly: the teacher in eval mode under no_grad in every step, images augmented one by
one on the host as torchvision does. The library stores the teacher's logits for some views and
augments on the device. Same networks, batch, images and number of updates; random weights.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from akd_jax import data, parallel
from akd_jax.errors import InputError
from akd_jax.loop import Predictor
from akd_jax.methods.scratch import hard_label_loss
from akd_jax.models.encoder import Encoder, EncoderConfig
from akd_jax.step import predict_step
from akd_jax.teachers import CachedTeacher
from akd_jax.types import Batch, Tokens, TrainState
from experiments.suites import measure as m

try:
    import torch
    import transformers
    from torch import nn
    from torch.nn import functional
except ImportError:  # Only people who compare need them.
    torch = None  # type: ignore[assignment]

_TEMPERATURES, _EPOCHS, _VIEWS, _BATCHES = 10, 4, 2, 2  # Of the whole stage I that is measured.
_TEXTS = 32  # Of a batch.
_ENCODER = {  # MiniLM's sizes.
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}


def measure(repeats: int) -> dict[str, Any]:
    """Seconds of a step and of a whole stage I of ResNet-110 into ResNet-8, and of a step of an
    encoder of MiniLM's size on sentences of 32 and of 128 tokens.

    Raises:
      InputError: PyTorch is not installed.
    """
    if torch is None:
        raise InputError(
            "--suite=torch: expected torch and transformers, got none of one; install"
            " requirements-dev.txt"
        )
    images = _images(repeats)
    texts = _texts(repeats)
    return {
        "seconds": images["seconds"] | texts["seconds"],
        "ratios": images["ratios"] | texts["ratios"],
        "notes": [
            f"The whole stage: {_TEMPERATURES} temperatures x {_EPOCHS} epochs of {_BATCHES}"
            f" batches of {m.BATCH_SIZE}, measured as one; the library's has the teacher's passes"
            f" over {_VIEWS} views in it. Compilation is in neither.",
        ],
    }


def _images(repeats: int) -> dict[str, Any]:
    examples = m.images(_BATCHES * m.BATCH_SIZE)
    epochs = _TEMPERATURES * _EPOCHS
    step = functools.partial(predict_step, augment=m.AUGMENT)
    predictor = Predictor(parallel.compile_predict_step(step))
    teacher = m.teacher_model("resnet:110")
    student = m.trainer(
        m.state("resnet:8", m.annealed_loss), {"teacher": CachedTeacher("teacher")}
    )
    live = _torch_stage_one()
    plain = data.Batches(examples, m.BATCH_SIZE)

    def passes() -> list[np.ndarray]:
        return [predictor(teacher, plain, view) for view in range(_VIEWS)]

    def library(epochs: int) -> None:
        batches = data.Batches(
            examples,
            m.BATCH_SIZE,
            seed=0,
            views=_VIEWS,
            teacher_logits={"teacher": passes()},
        )
        for epoch in range(epochs):
            for batch in batches.epoch(epoch):
                student(batch)

    def pytorch(epochs: int) -> None:
        for epoch in range(epochs):
            for batch in plain.epoch(epoch):
                live(batch)

    (first,) = plain.epoch() if _BATCHES == 1 else (next(iter(plain.epoch())),)
    logits = [np.zeros((len(examples), 10), np.float32)]
    stored = data.Batches(examples, m.BATCH_SIZE, views=1, teacher_logits={"teacher": logits})
    cached = next(iter(stored.epoch()))
    seconds = m.medians(
        {
            "PyTorch: step with the teacher in it": lambda: live(first),
            "library: step with stored logits": lambda: student(cached),
            f"library: teacher's pass over {_VIEWS} views of {_BATCHES} batches": passes,
        },
        repeats,
    )
    whole = {
        "PyTorch: whole stage I": lambda: pytorch(epochs),
        "library: whole stage I": lambda: library(epochs),
    }
    seconds |= m.medians(whole, max(1, repeats // 3))
    torch_step, own_step, pass_ = list(seconds.values())[:3]
    pass_ /= _VIEWS * _BATCHES

    def over(epochs: int, views: int) -> float:
        return epochs * torch_step / (epochs * own_step + views * pass_)

    torch_whole, own_whole = list(seconds.values())[3:]
    return {
        "seconds": seconds,
        "ratios": {
            "PyTorch step / library's step": torch_step / own_step,
            f"PyTorch / library, whole stage I of {epochs} epochs": torch_whole / own_whole,
            "the same for 200 epochs and 4 views, by arithmetic": over(200, 4),
            "the same for 200 epochs and 20 views, by arithmetic": over(200, 20),
        },
    }


def _torch_stage_one() -> Callable[[Batch], None]:
    """A live step of stage I."""
    torch.manual_seed(0)
    teacher, student = _resnet(18).eval(), _resnet(1)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    rng = np.random.default_rng(0)
    mean, std = np.float32([127.5] * 3), np.float32([64.0] * 3)

    def view(image: np.ndarray) -> np.ndarray:
        padded = np.pad(image, ((4, 4), (4, 4), (0, 0)))
        top, left = rng.integers(0, 9, 2)
        cropped = padded[top : top + 32, left : left + 32]
        flipped = cropped[:, ::-1] if rng.random() < 0.5 else cropped
        return ((flipped.astype(np.float32) - mean) / std).transpose(2, 0, 1)

    def step(batch: Batch) -> None:
        inputs = torch.from_numpy(np.stack([view(image) for image in np.asarray(batch.inputs)]))
        with torch.no_grad():
            targets = 0.4 * teacher(inputs)
        loss = functional.mse_loss(student(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def _resnet(blocks: int) -> Any:
    """The CIFAR ResNet of 6 * blocks + 2 layers."""

    class Block(nn.Module):
        def __init__(self, before: int, width: int, stride: int):
            super().__init__()
            self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
            self.norm1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(width)
            self.shortcut = nn.Sequential()
            if before != width:
                conv = nn.Conv2d(before, width, 1, stride, bias=False)
                self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(width))

        def forward(self, x: Any) -> Any:
            out = functional.relu(self.norm1(self.conv1(x)))
            return functional.relu(self.norm2(self.conv2(out)) + self.shortcut(x))

    layers: list[Any] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    before = 16
    for width in (16, 32, 64):
        for number in range(blocks):
            layers.append(Block(before, width, 2 if width > 16 and number == 0 else 1))
            before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def _texts(repeats: int) -> dict[str, Any]:
    seconds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    for length in (32, 128):
        rng = np.random.default_rng(0)
        ids = rng.integers(1000, 30000, (_TEXTS, length)).astype(np.int32)
        labels = rng.integers(0, 2, _TEXTS).astype(np.int32)
        own, theirs = f"library: {length} tokens", f"PyTorch: {length} tokens"
        found = m.medians(
            {own: _own_encoder(ids, labels), theirs: _torch_encoder(ids, labels)}, repeats
        )
        seconds |= found
        ratios[f"PyTorch / library, {length} tokens"] = found[theirs] / found[own]
    return {"seconds": seconds, "ratios": ratios}


def _own_encoder(ids: np.ndarray, labels: np.ndarray) -> Callable[[], None]:
    config = EncoderConfig(model_type="bert", **_ENCODER)
    module = Encoder(config, 2)
    tokens = Tokens(ids, np.zeros_like(ids), np.full(len(ids), ids.shape[1], np.int32))
    batch = Batch(tokens, labels, np.ones(len(ids), np.float32))
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(
            2e-5, weight_decay=0.01, mask=lambda tree: jax.tree.map(lambda x: x.ndim > 1, tree)
        ),
    )
    state = TrainState.create(
        module.apply,
        jax.jit(module.init)(jax.random.key(0), tokens),
        optimizer=optimizer,
        loss=hard_label_loss,
        key=jax.random.key_data(jax.random.key(0)),
    )
    return functools.partial(m.trainer(state, {}), batch)


def _torch_encoder(ids: np.ndarray, labels: np.ndarray) -> Callable[[], None]:
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**_ENCODER))
    model.train()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
        lr=2e-5,
    )
    inputs, targets = torch.from_numpy(ids).long(), torch.from_numpy(labels).long()
    mask = torch.ones_like(inputs)

    def step() -> None:
        loss = model(input_ids=inputs, attention_mask=mask, labels=targets).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()

    return step
