"""Losses of relations, contrastive losses and learned temperatures in PyTorch, and their cases."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from akd_jax import losses
from akd_jax.types import Batch, Clock, Outputs
from experiments.benchmarks.losses.case import LossCase, random_features, random_logits

_EXAMPLES, _NEGATIVES = 50_000, 16_384


def sp(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Similarity-preserving distillation."""

    def similarities(features: Tensor) -> Tensor:
        rows = features.flatten(1)
        return functional.normalize(rows @ rows.T)

    return functional.mse_loss(similarities(student_features), similarities(teacher_features))


def pkt(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Probabilistic knowledge transfer."""

    def probabilities(features: Tensor) -> Tensor:
        rows = functional.normalize(features.flatten(1))
        similarities = (rows @ rows.T + 1) / 2
        return similarities / similarities.sum(1, keepdim=True)

    p, q = probabilities(teacher_features), probabilities(student_features)
    return (p * torch.log((p + 1e-7) / (q + 1e-7))).mean()


def correlation_congruence(
    student_features: Tensor, teacher_features: Tensor, gamma: float = 0.4
) -> Tensor:
    """Correlation congruence with the series of order 2."""

    def kernel(features: Tensor) -> Tensor:
        rows = functional.normalize(features.flatten(1))
        products = 2 * gamma * (rows @ rows.T)
        return float(np.exp(-2 * gamma)) * (1 + products + products**2 / 2)

    return functional.mse_loss(kernel(student_features), kernel(teacher_features))


def rkd_distance(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Relational distillation of distances."""

    def relative_distances(features: Tensor) -> Tensor:
        rows = features.flatten(1)
        others = 1 - torch.eye(len(rows), dtype=rows.dtype, device=rows.device)
        distances = torch.cdist(rows, rows) * others
        return distances / (distances.sum() / (distances > 0).sum())

    return functional.smooth_l1_loss(
        relative_distances(student_features), relative_distances(teacher_features)
    )


def rkd_angle(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Relational distillation of angles."""

    def cosines(features: Tensor) -> Tensor:
        rows = features.flatten(1)
        directions = functional.normalize(rows.unsqueeze(0) - rows.unsqueeze(1), dim=2)
        return torch.bmm(directions, directions.transpose(1, 2))

    return functional.smooth_l1_loss(cosines(student_features), cosines(teacher_features))


def crd_in_batch(
    student_features: Tensor, teacher_features: Tensor, temperature: float = 0.07
) -> Tensor:
    """The symmetric contrastive loss of a batch."""
    student = functional.normalize(student_features.flatten(1))
    teacher = functional.normalize(teacher_features.flatten(1))
    logits = student @ teacher.T / temperature
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2


def in_batch_crd(
    student_features: Tensor, teacher_features: Tensor, student_parameters: Mapping[str, Any]
) -> Tensor:
    """The symmetric contrastive loss of projected features."""
    student, teacher = _project(student_features, teacher_features, student_parameters)
    return crd_in_batch(student, teacher)


def crd(
    student_features: Tensor,
    teacher_features: Tensor,
    student_parameters: Mapping[str, Any],
    memory: Mapping[str, Tensor],
    ids: Tensor,
    labels: Tensor,
    negatives: Tensor,
) -> Tensor:
    """Contrastive distillation with a memory, in its first batch, without the memory's update.

    The negatives are indices [B, K], which a data loader draws. In JAX the loss draws them.
    """
    del labels
    projected = _project(student_features, teacher_features, student_parameters)
    student, teacher = map(functional.normalize, projected)
    examples = len(memory["student"])
    ratio = negatives.shape[1] / examples
    rows = torch.cat([ids[:, None], negatives], dim=1)

    def contrast(anchors: Tensor, bank: Tensor) -> Tensor:
        selected = bank.index_select(0, rows.flatten()).view(*rows.shape, -1)
        scores = torch.exp(torch.bmm(selected, anchors.unsqueeze(2)).squeeze(2) / 0.07)
        scores = scores / (scores.mean() * examples).detach()
        noise = torch.log(ratio / (scores[:, 1:] + ratio + 1e-7)).sum()
        positive = scores[:, 0]
        return -(torch.log(positive / (positive + ratio + 1e-7)).sum() + noise) / len(ids)

    return contrast(student, memory["teacher"]) + contrast(teacher, memory["student"])


def ctkd(student_logits: Tensor, teacher_logits: Tensor, student_parameters: Any) -> Tensor:
    """The KL divergence at a learned temperature, whose gradient has the opposite sign."""
    temperature = 1 + 20 * torch.sigmoid(student_parameters["theta"])
    temperature = 2 * temperature.detach() - temperature
    divergence = functional.kl_div(
        functional.log_softmax(student_logits / temperature, dim=1),
        functional.log_softmax(teacher_logits / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return temperature**2 * divergence


def _project(student: Tensor, teacher: Tensor, parameters: Mapping[str, Any]) -> list[Tensor]:
    layers = parameters["projections"]
    return [
        features.flatten(1) @ layers[name]["kernel"] + layers[name]["bias"]
        for name, features in (("student", student), ("teacher", teacher))
    ]


def apply_in_batch_crd(
    student_features: jax.Array, teacher_features: jax.Array, student_parameters: Any
) -> jax.Array:
    """Returns the values of `losses.InBatchCRD`."""
    width = student_parameters["projections"]["student"]["kernel"].shape[1]
    batch = _batch(len(student_features))
    loss = losses.InBatchCRD(width=width)
    return _values(loss, student_parameters, student_features, teacher_features, batch)


def apply_crd(
    student_features: jax.Array,
    teacher_features: jax.Array,
    student_parameters: Any,
    memory: Mapping[str, jax.Array],
    ids: jax.Array,
    labels: jax.Array,
    negatives: jax.Array,
) -> jax.Array:
    """Returns the values of `losses.CRD`, which draws as many negatives itself.

    The updated memory is not returned, so that a compiled program leaves the update out.
    """
    examples, width = memory["student"].shape
    loss = losses.CRD(examples=examples, negatives=negatives.shape[1], width=width)
    batch = _batch(len(ids)).replace(ids=ids, labels=labels)
    return _values(loss, student_parameters, student_features, teacher_features, batch, memory)


def apply_ctkd(
    student_logits: jax.Array, teacher_logits: jax.Array, student_parameters: Any
) -> jax.Array:
    """Returns the values of `losses.CTKD` at its full strength."""
    terms: Any = losses.CTKD().apply(
        {"params": student_parameters},
        Outputs(student_logits),
        {"teacher": Outputs(teacher_logits)},
        _batch(len(student_logits)),
        Clock.at(epoch=10),
    )
    return terms["kl"].values


def _values(
    loss: Any,
    parameters: Any,
    student_features: jax.Array,
    teacher_features: jax.Array,
    batch: Batch,
    memory: Any = None,
) -> jax.Array:
    """Returns the values of a loss module of pooled features in training."""
    logits = jnp.zeros((len(student_features), 0))
    terms, _ = loss.apply(
        {"params": parameters, **({} if memory is None else {"memory": memory})},
        Outputs(logits, {"pooled": student_features}),
        {"teacher": Outputs(logits, {"pooled": teacher_features})},
        batch,
        Clock.at(),
        rngs={"loss": jax.random.key(0)},
        mutable=["memory"],
    )
    return terms[""].values


def _batch(rows: int) -> Batch:
    return Batch(np.zeros(rows), np.zeros(rows, np.int32), np.ones(rows, np.float32))


def pooled_features(rows: int = 64, student: int = 256, teacher: int = 512) -> dict[str, Any]:
    """Returns pooled features of student and teacher."""
    return random_features((rows, student), (rows, teacher))


def projected_features(
    rows: int = 64, student: int = 256, teacher: int = 512, width: int = 128
) -> dict[str, Any]:
    """Returns pooled features, and the parameters of two projections."""
    rng = np.random.default_rng(1)
    layers = {
        name: {
            "kernel": np.float32(rng.normal(size=(size, width)) / size**0.5),
            "bias": np.float32(rng.normal(size=width)),
        }
        for name, size in (("student", student), ("teacher", teacher))
    }
    features = pooled_features(rows, student, teacher)
    return {**features, "student_parameters": {"projections": layers}}


def memory_inputs(
    rows: int = 64,
    examples: int = _EXAMPLES,
    negatives: int = _NEGATIVES,
    width: int = 128,
    student: int = 256,
    teacher: int = 512,
) -> dict[str, Any]:
    """Returns the inputs of `crd`: no example of the memory has been in a batch before."""
    rng = np.random.default_rng(2)
    bound = (3 / width) ** 0.5
    return {
        **projected_features(rows, student, teacher, width),
        "memory": {
            **{
                name: np.float32(rng.uniform(-bound, bound, (examples, width)))
                for name in ("student", "teacher")
            },
            "labels": np.full(examples, -100, np.int32),
            "normalisers": np.zeros(2, np.float32),
        },
        "ids": rng.choice(examples, rows, replace=False).astype(np.int32),
        "labels": rng.integers(0, 100, rows).astype(np.int32),
        "negatives": rng.integers(0, examples, (rows, negatives)).astype(np.int32),
    }


def ctkd_inputs(rows: int = 64, classes: int = 100) -> dict[str, Any]:
    """Returns logits and the parameter of the temperature."""
    return {**random_logits(rows, classes), "student_parameters": {"theta": np.float32(1)}}


CASES: list[LossCase] = [
    *(
        LossCase(function.__name__, getattr(losses, function.__name__), function, pooled_features)
        for function in (sp, pkt, correlation_congruence, rkd_distance, rkd_angle)
    ),
    LossCase(
        "crd_in_batch",
        losses.crd_in_batch,
        crd_in_batch,
        functools.partial(pooled_features, student=512),
    ),
    LossCase("InBatchCRD", apply_in_batch_crd, in_batch_crd, projected_features),
    LossCase("CRD", apply_crd, crd, memory_inputs),
    LossCase("CTKD", apply_ctkd, ctkd, ctkd_inputs),
]
