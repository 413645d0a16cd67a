"""Core data types shared by all modules.

Shapes are given with letters: B examples of a batch, C classes (1 for a regression), L
tokens of a text.
"""

from akd_jax.types.data import (
    COMPLETION,
    PROMPT,
    SOURCE,
    TARGET,
    UNLABELLED,
    Array,
    Batch,
    Clock,
    Head,
    Loss,
    Metrics,
    Outputs,
    Teacher,
    Term,
    Tokens,
    TopK,
    Variables,
    WeightedSum,
)
from akd_jax.types.task import GROUP_METRICS, TargetVocabulary, Task

__all__ = [
    "COMPLETION",
    "GROUP_METRICS",
    "PROMPT",
    "SOURCE",
    "TARGET",
    "UNLABELLED",
    "Array",
    "Batch",
    "Clock",
    "Head",
    "Loss",
    "Metrics",
    "Outputs",
    "TargetVocabulary",
    "Task",
    "Teacher",
    "Term",
    "Tokens",
    "TopK",
    "Variables",
    "WeightedSum",
]
