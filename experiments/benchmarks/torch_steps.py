"""The paper's procedure as PyTorch users write it (`pytorch.py`), against the library's.

The library stores the teacher's logits for some views and augments on the device. Same networks,
batch, images and number of updates; random weights.
"""

import functools
import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from akd_jax import data, parallel
from akd_jax.config import OptimizerConfig
from akd_jax.errors import InputError
from akd_jax.evaluation import Predictor
from akd_jax.methods.scratch import supervised_loss
from akd_jax.models.encoder import Encoder, EncoderConfig
from akd_jax.step import predict_step
from akd_jax.teachers import CachedTeacher
from akd_jax.types import Batch, Teacher, Tokens, TrainState
from experiments.benchmarks import measure as m
from experiments.benchmarks.shapes import ENCODER, tokens

_TEMPERATURES, _EPOCHS, _VIEWS, _BATCHES = 10, 4, 2, 2  # Of the whole stage I that is measured.
_LENGTHS = (32, 128)  # Tokens of a sentence.
_PAUSE = 0.5  # Seconds, after which PyTorch's threads sleep.


def measure(repeats: int) -> dict[str, Any]:
    """Seconds of a step and of a whole stage I of ResNet-110 into ResNet-8, of a step of an
    encoder of MiniLM's size on sentences of 32 and of 128 tokens, and of one of stage I with a
    teacher of BERT-base's size.

    Raises:
      InputError: PyTorch is not installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise InputError(
            "--suite=torch: expected torch and transformers, got none; install requirements-dev.txt"
        )
    command = [sys.executable, "-m", "experiments.benchmarks.pytorch"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def pytorch(what: str) -> float:
            assert process.stdin is not None
            assert process.stdout is not None
            print(what, file=process.stdin, flush=True)
            seconds = float(process.stdout.readline())
            time.sleep(_PAUSE)
            return seconds

        images, texts = _images(pytorch, repeats), _texts(pytorch, repeats)
        process.terminate()
    return {
        "seconds": images["seconds"] | texts["seconds"],
        "ratios": images["ratios"] | texts["ratios"],
        "notes": [
            f"The whole stage: {_TEMPERATURES} temperatures x {_EPOCHS} epochs of {_BATCHES}"
            f" batches of {m.BATCH_SIZE}, measured as one; the library's has the teacher's passes"
            f" over {_VIEWS} views in it. Compilation is in neither.",
        ],
    }


def _images(pytorch: Callable[[str], float], repeats: int) -> dict[str, Any]:
    examples = m.images(_BATCHES * m.BATCH_SIZE)
    epochs = _TEMPERATURES * _EPOCHS
    step = functools.partial(predict_step, augment=m.AUGMENT)
    predictor = Predictor(parallel.compile_predict_step(step))
    teacher = m.teacher_model("resnet:110")
    student = m.Trainer(m.state("resnet:8", m.annealed_loss), {"teacher": CachedTeacher("teacher")})
    plain = data.Batches(examples, m.BATCH_SIZE)

    def passes() -> list[np.ndarray]:
        return [predictor(teacher, plain, view) for view in range(_VIEWS)]

    def train(epochs: int, logits: list[np.ndarray]) -> None:
        stored = {"teacher": logits}
        batches = data.Batches(
            examples, m.BATCH_SIZE, seed=0, views=len(logits), teacher_logits=stored
        )
        for epoch in range(epochs):
            for batch in batches.epoch(epoch):
                student(batch)

    blank = [np.zeros((len(examples), 10), np.float32)]
    steps: dict[str, Callable[[], float]] = {
        "PyTorch: step with the teacher in it": lambda: pytorch("images 1"),
        "library: step with stored logits": m.timed(lambda: train(1, blank), _BATCHES),
        "library: teacher's pass over a batch": m.timed(passes, _BATCHES * _VIEWS),
    }
    seconds = m.medians_of(steps, repeats)
    whole: dict[str, Callable[[], float]] = {
        "PyTorch: whole stage I": lambda: pytorch(f"images {epochs * _BATCHES}"),
        "library: whole stage I": m.timed(lambda: train(epochs, passes())),
    }
    seconds |= m.medians_of(whole, max(1, repeats // 3), warm_up=False)
    torch_step, own_step, own_pass, torch_whole, own_whole = seconds.values()

    def over(epochs: int, views: int) -> float:
        return epochs * torch_step / (epochs * own_step + views * own_pass)

    return {
        "seconds": seconds,
        "ratios": {
            "PyTorch's step / library's step": torch_step / own_step,
            f"PyTorch / library, whole stage I of {epochs} epochs": torch_whole / own_whole,
            "the same for 200 epochs and 4 views, by arithmetic": over(200, 4),
            "the same for 200 epochs and 20 views, by arithmetic": over(200, 20),
        },
    }


def _texts(pytorch: Callable[[str], float], repeats: int) -> dict[str, Any]:
    seconds: dict[str, float] = {}
    ratios: dict[str, float] = {}
    config = EncoderConfig(model_type="bert", **ENCODER)
    for length, taught in [*((length, False) for length in _LENGTHS), (_LENGTHS[0], True)]:
        what = f"{length} tokens" + taught * ", stage I"
        own, theirs = f"library: {what}", f"PyTorch: {what}"
        step = _own_encoder(config, *tokens(length), taught=taught)
        variants: dict[str, Callable[[], float]] = {
            own: m.timed(step),
            theirs: functools.partial(pytorch, f"{'taught' if taught else 'text'} {length}"),
        }
        found = m.medians_of(variants, repeats)
        seconds |= found
        ratios[f"PyTorch / library, {what}"] = found[theirs] / found[own]
    return {"seconds": seconds, "ratios": ratios}


def _own_encoder(
    config: EncoderConfig, ids: np.ndarray, labels: np.ndarray, *, taught: bool
) -> Callable[[], None]:
    module = Encoder(config, 2)
    tokens = Tokens(ids, np.zeros_like(ids), np.full(len(ids), ids.shape[1], np.int32))
    stored = {"teacher": np.zeros((len(ids), 2), np.float32)}
    batch = Batch(tokens, labels, np.ones(len(ids), np.float32), teacher_logits=stored)
    state = TrainState.create(
        module.apply,
        jax.jit(module.init)(jax.random.key(0), tokens),
        optimizer=m.optimizer(
            OptimizerConfig(name="adamw", learning_rate=2e-5, weight_decay=0.01, clip_norm=1.0)
        ),
        loss=m.annealed_loss if taught else supervised_loss,
        key=jax.random.key_data(jax.random.key(0)),
    )
    teachers: dict[str, Teacher] = {"teacher": CachedTeacher("teacher")} if taught else {}
    return functools.partial(m.Trainer(state, teachers), batch)
