"""Suite 'torch': the paper's procedure as PyTorch users write it (`pytorch.py`) against akd_jax.

akd_jax stores the teacher's logits for a few views and augments on the device. Both sides use
the same networks, batches, images and number of updates, and random weights.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from akd_jax import data
from akd_jax.methods.scratch import supervised_loss
from akd_jax.models.encoder import Encoder, EncoderConfig
from akd_jax.models.network import Model
from akd_jax.teachers.live import StoredTeacher
from akd_jax.training.evaluate import Predictor
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.types import Outputs, Tokens
from experiments.benchmarks import cache, timing, workload
from experiments.benchmarks.shapes import ENCODER, tokens
from experiments.benchmarks.torch_process import check_installed, torch_process

# The whole stage I that is measured.
_TEMPERATURES, _EPOCHS_PER_TEMPERATURE, _VIEWS, _BATCHES = 10, 4, 2, 2
_LENGTHS = (32, 128)  # Tokens per sentence.


def measure(repeats: int) -> dict[str, Any]:
    """Measures the seconds of training steps of PyTorch and of akd_jax.

    - Images: a step and a whole stage I of ResNet-110 into ResNet-8.
    - Texts: a step of an encoder of MiniLM's size on sentences of 32 and of 128 tokens, and a step
      of stage I with a teacher of BERT-base's size.

    Raises:
      InputError: PyTorch or transformers is not installed.
    """
    check_installed("torch", "torch", "transformers")
    with torch_process("experiments.benchmarks.pytorch") as pytorch:
        images, texts = _images(pytorch, repeats), _texts(pytorch, repeats)
    return {
        "seconds": images["seconds"] | texts["seconds"],
        "ratios": images["ratios"] | texts["ratios"],
        "notes": [
            f"The whole stage: {_TEMPERATURES} temperatures x {_EPOCHS_PER_TEMPERATURE} epochs of"
            f" {_BATCHES} batches of {workload.BATCH_SIZE}, measured as one. The time of the"
            f" library includes the teacher's passes over {_VIEWS} views. Neither time includes"
            " compilation.",
        ],
    }


def _images(pytorch: Callable[[str], float], repeats: int) -> dict[str, Any]:
    """Measures stage I of ResNet-110 into ResNet-8."""
    examples = workload.images(_BATCHES * workload.BATCH_SIZE)
    epochs = _TEMPERATURES * _EPOCHS_PER_TEMPERATURE
    predictor = Predictor(workload.AUGMENT.view)
    teacher = workload.random_model("resnet:110")
    unordered = data.Batches(examples, workload.BATCH_SIZE)

    def stored_batches(views: list[Outputs]) -> data.Batches:
        return data.Batches(
            examples,
            workload.BATCH_SIZE,
            seed=0,
            views=len(views),
            stored={"teacher": views},
        )

    zeros = workload.stored_logits(len(examples))
    student = workload.Trainer(
        workload.build(
            workload.random_model("resnet:8"),
            stored_batches(zeros),
            workload.annealed_loss,
            StoredTeacher("teacher"),
        )
    )

    def teacher_passes() -> list[Outputs]:
        return [predictor(teacher, unordered, view) for view in range(_VIEWS)]

    def train(epochs: int, views: list[Outputs]) -> None:
        batches = stored_batches(views)
        for epoch in range(epochs):
            for batch in batches.epoch(epoch):
                student(batch)

    steps: dict[str, Callable[[], float]] = {
        "PyTorch: step with the teacher in it": lambda: pytorch("images 1"),
        "library: step with stored logits": timing.timed(lambda: train(1, zeros), _BATCHES),
        "library: teacher's pass over a batch": timing.timed(teacher_passes, _BATCHES * _VIEWS),
    }
    seconds = timing.medians(steps, repeats)
    stages: dict[str, Callable[[], float]] = {
        "PyTorch: whole stage I": lambda: pytorch(f"images {epochs * _BATCHES}"),
        "library: whole stage I": timing.timed(lambda: train(epochs, teacher_passes())),
    }
    seconds |= timing.medians(stages, max(1, repeats // 3), warm_up=False)
    torch_step, own_step, own_pass, torch_stage, own_stage = seconds.values()
    stage_ratio = functools.partial(cache.stage_ratio, torch_step, own_step, own_pass)
    return {
        "seconds": seconds,
        "ratios": {
            "PyTorch's step / library's step": torch_step / own_step,
            f"PyTorch / library, whole stage I of {epochs} epochs": torch_stage / own_stage,
            "the same for 200 epochs and 4 views, by arithmetic": stage_ratio(epochs=200, views=4),
            "the same for 200 epochs and 20 views, by arithmetic": stage_ratio(
                epochs=200, views=20
            ),
        },
    }


def _texts(pytorch: Callable[[str], float], repeats: int) -> dict[str, Any]:
    """Measures steps of an encoder, without and with a teacher."""
    seconds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    config = EncoderConfig(model_type="bert", **ENCODER)
    for length, distill in [*((length, False) for length in _LENGTHS), (_LENGTHS[0], True)]:
        label = f"{length} tokens" + distill * ", stage I"
        own, theirs = f"library: {label}", f"PyTorch: {label}"
        step = _encoder_step(config, *tokens(length), distill=distill)
        request = f"{'text_stage_1' if distill else 'text'} {length}"
        measurements: dict[str, Callable[[], float]] = {
            own: timing.timed(step),
            theirs: functools.partial(pytorch, request),
        }
        medians = timing.medians(measurements, repeats)
        seconds |= medians
        ratios[f"PyTorch / library, {label}"] = medians[theirs] / medians[own]
    return {"seconds": seconds, "ratios": ratios}


def _encoder_step(
    config: EncoderConfig, ids: np.ndarray, labels: np.ndarray, *, distill: bool
) -> Callable[[], None]:
    """Returns an update of an encoder on one batch, from the labels or from stored logits."""
    module = Encoder(config, 2)
    inputs = Tokens(ids, np.zeros_like(ids), np.full(len(ids), ids.shape[1], np.int32))
    batches = data.Batches(
        data.Examples(inputs, labels),
        len(ids),
        views=1,
        stored={"teacher": workload.stored_logits(len(ids), classes=2)} if distill else None,
    )
    run = workload.build(
        Model(jax.jit(module.init)(jax.random.key(0), inputs), module.apply),
        batches,
        workload.annealed_loss if distill else supervised_loss,
        StoredTeacher("teacher") if distill else None,
        optimizer=OptimizerConfig(
            name="adamw",
            learning_rate=2e-5,
            weight_decay=0.01,
            clip_norm=1.0,
            schedule="constant",
        ),
        augmentation=None,
    )
    return functools.partial(workload.Trainer(run), next(batches.epoch()))
