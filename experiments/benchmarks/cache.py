"""Stage I with the teacher's logits stored, and with the teacher in every step."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from akd_jax import data, parallel
from akd_jax.step import predict_step
from akd_jax.teachers import CachedTeacher, LiveTeacher
from experiments.benchmarks import measure as m

_VIEWS, _TEMPERATURES, _EPOCHS = 4, 10, 2  # Of the arithmetic for a whole stage I.


def measure(repeats: int) -> dict[str, Any]:
    """Seconds of a step of ResNet-110 into ResNet-8 on 32x32x3 images, batch 128.

    All steps draw views by crop and flip.
    """
    examples = m.images(m.BATCH_SIZE)
    model = m.teacher_model("resnet:110")
    logits = {"teacher": [np.zeros((m.BATCH_SIZE, 10), np.float32)]}
    (batch,) = data.Batches(examples, m.BATCH_SIZE).epoch()
    (cached,) = data.Batches(examples, m.BATCH_SIZE, views=1, teacher_logits=logits).epoch()
    step = functools.partial(predict_step, augment=m.AUGMENT)
    predict, placed = parallel.compile_predict_step(step), parallel.replicate(model)
    student, annealed = m.state("resnet:8"), m.state("resnet:8", m.annealed_loss)
    steps: dict[str, Callable[[], Any]] = {
        "stage II step": functools.partial(m.Trainer(student, {}), batch),
        "stage I step, cached": functools.partial(
            m.Trainer(annealed, {"teacher": CachedTeacher("teacher")}), cached
        ),
        "stage I step, live": functools.partial(
            m.Trainer(annealed, {"teacher": LiveTeacher(model)}), batch
        ),
        "teacher pass over a batch": lambda: jax.block_until_ready(
            predict(placed, parallel.shard(batch))
        ),
    }
    seconds = m.medians(steps, repeats)
    live, stored = seconds["stage I step, live"], seconds["stage I step, cached"]

    def whole(epochs: int) -> float:
        passes = _VIEWS * seconds["teacher pass over a batch"]
        return epochs * live / (epochs * stored + passes)

    epochs = _TEMPERATURES * _EPOCHS
    return {
        "seconds": seconds,
        "ratios": {
            "cached step / stage II step": stored / seconds["stage II step"],
            "live step / cached step": live / stored,
            f"live / cached for {epochs} epochs, {_VIEWS} views' passes counted in": whole(epochs),
            f"live / cached for 200 epochs, {_VIEWS} views' passes counted in": whole(200),
        },
    }
