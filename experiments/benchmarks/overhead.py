"""Suite 'overhead': a step of the training loop against a bare jitted step on the same batches."""

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

from akd_jax import data, models
from akd_jax.data.readers import digits
from akd_jax.host.checkpoint import Checkpoints
from akd_jax.host.writers import MetricWriter
from akd_jax.methods.scratch import supervised_loss
from akd_jax.models.network import Network
from akd_jax.training import evaluate as evaluation
from akd_jax.training import loop, optimizers, parallel
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage
from akd_jax.training.state import TrainState
from akd_jax.training.step import predict_step
from akd_jax.types import Task
from experiments.benchmarks import workload

_CHECKPOINT_EVERY = 60  # Epochs, as in configs/digits.py.
_OPTIMIZER = OptimizerConfig(learning_rate=0.05, weight_decay=1e-4)


def measure(repeats: int) -> dict[str, Any]:
    """Measures the seconds of a step of `loop.StageRun`, and of a jitted function in a for loop.

    The training loop does everything that a stage does, except the evaluation. It draws the
    batches, fetches the metrics, keeps the best student, and shows the progress bar if standard
    error is a terminal. It writes a record per epoch and a checkpoint every 60 epochs. The bare
    step gets its batches from memory and waits only at the end of each epoch. The first epoch is
    left out, because it compiles the step.
    """
    source = digits.load(None)
    assert source.normalise is not None, "expected images"
    cnn = Network(models.build("plain_cnn:4 M 4 M FC", 10), source.normalise)
    small = Case(cnn, source.train.take(np.arange(1200)), 40, epochs=91)
    resnet, _ = workload.network("resnet:8")
    images = workload.images(10 * workload.BATCH_SIZE)
    cases = {
        "digits CNN, batch 40": small,
        "the same, 5 steps a dispatch": dataclasses.replace(small, steps_per_loop=5),
        "ResNet-8, batch 128": Case(resnet, images, workload.BATCH_SIZE, epochs=6),
    }
    seconds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    notes: list[str] = []
    for name, case in cases.items():
        # The first pair is a warm-up.
        pairs = [(case.bare_seconds(), case.loop_seconds()) for _ in range(repeats + 1)][1:]
        for kind, times in zip(("bare", "loop"), zip(*pairs, strict=True), strict=True):
            seconds[f"{name}: {kind}"] = statistics.median(times)
        quotients = sorted(loop / bare for bare, loop in pairs)
        ratios[f"{name}: loop / bare"] = statistics.median(quotients)
        notes.append(
            f"{name}: the pairs' ratios lie between {quotients[0]:.2f} and {quotients[-1]:.2f}."
        )
    return {"seconds": seconds, "ratios": ratios, "notes": notes}


@dataclasses.dataclass(frozen=True)
class Case:
    """A training run whose step is measured.

    Attributes:
      network: the trained network.
      examples: the training split.
      batch_size: examples per update.
      epochs: number of epochs, at least 2; the first one is not measured.
      steps_per_loop: updates in one compiled program of the training loop.
    """

    network: Network
    examples: data.Examples
    batch_size: int
    epochs: int
    steps_per_loop: int = 1

    def _batches(self) -> data.Batches:
        return data.Batches(self.examples, self.batch_size, seed=0)

    @functools.cached_property
    def _initial_variables(self) -> Any:
        example = self.examples.take(np.arange(1)).inputs
        return jax.device_get(jax.jit(self.network.init)(jax.random.key(0), example))

    def loop_seconds(self) -> float:
        """Measures the seconds of a step of the training loop."""
        stage = Stage("student", self.epochs, supervised_loss, _OPTIMIZER)
        train = self._batches()
        learning_rate = optimizers.learning_rate(stage, len(train))
        state = TrainState.create(
            self.network.apply,
            self._initial_variables,
            optimizer=optimizers.build(_OPTIMIZER, learning_rate),
            loss=supervised_loss,
            key=jax.random.key_data(jax.random.key(0)),
        )
        evaluator = _ConstantEvaluator(
            evaluation.Predictor(parallel.compile_predict_step(predict_step)), Task.numbered(10)
        )
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
                    evaluate=evaluator,
                    learning_rate=learning_rate,
                    checkpoints=checkpoints,
                    checkpoint_every=_CHECKPOINT_EVERY,
                    writer=writer,
                    label="overhead",
                    steps_per_loop=self.steps_per_loop,
                ).run()
                end = time.perf_counter()
            writer.close()
        return (end - evaluator.times[0]) / ((self.epochs - 1) * len(train))

    def bare_seconds(self) -> float:
        """Measures the seconds of a step written with JAX and Optax only."""
        optimizer = optax.chain(
            optax.add_decayed_weights(_OPTIMIZER.weight_decay),
            optax.sgd(_OPTIMIZER.learning_rate, momentum=_OPTIMIZER.momentum),
        )

        @functools.partial(jax.jit, donate_argnums=0)
        def step(state: Any, inputs: Any, labels: Any) -> tuple[Any, jax.Array]:
            params, batch_stats, moments = state

            def mean_loss(params: Any) -> tuple[jax.Array, Any]:
                outputs, new_batch_stats = self.network.apply(
                    {"params": params, **batch_stats}, inputs, train=True, mutable=["batch_stats"]
                )
                losses = optax.softmax_cross_entropy_with_integer_labels(outputs.logits, labels)
                return losses.mean(), new_batch_stats

            (loss, batch_stats), gradients = jax.value_and_grad(mean_loss, has_aux=True)(params)
            updates, moments = optimizer.update(gradients, moments, params)
            return (optax.apply_updates(params, updates), dict(batch_stats), moments), loss

        batch_stats = jax.tree.map(jnp.array, self._initial_variables)
        params = batch_stats.pop("params")
        state = (params, batch_stats, optimizer.init(params))
        epochs = [
            [(batch.inputs, batch.labels) for batch in self._batches().epoch(number)]
            for number in range(self.epochs)
        ]
        for number, batches in enumerate(epochs):
            if number == 1:
                start = time.perf_counter()
            for inputs, labels in batches:
                state, _ = step(state, inputs, labels)
            jax.block_until_ready(state)
        return (time.perf_counter() - start) / sum(map(len, epochs[1:]))


@dataclasses.dataclass(frozen=True)
class _ConstantEvaluator(evaluation.Evaluator):
    """Returns a constant score, so that the evaluation takes no time and every epoch is the best.

    Attributes:
      times: the time of the first evaluation, at the end of the epoch that compiles.
    """

    times: list[float] = dataclasses.field(default_factory=list)

    def dispatch(self, model: Any, batches: data.Batches) -> Callable[[], dict[str, float]]:
        """Returns a function that returns the score; the first call waits for the model."""
        if not self.times:
            jax.block_until_ready(model)
            self.times.append(time.perf_counter())
        return lambda: {"accuracy": 0.5}
