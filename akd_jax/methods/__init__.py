"""Distillation methods by name. A new method is a module here and a line in METHODS."""

from akd_jax.methods import (
    annealing_kd,
    compose,
    continuation_kd,
    gkd,
    imitkd,
    kd,
    l2kd,
    multi_teacher,
    rl_kd,
    scratch,
    seq_kd,
    simkd,
    takd,
    textual_kd,
)
from akd_jax.methods.base import MethodSpec, RunSettings, teacher_recipe
from akd_jax.methods.scratch import default_teacher

METHODS: dict[str, MethodSpec] = {
    "scratch": scratch.SPEC,
    "kd": kd.SPEC,
    "takd": takd.SPEC,
    "annealing_kd": annealing_kd.SPEC,
    "continuation_kd": continuation_kd.SPEC,
    "simkd": simkd.SPEC,
    "compose": compose.SPEC,
    "multi_teacher": multi_teacher.SPEC,
    "rl_kd": rl_kd.SPEC,
    "textual_kd": textual_kd.SPEC,
    "seq_kd": seq_kd.SPEC,
    "imitkd": imitkd.SPEC,
    "gkd": gkd.SPEC,
    "l2kd": l2kd.SPEC,
}

__all__ = ["METHODS", "MethodSpec", "RunSettings", "default_teacher", "teacher_recipe"]
