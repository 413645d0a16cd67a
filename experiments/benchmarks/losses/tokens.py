"""Losses of large vocabularies and of stored top-k logits in PyTorch, and cases that compare them.

The largest logits of the teacher are given as the arrays of a `TopK`: `values`, `indices` and
`log_sum_exp`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812, its usual name.
from torch.utils.checkpoint import checkpoint

from akd_jax import losses
from akd_jax.types import TopK
from experiments.benchmarks.losses.case import LossCase, random_logits

_SIZES = ((64, 100), (64, 32000))  # B examples, C classes.


def kl(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, *, temperature: float = 1.0
) -> torch.Tensor:
    """T^2 times the mean KL divergence of softened probabilities."""
    log_p = F.log_softmax(teacher_logits / temperature, dim=-1)
    log_q = F.log_softmax(student_logits / temperature, dim=-1)
    return temperature**2 * F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")


def chunked_kl(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    *,
    temperature: float = 1.0,
    chunks: int = 16,
) -> torch.Tensor:
    """The same as `kl`, of chunks of rows that the backward pass computes again."""

    def part(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        return len(student) * kl(student, teacher, temperature=temperature)

    pairs = zip(student_logits.chunk(chunks), teacher_logits.chunk(chunks), strict=True)
    total = sum(checkpoint(part, *pair, use_reentrant=False) for pair in pairs)
    return total / len(student_logits)


def top_k_kl(
    student_logits: torch.Tensor,
    values: torch.Tensor,
    indices: torch.Tensor,
    log_sum_exp: torch.Tensor,
    *,
    temperature: float = 1.0,
    tail: str = "bin",
) -> torch.Tensor:
    """The KL divergence over the k largest logits; only 'renormalise' has a temperature."""
    chosen = student_logits.gather(-1, indices.long())
    if tail == "renormalise":
        return kl(chosen, values, temperature=temperature)
    log_p = values - log_sum_exp[..., None]
    log_q = chosen - student_logits.logsumexp(dim=-1, keepdim=True)
    loss = (log_p.exp() * (log_p - log_q)).sum(dim=-1)
    if tail == "bin":
        rest_p, rest_q = (x.exp().sum(dim=-1).neg().log1p() for x in (log_p, log_q))
        loss = loss + rest_p.exp() * (rest_p - rest_q)
    return loss.mean()


def hinge_ranking(
    student_logits: torch.Tensor,
    values: torch.Tensor,
    indices: torch.Tensor,
    log_sum_exp: torch.Tensor,
    *,
    margin: float = 1.0,
) -> torch.Tensor:
    """The mean over rows of the mean hinge loss of the ordered pairs."""
    del log_sum_exp
    return _ranking(lambda difference: F.relu(margin - difference), student_logits, values, indices)


def logistic_ranking(
    student_logits: torch.Tensor,
    values: torch.Tensor,
    indices: torch.Tensor,
    log_sum_exp: torch.Tensor,
) -> torch.Tensor:
    """The mean over rows of the mean logistic loss of the ordered pairs."""
    del log_sum_exp
    return _ranking(lambda difference: F.softplus(-difference), student_logits, values, indices)


def _ranking(
    pair_loss: Callable[[torch.Tensor], torch.Tensor],
    student_logits: torch.Tensor,
    values: torch.Tensor,
    indices: torch.Tensor,
) -> torch.Tensor:
    chosen = student_logits.gather(-1, indices.long())
    ordered = values[..., :, None] > values[..., None, :]
    losses_of_pairs = pair_loss(chosen[..., :, None] - chosen[..., None, :]) * ordered
    return (losses_of_pairs.sum(dim=(-2, -1)) / ordered.sum(dim=(-2, -1))).mean()


def largest_logits(rows: int, classes: int, k: int) -> dict[str, np.ndarray]:
    """Returns logits [B, C] of the student, and the teacher's k largest logits."""
    arrays = random_logits(rows, classes)
    teacher = arrays.pop("teacher_logits")
    order = np.argsort(-teacher, axis=-1)[:, :k]
    return {
        **arrays,
        "values": np.take_along_axis(teacher, order, axis=-1),
        "indices": order.astype(np.int32),
        "log_sum_exp": np.log(np.exp(teacher).sum(axis=-1)),
    }


def with_top_k(loss: Callable[..., jax.Array], **options: Any) -> Callable[..., jax.Array]:
    """Returns a loss of akd_jax as a function of the arrays of a `TopK`."""

    def function(student_logits: Any, values: Any, indices: Any, log_sum_exp: Any) -> jax.Array:
        return loss(student_logits, TopK(values, indices, log_sum_exp), **options)

    return function


def _chunked_case(rows: int, classes: int) -> LossCase:
    return LossCase(
        "chunked kl",
        functools.partial(losses.chunked(losses.kl), temperature=2.0),
        functools.partial(chunked_kl, temperature=2.0),
        functools.partial(random_logits, rows, classes),
        size=f"B {rows}, C {classes}",
    )


def _top_k_case(
    rows: int,
    classes: int,
    loss: Callable[..., jax.Array],
    reference: Callable[..., torch.Tensor],
    k: int,
    **options: Any,
) -> LossCase:
    return LossCase(
        " ".join([loss.__name__, *options.values()]),
        with_top_k(loss, **options),
        functools.partial(reference, **options),
        functools.partial(largest_logits, rows, classes, k),
        size=f"B {rows}, C {classes}",
    )


CASES: list[LossCase] = [
    *(_chunked_case(*size) for size in _SIZES),
    *(
        _top_k_case(*size, losses.top_k_kl, top_k_kl, min(100, size[1] // 10), tail=tail)
        for size in _SIZES
        for tail in ("bin", "drop", "renormalise")
    ),
    *(
        _top_k_case(*size, loss, reference, 10)
        for size in _SIZES
        for loss, reference in (
            (losses.hinge_ranking, hinge_ranking),
            (losses.logistic_ranking, logistic_ranking),
        )
    ),
]
