"""Suite 'memory': the memory that a training step allocates, against the minimum it must hold."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np

from akd_jax import data
from akd_jax.models.network import Model
from akd_jax.teachers.live import LiveTeacher, StoredTeacher
from akd_jax.training.stage_run import StageRun
from akd_jax.types import Batch
from experiments.benchmarks import workload


def measure(repeats: int) -> dict[str, Any]:
    """Reads the megabytes of a step from its program: ResNet-110 into ResNet-8, batch 128.

    'held' is the state (parameters, statistics and momentum), the batch and the teacher. 'kept' is
    the outputs of the student's layers, which the backward pass reads. 'step' is the peak memory
    of the program. The results of the step reuse the memory of the state, so that it counts once.
    """
    del repeats  # Nothing is timed.
    examples = workload.images(workload.BATCH_SIZE)
    teacher, student = workload.random_model("resnet:110"), workload.random_model("resnet:8")
    batches = data.Batches(examples, workload.BATCH_SIZE)
    stored = {"teacher": workload.stored_logits(len(examples))}
    cached = data.Batches(examples, workload.BATCH_SIZE, views=1, stored=stored)
    kept = layer_output_bytes(student, next(batches.epoch()))
    loss = workload.annealed_loss
    runs = {
        "stage II": workload.build(student, batches),
        "stage I, stored logits": workload.build(student, cached, loss, StoredTeacher("teacher")),
        "stage I, live teacher": workload.build(student, batches, loss, LiveTeacher(teacher)),
    }
    rows = [_row(name, run, kept) for name, run in runs.items()]
    headers = ["MB", "state", "teacher", "batch", "held", "kept", "held + kept", "step"]
    ratios = {f"{row[0]}: step / (held + kept)": float(row[-1]) / float(row[-2]) for row in rows}
    return {
        "seconds": {},
        "ratios": ratios,
        "table": {"headers": headers, "rows": rows},
        "notes": _device_peak(),
    }


def _row(name: str, run: StageRun, kept: int) -> list[str]:
    """Returns a row of the table, in megabytes."""
    trainer, batch = workload.Trainer(run), next(run.train.epoch())
    step, arguments = trainer.compiled, trainer.arguments(batch)
    analysis = step.program(*arguments).memory_analysis()
    sizes = [_size(tree) for tree in (run.state, run.teachers, batch)]
    # A state that is not donated would be in memory twice, and add its size to the step's.
    assert analysis.alias_size_in_bytes >= sizes[0], "expected a donated state"
    assert analysis.argument_size_in_bytes <= 1.05 * sum(sizes) + 4096, "expected one teacher"
    held = sum(sizes)
    numbers = [*sizes, held, kept, held + kept, step.memory(*arguments)]
    return [name, *(f"{number / 1e6:.1f}" for number in numbers)]


def layer_output_bytes(model: Model, batch: Batch) -> int:
    """Returns the bytes of the outputs of all convolutions, normalisations and dense layers."""
    _, collections = jax.eval_shape(
        lambda variables, inputs: model.apply_fn(
            variables,
            inputs,
            train=True,
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, name: isinstance(
                module, nn.Conv | nn.BatchNorm | nn.Dense
            ),
        ),
        model.variables,
        batch.inputs,
    )
    return _size(collections["intermediates"])


def _size(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _device_peak() -> list[str]:
    """Returns a note on the peak memory that the device reports; CPUs report none."""
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" not in stats:
        return ["The device reports no peak memory; the numbers are the compiled program's."]
    return [f"Peak of the whole suite, by the device: {stats['peak_bytes_in_use'] / 1e6:.1f} MB."]
