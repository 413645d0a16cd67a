"""Suite 'text': an epoch on sentences in length buckets against padding to the longest length."""

from typing import Any

import jax

from akd_jax.data import text as text_data
from akd_jax.host.errors import InputError
from akd_jax.models.network import Model
from akd_jax.runs import make_plan
from akd_jax.runs.stages import build_run
from akd_jax.training.stage_run import StageRun
from experiments import options
from experiments.benchmarks import timing, workload


def measure(repeats: int) -> dict[str, Any]:
    """Measures the seconds of an epoch on sentences, in length buckets and padded to 128 tokens.

    The student of --config, such as configs/movie_reviews.py:scratch, is trained on the labels of
    the first 50 batches of the training split.

    Raises:
      InputError: --config is missing.
    """
    config = options.config_flag().value
    if config is None:
        raise InputError(
            "--config: expected the configuration of a text data set, got none; add"
            " --config=configs/movie_reviews.py:scratch --config.dataset.data_dir=DIR"
        )
    config.method = "scratch"
    config.dataset.train_size = 50 * config.batch_size

    def stage_run(bucketing: bool) -> StageRun:
        config.dataset.bucketing = bucketing
        plan = make_plan(config)
        key = jax.random.key(0)
        variables = plan.student.initial_variables(key, plan.dataset.example)
        return build_run(
            plan,
            plan.method.stages[0],
            Model(variables, plan.student.apply),
            {},
            plan.dataset.splits["train"],
            {},
            key=key,
            seed=0,
            views=0,
        )

    runs = {"buckets": stage_run(True), "padded to 128": stage_run(False)}
    epochs = {name: workload.epoch(run) for name, run in runs.items()}
    seconds = timing.median_times(epochs, repeats)
    tokens = int(text_data.longest(runs["buckets"].train.examples.inputs).sum())
    rates = [(name, f"{round(tokens / value):,}") for name, value in seconds.items()]
    return {
        "seconds": seconds,
        "ratios": {
            "padded to 128 / buckets": seconds["padded to 128"] / seconds["buckets"],
            **{f"padding, {name}": run.train.padding() for name, run in runs.items()},
        },
        "table": {"headers": ["", "tokens/s"], "rows": rates},
    }
