"""Suite 'cache': a step of stage I with stored teacher logits against a live teacher."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from akd_jax import data
from akd_jax.teachers.live import LiveTeacher, StoredTeacher
from akd_jax.training import parallel
from akd_jax.training.step import predict_step
from experiments.benchmarks import timing, workload

# The whole stage I whose ratio is computed from the measured steps.
_VIEWS, _TEMPERATURES, _EPOCHS_PER_TEMPERATURE = 4, 10, 2


def measure(repeats: int) -> dict[str, Any]:
    """Measures the seconds of a step of ResNet-110 into ResNet-8, on 32x32x3 images, batch 128.

    All steps augment the images by a random crop and flip.
    """
    examples = workload.images(workload.BATCH_SIZE)
    teacher, student = workload.random_model("resnet:110"), workload.random_model("resnet:8")
    batches = data.Batches(examples, workload.BATCH_SIZE)
    stored = {"teacher": workload.stored_logits(len(examples))}
    cached_batches = data.Batches(examples, workload.BATCH_SIZE, views=1, stored=stored)
    (batch,) = batches.epoch()
    predict = parallel.compile_predict_step(
        functools.partial(predict_step, view=workload.AUGMENT.view)
    )
    replicated_model = parallel.replicate(teacher)

    def step(batches: data.Batches, *loss_and_teacher: Any) -> Callable[[], Any]:
        run = workload.build(student, batches, *loss_and_teacher)
        return functools.partial(workload.Trainer(run), next(batches.epoch()))

    steps: dict[str, Callable[[], Any]] = {
        "stage II step": step(batches),
        "stage I step, cached": step(
            cached_batches, workload.annealed_loss, StoredTeacher("teacher")
        ),
        "stage I step, live": step(batches, workload.annealed_loss, LiveTeacher(teacher)),
        "teacher pass over a batch": lambda: jax.block_until_ready(
            predict(replicated_model, parallel.shard(batch))
        ),
    }
    seconds = timing.median_times(steps, repeats)
    live, cached = seconds["stage I step, live"], seconds["stage I step, cached"]
    teacher_pass = seconds["teacher pass over a batch"]

    def whole_stage(epochs: int) -> float:
        return stage_ratio(live, cached, teacher_pass, epochs=epochs, views=_VIEWS)

    epochs = _TEMPERATURES * _EPOCHS_PER_TEMPERATURE
    return {
        "seconds": seconds,
        "ratios": {
            "cached step / stage II step": cached / seconds["stage II step"],
            "live step / cached step": live / cached,
            f"live / cached for {epochs} epochs, {_VIEWS} views' passes counted in": whole_stage(
                epochs
            ),
            f"live / cached for 200 epochs, {_VIEWS} views' passes counted in": whole_stage(200),
        },
    }


def stage_ratio(
    live: float, cached: float, teacher_pass: float, *, epochs: int, views: int
) -> float:
    """Returns e l / (e c + v p): the time of a stage with a live teacher over the cached time.

    Args:
      live: l, seconds of a step with a live teacher.
      cached: c, seconds of a step with stored logits.
      teacher_pass: p, seconds of the teacher for one batch.
      epochs: e.
      views: v, views of each example whose logits are stored before the stage.
    """
    return epochs * live / (epochs * cached + views * teacher_pass)
