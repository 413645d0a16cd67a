"""Losses of logits [B, C] in PyTorch, and their cases."""

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (the usual name)
from torch import Tensor

from akd_jax import losses
from experiments.benchmarks.losses.case import LossCase, random_logits


def cross_entropy(student_logits: Tensor, labels: Tensor) -> Tensor:
    """The cross-entropy against class indices."""
    return F.cross_entropy(student_logits, labels.long())


def label_smoothing(student_logits: Tensor, labels: Tensor, smoothing: float = 0.1) -> Tensor:
    """The cross-entropy against smoothed labels."""
    return F.cross_entropy(student_logits, labels.long(), label_smoothing=smoothing)


def annealed_mse(student_logits: Tensor, teacher_logits: Tensor, factor: float = 1.0) -> Tensor:
    """The squared error of Annealing-KD."""
    return F.mse_loss(student_logits, factor * teacher_logits)


def weighted_annealed_mse(
    student_logits: Tensor, teacher_logits: Tensor, factor: float = 1.0, temperature: float = 1.0
) -> Tensor:
    """The variance of the error under the teacher's probabilities."""
    weights = F.softmax(teacher_logits / temperature, dim=1)
    errors = student_logits - factor * teacher_logits
    means = (weights * errors).sum(dim=1, keepdim=True)
    return (weights * (errors - means).square()).sum(dim=1).mean()


def absolute_error(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """The L1 distance of the logits, a sum over the classes."""
    return (student_logits - teacher_logits).abs().sum(dim=1).mean()


def continuation(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    factor: float = 0.5,
    psi: float = 0.5,
    margin: float = 1.0,
) -> Tensor:
    """The loss of Continuation-KD."""
    hard = F.cross_entropy(student_logits, labels.long())
    errors = (student_logits - factor * teacher_logits).square().mean(dim=1)
    return psi * hard + (1 - psi) * F.relu(errors - margin * factor).mean()


def kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 4.0) -> Tensor:
    """T^2 KL(p || q)."""
    return temperature**2 * F.kl_div(
        F.log_softmax(student_logits / temperature, dim=1),
        F.softmax(teacher_logits / temperature, dim=1),
        reduction="batchmean",
    )


