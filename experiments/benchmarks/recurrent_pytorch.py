"""Training steps of recurrent layers in PyTorch, in a separate process.

`python -m experiments.benchmarks.recurrent_pytorch` reads requests 'CELL T' from standard input,
such as 'gru 40', one per line, and answers each with the seconds of a step.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import rnn

from experiments.benchmarks.losses.series import measure_series
from experiments.benchmarks.shapes import RECURRENT_WIDTH, sequences
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


def main() -> None:
    """Answers requests with seconds."""

    @functools.cache
    def measurement(cell: str, length: str) -> Measurement:
        return measure_series(training_step(create_layer(cell), int(length)), lambda _: None)

    for line in sys.stdin:
        print(measurement(*line.split())(), flush=True)


if __name__ == "__main__":
    main()
