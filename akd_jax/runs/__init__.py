"""Runs: from a configuration to a trained student, and back from its folder."""

from akd_jax.runs.dry_run import rehearse
from akd_jax.runs.entry import run
from akd_jax.runs.finished import check_split, evaluate, evaluate_models, generate, load, predict
from akd_jax.runs.predictions import read_test_predictions
from akd_jax.runs.setup import STUDENT, Plan, make_plan

__all__ = [
    "STUDENT",
    "Plan",
    "check_split",
    "evaluate",
    "evaluate_models",
    "generate",
    "load",
    "make_plan",
    "predict",
    "read_test_predictions",
    "rehearse",
    "run",
]
