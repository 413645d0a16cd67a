"""The memory that a step takes on a device, against what it must hold."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from akd_jax import data
from akd_jax.teachers import CachedTeacher, LiveTeacher
from akd_jax.types import Batch, Teacher, TrainState
from experiments.benchmarks import measure as m


def measure(repeats: int) -> dict[str, Any]:
    """Megabytes of a step of ResNet-110 into ResNet-8, batch 128, from the compiled program.

    held: parameters, statistics and momentum (the state), the batch, and the teacher. kept: what
    the student's layers put out, which its backward pass reads. step: all that the program takes,
    at its peak; its results take over the state's memory, so that they are not counted twice.
    """
    del repeats  # Nothing is timed.
    examples = m.images(m.BATCH_SIZE)
    logits = {"teacher": [np.zeros((m.BATCH_SIZE, 10), np.float32)]}
    (batch,) = data.Batches(examples, m.BATCH_SIZE).epoch()
    (cached,) = data.Batches(examples, m.BATCH_SIZE, views=1, teacher_logits=logits).epoch()
    teacher = m.teacher_model("resnet:110")
    annealed, hard = m.state("resnet:8", m.annealed_loss), m.state("resnet:8")
    kept = _kept(hard, batch)
    rows = [
        _row(name, state, teachers, batch, kept)
        for name, state, teachers, batch in (
            ("stage II", hard, {}, batch),
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
        "notes": _peak(),
    }


def _row(
    name: str,
    state: TrainState,
    teachers: Mapping[str, Teacher],
    batch: Batch,
    kept: int,
) -> list[str]:
    trainer = m.Trainer(state, teachers)
    step, arguments = trainer.compiled, trainer.arguments(batch)
    found = step.program(*arguments).memory_analysis()
    sizes = [_size(tree) for tree in (state, teachers, batch)]
    # Donated, and so not there twice: a state that is not would add its size to the step's.
    assert found.alias_size_in_bytes >= sizes[0], "expected a state that is donated"
    assert found.argument_size_in_bytes <= 1.05 * sum(sizes) + 4096, "expected one teacher"
    held = sum(sizes)
    numbers = [*sizes, held, kept, held + kept, step.memory(*arguments)]
    return [name, *(f"{number / 1e6:.1f}" for number in numbers)]


def _kept(state: TrainState, batch: Batch) -> int:
    """Bytes of what the convolutions, normalisations and dense layers put out."""
    shapes = jax.eval_shape(
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
    return _size(shapes[1]["intermediates"])


def _size(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _peak() -> list[str]:
    """What the device itself says of its peak; CPUs say nothing."""
    found = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" not in found:
        return ["The device does not say its peak; the numbers are the compiled program's."]
    return [f"Peak of the whole suite, by the device: {found['peak_bytes_in_use'] / 1e6:.1f} MB."]
