"""All losses and operations that the suite 'losses' measures."""

from experiments.benchmarks.losses import (
    features,
    hidden,
    logits,
    operations,
    relations,
    review,
    speech,
    tokens,
)
from experiments.benchmarks.losses.case import LossCase

CASES: list[LossCase] = [
    *operations.CASES,
    *logits.CASES,
    *tokens.CASES,
    *features.CASES,
    *review.CASES,
    *hidden.CASES,
    *relations.CASES,
    *speech.CASES,
]
