"""The last stage of a student, from its configuration."""

import jax
from ml_collections.config_dict import ConfigDict

from akd_jax.models.network import Model
from akd_jax.runs import STUDENT, make_plan
from akd_jax.runs.stages import build_run
from akd_jax.runs.teachers import placeholder_outputs, selections
from akd_jax.teachers.stored import StoredOutputs
from akd_jax.training.stage import StageContext
from akd_jax.training.stage_run import StageRun


def last_stage(config: ConfigDict) -> StageRun:
    """Returns the last stage of the student of a configuration, from random weights.

    Stored outputs of teachers are zeros, since the time of an update does not depend on their
    values.
    """
    plan = make_plan(config)
    stage, key = plan.method.stages[-1], jax.random.key(0)
    examples = plan.dataset.splits["train"]
    example = plan.dataset.example
    stored: dict[str, StoredOutputs] = {}
    views = plan.settings.teacher.views
    teachers = {
        name: Model(
            network.variable_shapes(example) if views else network.initial_variables(key, example),
            network.apply,
        )
        for name, network in plan.teachers.items()
    }
    if views:
        stored = {
            name: placeholder_outputs(plan, teachers[name], selection, len(examples))
            for name, selection in selections(plan, STUDENT, stage).items()
        }
    context = StageContext(plan.dataset, {}, plan.batches, plan.tokenise, lambda name: "")
    return build_run(
        plan,
        stage,
        Model(plan.student.initial_variables(key, example), plan.student.apply),
        teachers,
        examples,
        stored,
        key=key,
        seed=0,
        views=views,
        loss_data=stage.build_loss_data(context),
    )
