"""Measures, side by side in one process, what the library exists to make fast.

python -m experiments.benchmark --suite=cache --output=experiments/results/cache_cpu.json

Each figure is the median of paired repeats: the variants take turns, so that a busy moment of
the machine meets all of them. Writes JSON, and beside it the same as a Markdown table.
"""

import functools
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax
from absl import flags

from akd_jax import data, losses, models, parallel, records
from akd_jax.data import text as text_data
from akd_jax.data.augmentation import Augmentation
from akd_jax.errors import InputError
from akd_jax.methods.scratch import hard_label_loss
from akd_jax.plan import plan
from akd_jax.run import stage_state
from akd_jax.step import predict_step, train_step
from akd_jax.teachers import CachedTeacher, LiveTeacher
from akd_jax.types import Model, Network, TrainState
from experiments import cli

_SUITE = flags.DEFINE_string("suite", None, "'cache' or 'text'.")
_CONFIG = cli.config_flag()
_OUTPUT = cli.output_flag()
_REPEATS = flags.DEFINE_integer("repeats", 9, "Paired repeats.", lower_bound=1)

_BATCH_SIZE = 128
_VIEWS, _TEMPERATURES, _EPOCHS = 4, 10, 2  # Of the arithmetic for a whole stage I.


def cache(repeats: int) -> dict[str, Any]:
    """Seconds of a step of ResNet-110 into ResNet-8 on 32x32x3 images, batch 128.

    The images are random: a step takes as long whatever they show. All steps draw views by
    crop and flip.
    """
    rng = np.random.default_rng(0)
    examples = data.Examples(
        rng.integers(0, 256, (_BATCH_SIZE, 32, 32, 3), np.uint8),
        rng.integers(0, 10, _BATCH_SIZE).astype(np.int32),
    )
    normalise = data.Normalise((127.5,) * 3, (64.0,) * 3)
    teacher, student = (Network(models.build(f"resnet:{d}", 10), normalise) for d in (110, 8))
    augment = Augmentation(crop_padding=4, flip=True, seed=0)
    key = jax.random.key(0)
    model = Model(jax.jit(teacher.init)(key, examples.inputs[:1]), teacher.apply)
    variables = jax.device_get(jax.jit(student.init)(key, examples.inputs[:1]))
    logits = {"teacher": [rng.normal(size=(_BATCH_SIZE, 10)).astype(np.float32)]}
    (batch,) = data.Batches(examples, _BATCH_SIZE).epoch()
    (cached_batch,) = data.Batches(examples, _BATCH_SIZE, views=1, teacher_logits=logits).epoch()

    def annealed(student: Any, teachers: Any, batch: Any, temperature_step: Any) -> Any:
        teacher_logits = teachers["teacher"].logits
        return losses.annealed_mse(student.logits, teacher_logits, temperature_step, 10)

    def trainer(loss: Any, teachers: Mapping[str, Any], batch: Any) -> Callable[[], Any]:
        step = parallel.compile_train_step(train_step)
        optimizer = optax.sgd(0.1, momentum=0.9)
        state = parallel.replicate(
            TrainState.create(
                student.apply, variables, optimizer=optimizer, loss=loss, key=key, augment=augment
            )
        )
        teachers = parallel.replicate(dict(teachers))
        temperature_step = parallel.replicate(np.int32(3))

        def run() -> None:
            nonlocal state
            state, metrics = step(state, teachers, parallel.shard(batch), temperature_step)
            jax.block_until_ready((state, metrics))

        return run

    predict = parallel.compile_predict_step(functools.partial(predict_step, augment=augment))
    placed = parallel.replicate(model)
    seconds = _medians(
        {
            "stage II step": trainer(hard_label_loss, {}, batch),
            "stage I step, cached": trainer(
                annealed, {"teacher": CachedTeacher("teacher")}, cached_batch
            ),
            "stage I step, live": trainer(annealed, {"teacher": LiveTeacher(model)}, batch),
            "teacher pass over a batch": lambda: jax.block_until_ready(
                predict(placed, parallel.shard(batch))
            ),
        },
        repeats,
    )
    live, cached = seconds["stage I step, live"], seconds["stage I step, cached"]
    epochs = _TEMPERATURES * _EPOCHS
    with_passes = epochs * cached + _VIEWS * seconds["teacher pass over a batch"]
    return {
        "seconds": seconds,
        "ratios": {
            "cached step / stage II step": cached / seconds["stage II step"],
            "live step / cached step": live / cached,
            f"live / cached for {epochs} epochs, {_VIEWS} views' passes counted in": (
                epochs * live / with_passes
            ),
            f"live / cached for 200 epochs, {_VIEWS} views' passes counted in": (
                200 * live / (200 * cached + _VIEWS * seconds["teacher pass over a batch"])
            ),
        },
    }