def reverse_kl(student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 KL(q || p)."""
    return temperature**2 * F.kl_div(
        F.log_softmax(teacher_logits / temperature, dim=1),
        F.log_softmax(student_logits / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )


def generalized_jsd(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, beta: float = 0.5
) -> Tensor:
    """The generalised Jensen-Shannon divergence, for 0 < beta < 1."""
    q = F.softmax(student_logits / temperature, dim=1)
    p = F.softmax(teacher_logits / temperature, dim=1)
    log_m = (beta * p + (1 - beta) * q).log()
    forward = F.kl_div(log_m, p, reduction="batchmean")
    reverse = F.kl_div(log_m, q, reduction="batchmean")
    return temperature**2 * (beta * forward + (1 - beta) * reverse)


def skew_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, skew: float = 0.1
) -> Tensor:
    """T^2 KL(p || skew p + (1 - skew) q)."""
    q = F.softmax(student_logits / temperature, dim=1)
    p = F.softmax(teacher_logits / temperature, dim=1)
    mixture = skew * p + (1 - skew) * q
    return temperature**2 * F.kl_div(mixture.log(), p, reduction="batchmean")


def skew_reverse_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0, skew: float = 0.1
) -> Tensor:
    """T^2 KL(q || (1 - skew) p + skew q)."""
    q = F.softmax(student_logits / temperature, dim=1)
    p = F.softmax(teacher_logits / temperature, dim=1)
    mixture = (1 - skew) * p + skew * q
    return temperature**2 * F.kl_div(mixture.log(), q, reduction="batchmean")


def total_variation(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 1.0
) -> Tensor:
    """Half the L1 distance of the probabilities."""
    q = F.softmax(student_logits / temperature, dim=1)
    p = F.softmax(teacher_logits / temperature, dim=1)
    return 0.5 * (p - q).abs().sum(dim=1).mean()


def ttm(student_logits: Tensor, teacher_logits: Tensor, gamma: float = 0.1) -> Tensor:
    """KL(softmax(gamma z_t) || q)."""
    return F.kl_div(
        F.log_softmax(student_logits, dim=1),
        F.softmax(gamma * teacher_logits, dim=1),
        reduction="batchmean",
    )


def wttm(student_logits: Tensor, teacher_logits: Tensor, gamma: float = 0.2) -> Tensor:
    """The same, with the weight sum_c p_c^gamma of each row."""
    powers = F.softmax(teacher_logits, dim=1) ** gamma
    weights = powers.sum(dim=1)
    targets = powers / weights[:, None]
    errors = F.kl_div(F.log_softmax(student_logits, dim=1), targets, reduction="none").sum(dim=1)
    return (weights * errors).mean()


def dkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    """The decoupled KD loss."""
    indices = labels.long()[:, None]
    q = F.softmax(student_logits / temperature, dim=1)
    p = F.softmax(teacher_logits / temperature, dim=1)
    q_y, p_y = q.gather(1, indices), p.gather(1, indices)
    of_label = F.kl_div(
        torch.cat([q_y, 1 - q_y], dim=1).log(),
        torch.cat([p_y, 1 - p_y], dim=1),
        reduction="batchmean",
    )
    student_others = (student_logits / temperature).scatter(1, indices, -1e9)
    teacher_others = (teacher_logits / temperature).scatter(1, indices, -1e9)
    of_others = F.kl_div(
        F.log_softmax(student_others, dim=1),
        F.softmax(teacher_others, dim=1),
        reduction="batchmean",
    )
    return temperature**2 * (alpha * of_label + beta * of_others)


def nkd(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float = 1.0,
    gamma: float = 1.5,
) -> Tensor:
    """The normalised KD loss."""
    rows, indices = len(labels), labels.long()[:, None]
    log_q_y = F.log_softmax(student_logits, dim=1).gather(1, indices)
    p_y = F.softmax(teacher_logits, dim=1).gather(1, indices)
    others = torch.ones_like(student_logits, dtype=torch.bool).scatter(1, indices, False)
    log_q = F.log_softmax(student_logits[others].view(rows, -1) / temperature, dim=1)
    p = F.softmax(teacher_logits[others].view(rows, -1) / temperature, dim=1)
    of_others = -(p * log_q).sum(dim=1).mean()
    return -(p_y * log_q_y).mean() + gamma * temperature**2 * of_others


def wsld(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, temperature: float = 4.0
) -> Tensor:
    """The weighted soft cross-entropy."""
    targets = labels.long()
    with torch.no_grad():
        hard_s = F.cross_entropy(student_logits, targets, reduction="none")
        hard_t = F.cross_entropy(teacher_logits, targets, reduction="none")
        weights = 1 - torch.exp(-hard_s / (hard_t + 1e-7))
    p = F.softmax(teacher_logits / temperature, dim=1)
    soft = F.cross_entropy(student_logits / temperature, p, reduction="none")
    return temperature**2 * (weights * soft).mean()


def ofa(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, exponent: float = 1.0
) -> Tensor:
    """The soft cross-entropy with an enhanced target for the label."""
    is_label = F.one_hot(labels.long(), student_logits.shape[1]).to(student_logits.dtype)
    targets = (F.softmax(teacher_logits, dim=1) + is_label) ** exponent - is_label
    return -(targets * F.log_softmax(student_logits, dim=1)).sum(dim=1).mean()


def dist(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    inter: float = 1.0,
    intra: float = 1.0,
) -> Tensor:
    """One minus the correlations over classes and over examples."""
    q = F.softmax(student_logits / temperature, dim=1)
    p = F.softmax(teacher_logits / temperature, dim=1)

    def correlations(dim: int) -> Tensor:
        a, b = q - q.mean(dim=dim, keepdim=True), p - p.mean(dim=dim, keepdim=True)
        return (a * b).sum(dim=dim) / (a.norm(dim=dim) * b.norm(dim=dim) + 1e-8)

    return temperature**2 * (
        inter * (1 - correlations(1).mean()) + intra * (1 - correlations(0).mean())
    )


def standardize(logits: Tensor) -> Tensor:
    """The z-scores of the logits of each row."""
    std, mean = torch.std_mean(logits, dim=1, keepdim=True)
    return (logits - mean) / (1e-7 + std)


def standardized_kl(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 2.0
) -> Tensor:
    """T^2 KL(p || q) of standardised logits."""
    return kl(standardize(student_logits), standardize(teacher_logits), temperature)


def multi_level(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """The differences of examples, of their products, and of the products of classes."""
    rows, classes = student_logits.shape
    p = F.softmax(teacher_logits, dim=1)
    confidence, totals = p.max(dim=1).values, p.sum(dim=0)
    unsure_rows = (confidence <= confidence.quantile(0.5)).to(p.dtype)
    unsure_classes = (totals <= totals.quantile(0.5)).to(p.dtype)
    total = student_logits.new_zeros(())
    for temperature in (2.0, 3.0, 4.0, 5.0, 6.0):
        log_q = F.log_softmax(student_logits / temperature, dim=1)
        q, p = log_q.exp(), F.softmax(teacher_logits / temperature, dim=1)
        divergences = F.kl_div(log_q, p, reduction="none").sum(dim=1)
        total = total + temperature**2 * (unsure_rows * divergences).mean()
        p_rows, q_rows = p @ p.T, q @ q.T
        of_rows = (p_rows - q_rows).square().sum(dim=1)
        total = total + (unsure_rows * of_rows).sum() / rows
        if classes <= rows:
            of_classes = ((p.T @ p - q.T @ q) * unsure_classes[:, None]).square().sum()
        else:  # The same norm from matrices of the rows, which are smaller.
            p_unsure, q_unsure = p * unsure_classes, q * unsure_classes
            of_classes = (
                (p_unsure @ p.T * p_rows).sum()
                + (q_unsure @ q.T * q_rows).sum()
                - 2 * (p_unsure @ q.T * (p @ q.T)).sum()
            )
        total = total + of_classes / classes
    return total


def cases(rows: int, classes: int) -> list[LossCase]:
    """Returns the cases of all losses of logits at one size."""

    def case(
        name: str,
        reference: Callable[..., Tensor],
        *,
        labels: bool = False,
        teacher: bool = True,
        **options: Any,
    ) -> LossCase:
        def inputs() -> dict[str, Any]:
            arrays = random_logits(rows, classes, labels=labels)
            return {n: x for n, x in arrays.items() if teacher or n != "teacher_logits"}

        return LossCase(
            name=name,
            jax=functools.partial(getattr(losses, name), **options),
            torch=functools.partial(reference, **options),
            inputs=inputs,
            size=f"B {rows}, C {classes}",
        )

    return [
        case("cross_entropy", cross_entropy, labels=True, teacher=False),
        case("label_smoothing", label_smoothing, labels=True, teacher=False),
        case("annealed_mse", annealed_mse, factor=0.5),
        case("weighted_annealed_mse", weighted_annealed_mse, factor=0.5, temperature=2.0),
        case("absolute_error", absolute_error),
        case("continuation", continuation, labels=True, factor=0.5, psi=0.5, margin=1.0),
        case("kl", kl),
        case("reverse_kl", reverse_kl),
        case("generalized_jsd", generalized_jsd),
        case("skew_kl", skew_kl),
        case("skew_reverse_kl", skew_reverse_kl),
        case("total_variation", total_variation),
        case("ttm", ttm),
        case("wttm", wttm),
        case("dkd", dkd, labels=True),
        case("nkd", nkd, labels=True),
        case("wsld", wsld, labels=True),
        case("ofa", ofa, labels=True),
        case("dist", dist),
        case("standardized_kl", standardized_kl),
        case("multi_level", multi_level),
    ]


CASES = cases(64, 100) + cases(64, 32_000)
