"""Suite 'selection': an update of RL-KD against one of KD from the mean of the same teachers."""

from typing import Any

import jax
from ml_collections.config_dict import ConfigDict

from akd_jax.host.errors import InputError
from akd_jax.models.network import Model
from akd_jax.runs import STUDENT, make_plan
from akd_jax.runs.networks import variable_shapes
from akd_jax.runs.stages import build_run
from akd_jax.runs.teachers import placeholder_outputs, selections
from akd_jax.training.stage import StageContext
from akd_jax.training.stage_run import StageRun
from experiments import options
from experiments.benchmarks import timing, workload
from experiments.grid import changed

_BATCHES = 30
_UNIFORM = "mean of the teachers"
_ROWS: dict[str, dict[str, Any]] = {
    _UNIFORM: {"choice": "weighted"},
    "RL-KD, r2 before the update": {"choice": "reinforced", "before_update": True},
    "RL-KD, r2": {"choice": "reinforced", "reward": "r2"},
    "RL-KD, r3": {"choice": "reinforced", "reward": "r3", "baseline": "running"},
}


def measure(repeats: int) -> dict[str, Any]:
    """Measures the seconds of 30 updates of a student with stored teachers.

    The networks and the data are those of --config, such as configs/reviews.py. The stored outputs
    are zeros, since the time of an update does not depend on their values.

    Raises:
      InputError: --config is missing.
    """
    config = options.config_flag().value
    if config is None:
        raise InputError(
            "--config: expected a configuration of rl_kd, got none; add --config=configs/reviews.py"
            " --config.dataset.data_dir=DIR"
        )
    config.dataset.train_size = _BATCHES * config.batch_size
    epochs = {name: workload.epoch(_stage_run(config, row)) for name, row in _ROWS.items()}
    seconds = timing.median_times(epochs, repeats)
    others = [name for name in _ROWS if name != _UNIFORM]
    return {
        "seconds": seconds,
        "ratios": {f"{name} / {_UNIFORM}": seconds[name] / seconds[_UNIFORM] for name in others},
    }


def _stage_run(config: ConfigDict, row: dict[str, Any]) -> StageRun:
    """Returns the last stage of a row, with stored outputs of zeros."""
    plan = make_plan(changed(config, rl_kd=row))
    stage, key = plan.method.stages[-1], jax.random.key(0)
    examples = plan.dataset.splits["train"]
    teachers = {
        name: Model(variable_shapes(network, plan.dataset), network.apply)
        for name, network in plan.teachers.items()
    }
    stored = {
        name: placeholder_outputs(plan, teachers[name], selection, len(examples))
        for name, selection in selections(plan, STUDENT, stage).items()
    }
    variables = plan.student.initial_variables(key, plan.dataset.example)
    context = StageContext(plan.dataset, {}, plan.batches, 0, plan.tokenise)
    return build_run(
        plan,
        stage,
        Model(variables, plan.student.apply),
        teachers,
        examples,
        stored,
        key=key,
        seed=0,
        views=1,
        loss_data=stage.build_loss_data(context),
    )
