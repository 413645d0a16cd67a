r"""A sum of losses that the configuration names, each with a scheduled weight.

For example, the cross-entropy, the KL divergence and a hint whose weight falls to 0:

    --config.method=compose --config.compose.kl.weight=0.9 --config.compose.hint.weight=100 \
        --config.compose.hint.layers=group_2 --config.compose.hint.schedule=linear

The section `config.compose.NAME` holds the weight, the schedule and the options of a loss. A loss
is added by a line in terms.py. docs/losses.md says which loss suits what.
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
from akd_jax.methods.term_settings import TermConfig
from akd_jax.methods.terms import LABELS, TERMS
from akd_jax.schedules import Schedule
from akd_jax.training.method import Method
from akd_jax.training.stage import Stage
from akd_jax.types import Loss, Task


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
_WEIGHTS = ("weight", "end_weight")


def build(config: RunSettings, task: Task) -> Method:
    """Returns one stage whose loss is the weighted sum of the terms with a weight above 0.

    Raises:
      InputError: no term has a weight, a schedule has no valid end, a term reads a feature of the
        student twice, or a term of class probabilities is asked for in a regression.
    """
    settings, student = config.section(Config), config.student
    terms: dict[str, tuple[Schedule, Loss]] = {}
    reads_teacher = False
    for name, spec in TERMS.items():
        section: TermConfig = getattr(settings, name)
        if not (section.weight or section.end_weight):
            continue
        if task.regression and spec.of_classes:
            raise InputError(
                f"config.compose.{name}.weight: expected 0 in a regression, which has no class"
                f" probabilities, got {section.weight:g}; set weight and end_weight to 0"
            )
        if section.end_weight and section.schedule in ("constant", "warm_up"):
            raise InputError(
                f"config.compose.{name}.end_weight: expected 0 with the schedule"
                f" {section.schedule!r}, got {section.end_weight:g}; choose 'linear', 'cosine' or"
                " 'exponential'"
            )
        try:
            weight = section.weight_schedule(student.epochs)
            terms |= {term: (weight, loss) for term, loss in spec.losses(name, section).items()}
            reads_teacher = reads_teacher or spec.reads_teacher
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"config.compose.{name}: {error}") from None
    if not terms:
        raise InputError(
            "config.compose: expected a term with a weight above 0, got none; set"
            " config.compose.NAME.weight"
        )
    stage = Stage(
        "compose",
        student.epochs,
        losses.compose(**terms),
        student.optimizer,
        teachers=("teacher",) if reads_teacher else (),
    )
    return Method("compose", (stage,), default_teacher(config) if reads_teacher else {})


def change_terms(
    terms: Mapping[str, Mapping[str, Any]], factor: float, temperature: float | None = None
) -> dict[str, dict[str, Any]]:
    """Returns fields of the section with other weights and temperatures.

    Args:
      terms: the fields of each term, by name, such as {"kl": {"weight": 0.9}}.
      factor: the factor of all weights, except that of the labels.
      temperature: the temperature of the terms that have one; None to keep theirs.
    """
    changed: dict[str, dict[str, Any]] = {}
    for term, fields in terms.items():
        changed[term] = {
            field: factor * value if term != LABELS and field in _WEIGHTS else value
            for field, value in fields.items()
        }
        if temperature is not None and "temperature" in TERMS[term].options():
            changed[term]["temperature"] = temperature
    return changed


SPEC = MethodSpec(build, Config)
