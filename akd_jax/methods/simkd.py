"""SimKD: the student predicts with its teacher's classifier.

Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022,
https://arxiv.org/abs/2203.14001.
"""

from collections.abc import Mapping
from typing import Any

import jax
from pydantic import Field

from akd_jax import losses
from akd_jax.host.errors import InputError
from akd_jax.host.settings import NonNegative, Section
from akd_jax.methods.base import MethodSpec, RunSettings
from akd_jax.methods.scratch import default_teacher
from akd_jax.models.network import Model
from akd_jax.models.simkd import FROZEN, last_map
from akd_jax.schedules import Schedule, constant
from akd_jax.training.method import Method
from akd_jax.training.stage import Stage
from akd_jax.types import Batch, Clock, Loss, Outputs, Task, Variables


class Config(Section):
    """Settings of SimKD."""

    supervised_weight: NonNegative = Field(
        default=0.0,
        description="Weight of the cross-entropy of the labels, or of the squared error in a"
        " regression, next to the weight 1 of the error of the features. The paper uses 0.",
    )


def build(config: RunSettings, task: Task) -> Method:
    """Returns one stage in which the student learns the teacher's last map.

    The student is `simkd:CHANNELS,STUDENT`, see `akd_jax.models.simkd`. It starts with the
    teacher's classifier, which stays as it is. The loss is `losses.simkd`, the mean squared error
    between the transferred map of the student and the teacher's last map. The teacher's
    classifier must read the mean of this map over the pixels, as that of a residual network does.
    """
    del task
    settings = config.section(Config)
    terms: dict[str, tuple[Schedule, Loss]] = {"features": (constant(1.0), _feature_error)}
    if settings.supervised_weight:
        supervised = losses.bind(losses.supervised)
        terms["supervised"] = (constant(settings.supervised_weight), supervised)
    stage = Stage(
        "simkd",
        config.student.epochs,
        losses.compose(**terms),
        config.student.optimizer,
        teachers=("teacher",),
    )

    def initialise(student: Model, teachers: Mapping[str, Model], inputs: Any) -> Variables:
        teacher = teachers["teacher"](inputs)
        return _with_classifier(config.student.model, student.variables, teacher)

    return Method("simkd", (stage,), default_teacher(config), initialise)


def _feature_error(
    student: Outputs, teachers: Mapping[str, Outputs], batch: Batch, clock: Clock
) -> jax.Array:
    """Returns the error of the transferred maps, one value per example."""
    del batch, clock
    features = teachers["teacher"].features
    return losses.simkd(student.features["transferred"], features[last_map(features)])


def _with_classifier(spec: str, variables: Variables, teacher: Outputs) -> Variables:
    """Returns a student's variables with the classifier of its teacher.

    Args:
      spec: the specification of the student, for messages.
      variables: the student's variables.
      teacher: outputs of the teacher.

    Raises:
      InputError: the student has no place for the classifier, or it does not fit.
    """
    if FROZEN not in variables:
        raise InputError(
            "config.student.model: expected simkd:CHANNELS,STUDENT for the method simkd, got"
            f" {spec!r}; write simkd:64,resnet:8 with the channels of the teacher's last map"
        )
    channels = teacher.features[last_map(teacher.features)].shape[-1]
    if teacher.head is None or teacher.head.kernel.shape[0] != channels:
        actual = "none" if teacher.head is None else f"{teacher.head.kernel.shape[0]} inputs"
        raise InputError(
            "config.teacher.model: expected a classifier of the mean of the last map, which has"
            f" {channels} channels, got {actual}; choose a residual network"
        )
    if variables[FROZEN]["kernel"].shape[0] != channels:
        raise InputError(
            f"config.student.model: expected simkd:{channels},STUDENT for the {channels} inputs of"
            f" the teacher's classifier, got {spec!r}; change the number of channels"
        )
    return {**variables, FROZEN: {"kernel": teacher.head.kernel, "bias": teacher.head.bias}}


SPEC = MethodSpec(build, Config)
