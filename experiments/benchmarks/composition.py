"""Suite 'composition': the cost of a composed loss and of a hint, on ResNet-8 with batch 128."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from akd_jax import data, losses
from akd_jax.models.network import Model
from akd_jax.teachers.live import StoredTeacher
from akd_jax.training.stage_run import StageRun
from akd_jax.types import Batch, Clock, Outputs
from experiments.benchmarks import timing, workload

LAYER = "group_2"  # The feature that the hint compares.
_BATCHES = 4  # Updates of a measured stage.
_HINT_WEIGHT = 100.0  # That of RepDistiller's comparison.


def measure(repeats: int) -> dict[str, Any]:
    """Measures the seconds of an update in two pairs of stages.

    - 'step': the cross-entropy as the only term of `losses.compose`, against a function that calls
      the cross-entropy.
    - 'stage': the cross-entropy and a hint of one layer, against the cross-entropy. The projector
      of the hint is trained too. The batches hold the teacher's stored features: the time to
      gather them and to move them to the device counts.

    All stages augment the images by a random crop and flip. Each measurement trains one epoch.
    """
    student = workload.random_model("resnet:8")
    examples = workload.images(_BATCHES * workload.BATCH_SIZE)
    arguments = student, examples, workload.BATCH_SIZE
    comparisons = {
        ("step", "plain loss", "composed loss"): plain_and_composed(*arguments),
        ("stage", "without hint", "with hint"): without_and_with_hint(*arguments),
    }
    seconds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    notes: list[str] = []
    for (label, baseline, variant), runs in comparisons.items():
        first, second = (timing.timed(workload.epoch(run), len(run.train)) for run in runs)
        pair = timing.pair(first, second, repeats)
        seconds |= {f"{label}, {baseline}": pair.baseline, f"{label}, {variant}": pair.variant}
        ratios[f"{label}: {variant} / {baseline}"] = pair.ratio
        notes.append(f"{label}: {pair.spread}")
    return {"seconds": seconds, "ratios": ratios, "notes": notes}


def plain_and_composed(
    student: Model, examples: data.Examples, batch_size: int
) -> tuple[StageRun, StageRun]:
    """Returns a stage whose loss is a function, and one with the same loss, composed."""
    batches = data.Batches(examples, batch_size, seed=0)
    composed = losses.compose(ce=(1.0, losses.cross_entropy))
    return workload.build(student, batches, _plain_loss), workload.build(student, batches, composed)


def without_and_with_hint(
    student: Model, examples: data.Examples, batch_size: int
) -> tuple[StageRun, StageRun]:
    """Returns a stage with the cross-entropy, and one with an additional hint of one layer.

    Args:
      student: the student, whose outputs have the feature LAYER.
      examples: the training examples.
      batch_size: examples per update.
    """
    # The values of the features do not matter, because the time of a step does not depend on them.
    example = examples.take(np.arange(1)).inputs
    shape = jax.eval_shape(student, example).features[LAYER].shape[1:]
    features = jax.random.uniform(jax.random.key(0), (len(examples), *shape))
    view = jax.device_get(Outputs(jnp.zeros((len(examples), 0)), {LAYER: features}))
    ce = (1.0, losses.cross_entropy)
    return (
        workload.build(student, data.Batches(examples, batch_size, seed=0), losses.compose(ce=ce)),
        workload.build(
            student,
            data.Batches(examples, batch_size, seed=0, views=1, stored={"teacher": [view]}),
            losses.compose(ce=ce, hint=(_HINT_WEIGHT, losses.Hint(LAYER))),
            StoredTeacher("teacher"),
        ),
    )


def _plain_loss(
    student: Outputs, teachers: Mapping[str, Outputs], batch: Batch, clock: Clock
) -> jax.Array:
    del teachers, clock
    return losses.cross_entropy(student.logits, batch.labels)
