"""Suite 'text': an epoch on sentences in length buckets against padding to the longest length."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from akd_jax import data
from akd_jax.data import text as text_data
from akd_jax.host.errors import InputError
from akd_jax.runs.entry import stage_state
from akd_jax.runs.setup import make_plan
from akd_jax.training import parallel
from akd_jax.training.step import train_step
from experiments import cli
from experiments.benchmarks import timing


def measure(repeats: int) -> dict[str, Any]:
    """Measures the seconds of an epoch on sentences, in length buckets and padded to 128 tokens.

    The student of --config, such as configs/movie_reviews.py:scratch, is trained on the labels of
    the first 50 batches of the training split.

    Raises:
      InputError: --config is missing.
    """
    config = cli.config_flag().value
    if config is None:
        raise InputError(
            "--config: expected the configuration of a text data set, got none; add"
            " --config=configs/movie_reviews.py:scratch --config.dataset.data_dir=DIR"
        )
    config.method = "scratch"
    config.dataset.train_size = 50 * config.batch_size

    def trainer(bucketing: bool) -> tuple[Callable[[], Any], data.Batches]:
        config.dataset.bucketing = bucketing
        plan = make_plan(config)
        (stage,) = plan.method.stages
        batches = plan.batches("train", seed=0)
        variables = plan.student.initial_variables(jax.random.key(0), plan.dataset.example)
        state, _ = stage_state(
            plan, plan.student, stage, variables, jax.random.key(0), len(batches)
        )
        state = parallel.replicate(state)
        step = parallel.compile_train_step(train_step)
        temperature_step = parallel.replicate(np.int32(0))

        def train_epoch() -> None:
            nonlocal state
            for batch in batches.epoch():
                state, metrics = step(state, {}, parallel.shard(batch), temperature_step)
                # Wait, because too many collectives in flight can deadlock on few cores.
                jax.block_until_ready(metrics)

        return train_epoch, batches

    trainers = {"buckets": trainer(True), "padded to 128": trainer(False)}
    seconds = timing.median_times({name: run for name, (run, _) in trainers.items()}, repeats)
    tokens = int(text_data.longest(trainers["buckets"][1].examples.inputs).sum())
    rates = [(name, f"{round(tokens / value):,}") for name, value in seconds.items()]
    return {
        "seconds": seconds,
        "ratios": {
            "padded to 128 / buckets": seconds["padded to 128"] / seconds["buckets"],
            **{f"padding, {name}": batches.padding() for name, (_, batches) in trainers.items()},
        },
        "table": {"headers": ["", "tokens/s"], "rows": rates},
    }
