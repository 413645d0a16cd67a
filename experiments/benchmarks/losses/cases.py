"""All losses that the suite 'losses' measures."""

from experiments.benchmarks.losses import features, hidden, logits, relations, review, tokens
from experiments.benchmarks.losses.case import LossCase

CASES: list[LossCase] = [
    *logits.CASES,
    *tokens.CASES,
    *features.CASES,
    *review.CASES,
    *hidden.CASES,
    *relations.CASES,
]
