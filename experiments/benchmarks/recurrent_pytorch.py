"""Training steps of recurrent layers in PyTorch, in a separate process.

`python -m experiments.benchmarks.recurrent_pytorch` reads requests 'NETWORK T' from standard input,
such as 'gru 40' or 'student 40', one per line, and answers each with the seconds of a step.
"""

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils import rnn

from experiments.benchmarks.losses.series import measure_series
from experiments.benchmarks.shapes import (
    PAIRS_VOCABULARY,
    PAIRS_WIDTH,
    RECURRENT_WIDTH,
    pairs,
    sequences,
)
from experiments.benchmarks.timing import Measurement


def create_layer(cell: str) -> Any:
    """Returns a bidirectional layer, 'gru' or 'lstm'."""
    torch.manual_seed(0)
    kind = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
    return kind(RECURRENT_WIDTH, RECURRENT_WIDTH, batch_first=True, bidirectional=True)


def training_step(layer: Any, length: int) -> Callable[[], tuple[Any, Any]]:
    """Returns a training step of a layer on packed sequences of at most `length` positions.

    The step computes the mean square of the states of the real positions, its gradients with
    respect to parameters and inputs, and an update by SGD with momentum. It returns the mean and
    the gradient of the inputs.
    """
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9)
    inputs, lengths = (torch.from_numpy(array) for array in sequences(length))
    inputs.requires_grad_()

    def step() -> tuple[Any, Any]:
        packed = rnn.pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        loss = layer(packed)[0].data.square().mean()
        optimizer.zero_grad()
        inputs.grad = None
        loss.backward()
        optimizer.step()
        return loss, inputs.grad

    return step


class Side(nn.Module):
    """One side of the quality estimation student, see `akd_jax.models.birnn`."""

    def __init__(self, vocabulary: int, embedding: int, width: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.gru = nn.GRU(embedding, width, batch_first=True, bidirectional=True)
        self.projection = nn.Linear(2 * width, 2 * width)
        self.context = nn.Parameter(torch.randn(2 * width))

    def forward(self, ids: Any, lengths: Any) -> Any:
        """Maps token ids [B, L] and lengths [B] to vectors [B, 2 H]."""
        packed = rnn.pack_padded_sequence(
            self.embedding(ids), lengths, batch_first=True, enforce_sorted=False
        )
        states, _ = rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True)
        projected = self.projection(nn.functional.dropout(states, 0.5, self.training))
        padding = torch.arange(states.shape[1]) >= lengths[:, None]
        logits = (projected @ self.context).masked_fill(padding, -torch.inf)
        return (torch.softmax(logits, dim=1)[..., None] * projected).sum(dim=1)


class Student(nn.Module):
    """The quality estimation student: `akd_jax.models.birnn.BiRnn` in PyTorch."""

    def __init__(self, vocabulary: int, embedding: int, width: int):
        super().__init__()
        torch.manual_seed(0)
        self.source, self.target = (Side(vocabulary, embedding, width) for _ in range(2))
        self.output = nn.Linear(4 * width, 1)

    def forward(self, sides: Sequence[tuple[Any, Any]]) -> Any:
        """Maps the token ids [B, L] and lengths [B] of both sides to scores [B]."""
        vectors = [
            side(*texts) for side, texts in zip((self.source, self.target), sides, strict=True)
        ]
        return torch.sigmoid(self.output(torch.cat(vectors, dim=1)))[:, 0]


def student_step(length: int) -> Callable[[], Any]:
    """Returns a training step of the student by Adagrad, which returns the mean squared error."""
    student = Student(PAIRS_VOCABULARY, PAIRS_WIDTH, PAIRS_WIDTH)
    optimizer = torch.optim.Adagrad(student.parameters(), lr=0.001)
    arrays, scores = pairs(length)
    sides = [tuple(map(torch.from_numpy, texts)) for texts in arrays]
    labels = torch.from_numpy(scores)

    def step() -> Any:
        loss = (student(sides) - labels).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def main() -> None:
    """Answers requests with seconds."""

    @functools.cache
    def measurement(network: str, length: str) -> Measurement:
        if network == "student":
            return measure_series(student_step(int(length)), lambda _: None)
        return measure_series(training_step(create_layer(network), int(length)), lambda _: None)

    for line in sys.stdin:
        print(measurement(*line.split())(), flush=True)


if __name__ == "__main__":
    main()
