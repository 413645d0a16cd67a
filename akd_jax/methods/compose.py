r"""A sum of losses that the configuration names, each with a scheduled weight.

For example, the cross-entropy, the KL divergence and a hint whose weight falls to 0:

    --config.method=compose --config.compose.kl.weight=0.9 --config.compose.hint.weight=100 \
        --config.compose.hint.layers=group_2 --config.compose.hint.schedule=linear

The section `config.compose.NAME` holds the weight, the schedule and the options of a loss. A loss
is added here by a line in TERMS. See docs/losses.md for a choice.
"""

from collections.abc import Mapping
from typing import Any

import pydantic
from pydantic import Field

from akd_jax import losses
from akd_jax.host.errors import InputError
from akd_jax.host.settings import Section
from akd_jax.methods.base import MethodSpec, RunSettings
from akd_jax.methods.scratch import default_teacher
from akd_jax.methods.term_settings import TermConfig, TermSpec
from akd_jax.schedules import Schedule
from akd_jax.training.stage import Method, Stage
from akd_jax.types import Loss, Task

LABELS = "supervised"  # The only term that is on by default.
TERMS: Mapping[str, TermSpec] = {
    LABELS: TermSpec(losses.supervised),
    "kl": TermSpec(losses.kl, "0.9, with 0.1 for the labels"),
    "annealed_mse": TermSpec(losses.annealed_mse, "1"),
    "hint": TermSpec(losses.Hint, "100", layers="group_2"),
    "attention_transfer": TermSpec(
        losses.attention_transfer, "1000", layers="group_1,group_2,group_3"
    ),
    "sp": TermSpec(losses.sp, "3000", layers="group_3"),
    "rkd_distance": TermSpec(losses.rkd_distance, "25", layers="pooled"),
    "rkd_angle": TermSpec(losses.rkd_angle, "50", layers="pooled"),
}
# Terms of the teacher's logits that compare numbers, and not class probabilities.
_FOR_REGRESSION = {"annealed_mse"}


def _section() -> type[Section]:
    """Returns the class of the section of the method, with a section for each term."""
    fields: dict[str, Any] = {}
    for name, spec in TERMS.items():
        default = spec.section(name, 1.0 if name == LABELS else 0.0)
        usual = f" A usual weight is {spec.usual_weight}." if spec.usual_weight else ""
        description = f"{type(default).__doc__}{usual}"
        fields[name] = (type(default), Field(default=default, description=description))
    return pydantic.create_model(
        "Config", __base__=Section, __doc__="The terms of the loss of the method compose.", **fields
    )


Config = _section()


def build(config: RunSettings, task: Task) -> Method:
    """Returns one stage whose loss is the weighted sum of the terms with a weight above 0.

    Raises:
      InputError: no term has a weight, a schedule has no valid end, a term reads a feature of the
        student twice, or a term of class probabilities is asked for in a regression.
    """
    settings, student = config.section(Config), config.student
    terms: dict[str, tuple[Schedule, Loss]] = {}
    for name, spec in TERMS.items():
        section: TermConfig = getattr(settings, name)
        if not (section.weight or section.end_weight):
            continue
        if task.regression and spec.reads_logits and name not in _FOR_REGRESSION:
            raise InputError(
                f"config.compose.{name}.weight: expected 0 in a regression, which has no class"
                f" probabilities, got {section.weight:g}; set it to 0"
            )
        try:
            weight = section.weight_schedule(student.epochs)
        except ValueError as error:
            raise InputError(f"config.compose.{name}: {error}") from None
        terms |= {term: (weight, loss) for term, loss in spec.losses(name, section).items()}
    if not terms:
        raise InputError(
            "config.compose: expected a term with a weight above 0, got none; set"
            " config.compose.NAME.weight"
        )
    reads_teacher = terms.keys() != {LABELS}
    stage = Stage(
        "compose",
        student.epochs,
        losses.compose(**terms),
        student.optimizer,
        teachers=("teacher",) if reads_teacher else (),
    )
    return Method("compose", (stage,), default_teacher(config) if reads_teacher else {})


SPEC = MethodSpec(build, Config)
