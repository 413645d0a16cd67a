"""The library's loop against a bare step, written by hand, on the same batches."""

import dataclasses
import functools
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from akd_jax import data, evaluation, loop, models, optimizers
from akd_jax.checkpoint import Checkpoints
from akd_jax.config import OptimizerConfig
from akd_jax.data import digits
from akd_jax.methods.scratch import supervised_loss
from akd_jax.types import Network, Stage, Task, TrainState
from akd_jax.writers import MetricWriter
from experiments.benchmarks import measure as m

_CHECKPOINT_EVERY = 60  # Epochs, as in configs/digits.py.
_OPTIMIZER = OptimizerConfig(learning_rate=0.05, weight_decay=1e-4)


def measure(repeats: int) -> dict[str, Any]:
    """Seconds of a step: by `loop.StageRun`, and by a jitted function in a for loop.

    The library's are all that a stage does but evaluate: it draws the batches, fetches the
    metrics, draws the progress bar where standard error is a terminal, keeps the best student and
    writes a record each epoch, and a checkpoint every 60. The bare step has its batches ready,
    and waits at the end of each epoch alone. The first epoch, which compiles, is left out.
    """
    source = digits.load(None)
    assert source.normalise is not None, "expected images"
    cnn = Network(models.build("plain_cnn:4 M 4 M FC", 10), source.normalise)
    small = _Case(cnn, source.train.take(np.arange(1200)), 40, epochs=91)
    cases = {
        "digits CNN, batch 40": small,
        "the same, 5 steps a dispatch": dataclasses.replace(small, steps_per_loop=5),
        "ResNet-8, batch 128": _Case(
            m.network("resnet:8")[0], m.images(10 * m.BATCH_SIZE), m.BATCH_SIZE, epochs=6
        ),
    }
    seconds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    notes: list[str] = []
    for name, case in cases.items():
        pairs = [(case.bare(), case.by_loop()) for _ in range(repeats + 1)][1:]
        for kind, times in zip(("bare", "loop"), zip(*pairs, strict=True), strict=True):
            seconds[f"{name}: {kind}"] = statistics.median(times)
        found = sorted(loop / bare for bare, loop in pairs)
        ratios[f"{name}: loop / bare"] = statistics.median(found)
        notes.append(f"{name}: the pairs' ratios lie between {found[0]:.2f} and {found[-1]:.2f}.")
    return {"seconds": seconds, "ratios": ratios, "notes": notes}


@dataclasses.dataclass(frozen=True)
class _Case:
    network: Network
    examples: data.Examples
    batch_size: int
    epochs: int
    steps_per_loop: int = 1

    def batches(self) -> data.Batches:
        return data.Batches(self.examples, self.batch_size, seed=0)

    @functools.cached_property
    def start(self) -> Any:
        example = self.examples.take(np.arange(1)).inputs
        return jax.device_get(jax.jit(self.network.init)(jax.random.key(0), example))

    def by_loop(self) -> float:
        """Seconds of a step of the library's loop."""
        stage = Stage("student", self.epochs, supervised_loss, _OPTIMIZER)
        train = self.batches()
        learning_rate = optimizers.learning_rate(stage, len(train))
        state = TrainState.create(
            self.network.apply,
            self.start,
            optimizer=optimizers.build(_OPTIMIZER, learning_rate),
            loss=supervised_loss,
            key=jax.random.key_data(jax.random.key(0)),
        )
        clock = _Clock()
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            writer = MetricWriter(folder)
            with Checkpoints(folder / "student") as checkpoints:
                loop.StageRun(
                    stage,
                    state,
                    {},
                    train=train,
                    validation=train,
                    evaluate=clock,
                    learning_rate=learning_rate,
                    checkpoints=checkpoints,
                    checkpoint_every=_CHECKPOINT_EVERY,
                    writer=writer,
                    label="overhead",
                    steps_per_loop=self.steps_per_loop,
                ).run()
                ended = time.perf_counter()
            writer.close()
        return (ended - clock.first) / ((self.epochs - 1) * len(train))

    def bare(self) -> float:
        """Seconds of a step written by hand."""
        optimizer = optax.chain(
            optax.add_decayed_weights(_OPTIMIZER.weight_decay),
            optax.sgd(_OPTIMIZER.learning_rate, momentum=_OPTIMIZER.momentum),
        )

        @functools.partial(jax.jit, donate_argnums=0)
        def step(state: Any, inputs: Any, labels: Any) -> tuple[Any, jax.Array]:
            params, statistics, moments = state

            def mean_loss(params: Any) -> tuple[jax.Array, Any]:
                outputs, changed = self.network.apply(
                    {"params": params, **statistics}, inputs, train=True, mutable=["batch_stats"]
                )
                losses = optax.softmax_cross_entropy_with_integer_labels(outputs.logits, labels)
                return losses.mean(), changed

            (loss, statistics), gradients = jax.value_and_grad(mean_loss, has_aux=True)(params)
            updates, moments = optimizer.update(gradients, moments, params)
            return (optax.apply_updates(params, updates), dict(statistics), moments), loss

        placed = jax.tree.map(jnp.array, self.start)
        params = placed.pop("params")
        state = (params, placed, optimizer.init(params))
        epochs = [
            [(batch.inputs, batch.labels) for batch in self.batches().epoch(number)]
            for number in range(self.epochs)
        ]
        for number, batches in enumerate(epochs):
            if number == 1:
                started = time.perf_counter()
            for inputs, labels in batches:
                state, _ = step(state, inputs, labels)
            jax.block_until_ready(state)
        return (time.perf_counter() - started) / sum(map(len, epochs[1:]))


class _Clock(evaluation.Evaluator):
    """Stands for the evaluation; notes the moment of the first one, and finds every epoch best."""

    def __init__(self) -> None:
        super().__init__(None, Task.numbered(10))  # type: ignore[arg-type]  # Predicts nothing.
        object.__setattr__(self, "first", 0.0)

    first: float

    def begin(self, model: Any, batches: data.Batches) -> Callable[[], dict[str, float]]:
        """One and the same score."""
        if not self.first:
            jax.block_until_ready(model)
            object.__setattr__(self, "first", time.perf_counter())
        return lambda: {"accuracy": 0.5}