def text(repeats: int) -> dict[str, Any]:
    """Seconds of an epoch on sentences: filled up to the lengths of buckets, and all to 128.

    The student of --config, such as configs/movie_reviews.py:scratch, learns from labels, on
    the first 50 batches' worth of the training split.
    """
    if _CONFIG.value is None:
        raise InputError(
            "--config: expected one of a data set of texts, got none; take"
            " --config=configs/movie_reviews.py:scratch --config.dataset.data_dir=DIR"
        )
    config = _CONFIG.value
    config.method = "scratch"
    config.dataset.train_size = 50 * config.batch_size

    def trainer(bucketing: bool) -> tuple[Callable[[], Any], data.Batches]:
        config.dataset.bucketing = bucketing
        planned = plan(config)
        (stage,) = planned.method.stages
        batches = planned.batches("train", seed=0)
        start = planned.student.start(jax.random.key(0), planned.dataset.example)
        state, _ = stage_state(
            planned, planned.student, stage, start, jax.random.key(0), len(batches)
        )
        state = parallel.replicate(state)
        step = parallel.compile_train_step(train_step)
        temperature_step = parallel.replicate(np.int32(0))

        def run() -> None:
            nonlocal state
            for batch in batches.epoch():
                state, metrics = step(state, {}, parallel.shard(batch), temperature_step)
                jax.block_until_ready(metrics)  # No collectives pile up.

        return run, batches

    runs = {"buckets": trainer(True), "padded to 128": trainer(False)}
    seconds = _medians({name: run for name, (run, _) in runs.items()}, repeats)
    tokens = int(text_data.longest(runs["buckets"][1].examples.inputs).sum())
    return {
        "seconds": seconds,
        "ratios": {
            "padded to 128 / buckets": seconds["padded to 128"] / seconds["buckets"],
            **{f"padding, {name}": batches.padding() for name, (_, batches) in runs.items()},
        },
        "tokens_per_second": {name: round(tokens / value) for name, value in seconds.items()},
    }


SUITES = {"cache": cache, "text": text}


def _medians(variants: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each variant; they take turns. The first turn, a warm-up, is dropped."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats + 1):
        for name, run in variants.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(found[1:]) for name, found in seconds.items()}


def _machine() -> dict[str, Any]:
    return {
        "devices": parallel.describe(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "command": "python -m experiments.benchmark " + " ".join(sys.argv[1:]),
    }


def _markdown(record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    seconds = [(name, f"{1000 * value:.1f}") for name, value in record["seconds"].items()]
    ratios = [(name, f"{value:.2f}") for name, value in record["ratios"].items()]
    rates = [(name, f"{rate:,}") for name, rate in record.get("tokens_per_second", {}).items()]
    return "\n\n".join(
        [
            f"`{machine['command']}`",
            f"{machine['devices']['count']} x {machine['devices']['kind']}, {machine['cores']}"
            f" cores, Python {machine['python']}, JAX {machine['jax']}; medians of"
            f" {record['repeats']} paired repeats.",
            cli.table(("", "ms"), seconds),
            cli.table(("", "ratio"), ratios),
            *([cli.table(("", "tokens/s"), rates)] if rates else []),
            "",
        ]
    )


def main() -> None:
    """Runs a suite, prints its tables and writes them."""
    suite, output = _SUITE.value or "", cli.path(_OUTPUT)
    if suite not in SUITES:
        raise InputError(f"--suite: expected one of {', '.join(SUITES)}, got {suite!r}")
    records.check_writable(output.parent)
    record = {"suite": suite, "machine": _machine(), "repeats": _REPEATS.value}
    record |= SUITES[suite](_REPEATS.value or 1)
    records.write(output, record)
    output.with_suffix(".md").write_text(_markdown(record), encoding="utf-8")
    print(_markdown(record))


if __name__ == "__main__":
    cli.launch(main, required=["suite", "output"])
