"""Suite 'overhead': a step of the training loop against a bare jitted step on the same batches."""

import dataclasses
import functools
import pathlib
import tempfile
import time
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
from akd_jax.models.network import Model, Network
from akd_jax.training.loop import Position, train_stage
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage
from akd_jax.training.stage_run import build_stage
from akd_jax.types import Variables
from experiments.benchmarks import timing, workload

_CHECKPOINT_EVERY = 60  # Epochs, as in configs/digits.py.
_OPTIMIZER = OptimizerConfig(learning_rate=0.05, weight_decay=1e-4, schedule="constant")


def measure(repeats: int) -> dict[str, Any]:
    """Measures the seconds of a step of `train_stage`, and of a jitted function in a for loop.

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
    resnet = workload.network("resnet:8")
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
        pair = timing.pair(case.bare_seconds, case.loop_seconds, repeats)
        seconds |= {f"{name}: bare": pair.baseline, f"{name}: loop": pair.variant}
        ratios[f"{name}: loop / bare"] = pair.ratio
        notes.append(f"{name}: {pair.spread}")
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
        return jax.device_get(self.network.initial_variables(jax.random.key(0), example))

    def loop_seconds(self) -> float:
        """Measures the seconds of a step of the training loop."""
        run = build_stage(
            Stage("student", self.epochs, supervised_loss, _OPTIMIZER),
            Model(self._initial_variables, self.network.apply),
            {},
            self._batches(),
            key=jax.random.key(0),
        )
        evaluate = _ConstantScore()
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            writer = MetricWriter(folder)
            with Checkpoints(folder / "student") as checkpoints:
                train_stage(
                    run,
                    Position("overhead"),
                    evaluate=evaluate,
                    select=("score", "max"),
                    checkpoints=checkpoints,
                    checkpoint_every=_CHECKPOINT_EVERY,
                    writer=writer,
                    steps_per_loop=self.steps_per_loop,
                )
                end = time.perf_counter()
            writer.close()
        return (end - evaluate.times[0]) / ((self.epochs - 1) * len(run.train))

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
class _ConstantScore:
    """An evaluation that takes no time. Every epoch is the best one, since all scores are equal.

    Attributes:
      times: the time of the first evaluation, at the end of the epoch that compiles.
    """

    times: list[float] = dataclasses.field(default_factory=list)

    def __call__(self, model: Model, loss_variables: Variables, /) -> dict[str, float]:
        """Returns the score; the first call waits for the model."""
        del loss_variables
        if not self.times:
            jax.block_until_ready(model)
            self.times.append(time.perf_counter())
        return {"score": 0.5}
