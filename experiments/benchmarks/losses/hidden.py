"""The losses of attention and of hidden states in PyTorch."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional

from akd_jax import losses
from experiments.benchmarks.losses.case import LossCase, random_features
from experiments.benchmarks.losses.modules import initial_parameters, module_loss

TEXTS, LENGTH, WIDTH, HEADS = 64, 32, 128, 4
HIDDEN_STATES = losses.HiddenStates((("features", "features"),))


def attention_mse(student_features: Tensor, teacher_features: Tensor, mask: Tensor) -> Tensor:
    """Attention scores [B, heads, L, L]; the mean over the pairs of real tokens of each text."""
    squares = (student_features - teacher_features).square().mean(dim=1)
    pairs = (mask[:, :, None] & mask[:, None, :]).to(squares.dtype)
    return ((squares * pairs).sum(dim=(1, 2)) / pairs.sum(dim=(1, 2))).mean()


def attention_kl(student_features: Tensor, teacher_features: Tensor, mask: Tensor) -> Tensor:
    """Attention scores [B, heads, L, L]; the mean over heads and real queries of each text."""
    keys = mask[:, None, None, :]
    log_q, log_p = (
        functional.log_softmax(scores.masked_fill(~keys, -1e9), dim=-1)
        for scores in (student_features, teacher_features)
    )
    divergence = functional.kl_div(log_q, log_p, reduction="none", log_target=True)
    queries = mask.to(log_q.dtype)
    values = divergence.sum(dim=-1).mean(dim=1)
    return ((values * queries).sum(dim=1) / queries.sum(dim=1)).mean()


def relation_kl(
    student_features: Tensor, teacher_features: Tensor, mask: Tensor, relation_heads: int
) -> Tensor:
    """Vectors [B, L, heads, d], split into other heads."""

    def scores(features: Tensor) -> Tensor:
        split = features.flatten(2).unflatten(2, (relation_heads, -1)).transpose(1, 2)
        return split @ split.transpose(2, 3) / math.sqrt(split.shape[-1])

    return attention_kl(scores(student_features), scores(teacher_features), mask)


def cosine(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Tokens [B, L, D] or vectors [B, D]."""
    return (1 - functional.cosine_similarity(student_features, teacher_features, dim=-1)).mean()


def pkd(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Hidden states [B, L, D]; the first token counts."""
    student, teacher = (
        functional.normalize(states[:, 0], dim=-1)
        for states in (student_features, teacher_features)
    )
    return (student - teacher).square().sum(dim=-1).mean()


def hidden_states(
    student_parameters: Mapping[str, Any], student_features: Tensor, teacher_features: Tensor
) -> Tensor:
    """Tokens [B, L, D]; the parameters are those of the dense layer."""
    dense = student_parameters["fit_dense"]
    projected = student_features @ dense["kernel"] + dense["bias"]
    return functional.mse_loss(projected, teacher_features)


def _scores() -> dict[str, np.ndarray]:
    lengths = np.random.default_rng(1).integers(1, LENGTH + 1, TEXTS)
    mask = np.arange(LENGTH) < lengths[:, None]
    return {**random_features((TEXTS, HEADS, LENGTH, LENGTH)), "mask": mask}


def _vectors() -> dict[str, np.ndarray]:
    return {**_scores(), **random_features((TEXTS, LENGTH, HEADS, WIDTH // HEADS))}


def _states() -> dict[str, np.ndarray]:
    return random_features((TEXTS, LENGTH, WIDTH))


def _projected_states() -> dict[str, Any]:
    arrays = _states()
    return {**arrays, "student_parameters": initial_parameters(HIDDEN_STATES, arrays)}


CASES = [
    LossCase("attention_mse", losses.attention_mse, attention_mse, _scores),
    LossCase("attention_kl", losses.attention_kl, attention_kl, _scores),
    LossCase(
        "relation_kl",
        functools.partial(losses.relation_kl, relation_heads=8),
        functools.partial(relation_kl, relation_heads=8),
        _vectors,
    ),
    LossCase("cosine", losses.cosine, cosine, _states),
    LossCase("pkd", losses.pkd, pkd, _states),
    LossCase("HiddenStates", module_loss(HIDDEN_STATES), hidden_states, _projected_states),
]
