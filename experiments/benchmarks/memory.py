"""Suite 'memory': the memory that a training step allocates, against the minimum it must hold."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from akd_jax import data
from akd_jax.teachers.live import CachedTeacher, LiveTeacher
from akd_jax.training.state import TrainState
from akd_jax.types import Batch, Teacher
from experiments.benchmarks import workload


def measure(repeats: int) -> dict[str, Any]:
    """Reads the megabytes of a step from its program: ResNet-110 into ResNet-8, batch 128.

    'held' is the state (parameters, statistics and momentum), the batch and the teacher. 'kept' is
    the outputs of the student's layers, which the backward pass reads. 'step' is the peak memory
    of the program. The results of the step reuse the memory of the state, so that it counts once.
    """
    del repeats  # Nothing is timed.
    examples = workload.images(workload.BATCH_SIZE)
    logits = {"teacher": [np.zeros((workload.BATCH_SIZE, 10), np.float32)]}
    (batch,) = data.Batches(examples, workload.BATCH_SIZE).epoch()
    (cached,) = data.Batches(examples, workload.BATCH_SIZE, views=1, teacher_logits=logits).epoch()
    teacher = workload.teacher_model("resnet:110")
    supervised = workload.state("resnet:8")
    annealed = workload.state("resnet:8", workload.annealed_loss)
    kept = layer_output_bytes(supervised, batch)
    rows = [
        _row(name, state, teachers, batch, kept)
        for name, state, teachers, batch in (
            ("stage II", supervised, {}, batch),
            ("stage I, stored logits", annealed, {"teacher": CachedTeacher("teacher")}, cached),
            ("stage I, live teacher", annealed, {"teacher": LiveTeacher(teacher)}, batch),
        )
    ]
    headers = ["MB", "state", "teacher", "batch", "held", "kept", "held + kept", "step"]
    ratios = {f"{row[0]}: step / (held + kept)": float(row[-1]) / float(row[-2]) for row in rows}
    return {
        "seconds": {},
        "ratios": ratios,
        "table": {"headers": headers, "rows": rows},
        "notes": _device_peak(),
    }


def _row(
    name: str,
    state: TrainState,
    teachers: Mapping[str, Teacher],
    batch: Batch,
    kept: int,
) -> list[str]:
    """Returns a row of the table, in megabytes."""
    trainer = workload.Trainer(state, teachers)
    step, arguments = trainer.compiled, trainer.arguments(batch)
    analysis = step.program(*arguments).memory_analysis()
    sizes = [_size(tree) for tree in (state, teachers, batch)]
    # A state that is not donated would be in memory twice, and add its size to the step's.
    assert analysis.alias_size_in_bytes >= sizes[0], "expected a donated state"
    assert analysis.argument_size_in_bytes <= 1.05 * sum(sizes) + 4096, "expected one teacher"
    held = sum(sizes)
    numbers = [*sizes, held, kept, held + kept, step.memory(*arguments)]
    return [name, *(f"{number / 1e6:.1f}" for number in numbers)]


def layer_output_bytes(state: TrainState, batch: Batch) -> int:
    """Returns the bytes of the outputs of all convolutions, normalisations and dense layers."""
    _, collections = jax.eval_shape(
        lambda variables, inputs: state.apply_fn(
            variables,
            inputs,
            train=True,
            mutable=["batch_stats", "intermediates"],
            capture_intermediates=lambda module, name: isinstance(
                module, nn.Conv | nn.BatchNorm | nn.Dense
            ),
        ),
        {"params": state.params, **state.model_state},
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
