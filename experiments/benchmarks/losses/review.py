"""Losses of several layers, and losses that read the teacher's classifier, in PyTorch.

The functions of modules take the features 'student_NAME' and 'teacher_NAME', whose names are in
alphabetical order from the shallowest layer to the deepest.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from akd_jax import losses
from experiments.benchmarks.losses.case import LossCase, random_features, random_logits
from experiments.benchmarks.losses.modules import initial_parameters, module_loss

Parameters = Mapping[str, Any]


def hcl(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Returns the hierarchical context loss."""
    student, teacher = _channels_first(student_features), _channels_first(teacher_features)
    value = functional.mse_loss(student, teacher)
    weights = [1.0]
    for size in (4, 2, 1):
        if size < min(student.shape[2:]):
            weights.append(weights[-1] / 2)
            value = value + weights[-1] * functional.mse_loss(
                functional.adaptive_avg_pool2d(student, size),
                functional.adaptive_avg_pool2d(teacher, size),
            )
    return value / sum(weights)


def review_kd(student_parameters: Parameters, **features: Tensor) -> Tensor:
    """Returns the loss of ReviewKD."""
    pairs = zip(_layers("student", features), _layers("teacher", features), strict=True)
    value, deeper = torch.zeros(()), None
    for number, (own, goal) in reversed(list(enumerate(pairs))):
        parameters = student_parameters[f"fusion_{number}"]
        convolutions = iter(parameters[name] for name in sorted(parameters) if "Conv" in name)
        x = _convolve(own, next(convolutions))
        x = _normalise(x, parameters["BatchNorm_0"])
        if deeper is not None:
            deeper = functional.interpolate(deeper, x.shape[2:], mode="nearest")
            both = torch.cat([x, deeper], dim=1)
            first, second = torch.sigmoid(_convolve(both, next(convolutions))).split(1, dim=1)
            x = first * x + second * deeper
        deeper = functional.interpolate(x, goal.shape[2:], mode="nearest")
        output = _normalise(_convolve(deeper, next(convolutions)), parameters["BatchNorm_1"])
        value = value + hcl(output.permute(0, 2, 3, 1), goal.permute(0, 2, 3, 1))
    return value


def semckd(
    student_parameters: Parameters, *, temperature: float = 1.0, **features: Tensor
) -> Tensor:
    """Returns the loss of SemCKD."""
    students, teachers = _layers("student", features), _layers("teacher", features)

    def embed(kind: str, layers: list[Tensor]) -> Tensor:
        embedded = []
        for number, maps in enumerate(layers):
            parameters = student_parameters[f"{kind}_{number}"]
            rows = maps.flatten(1)
            x = torch.relu(_dense(rows @ rows.T, parameters["hidden"]))
            embedded.append(functional.normalize(_dense(x, parameters["output"])))
        return torch.stack(embedded, dim=1)

    scores = embed("query", students) @ embed("key", teachers).transpose(1, 2)
    attention = (scores / temperature).softmax(dim=-1)
    value = torch.zeros(())
    for s, source in enumerate(students):
        for t, target in enumerate(teachers):
            parameters = student_parameters[f"projection_{s}_{t}"]
            size = _smaller(source, target)
            x = functional.adaptive_avg_pool2d(source, size)
            for number in range(2):
                x = _convolve(x, parameters[f"Conv_{number}"])
                x = torch.relu(_normalise(x, parameters[f"BatchNorm_{number}"]))
            x = _convolve(x, parameters["Conv_2"])
            errors = (
                (x - functional.adaptive_avg_pool2d(target, size)).square().flatten(1).mean(dim=1)
            )
            value = value + (attention[:, s, t] * errors).mean() / len(students)
    return value


def srrl(
    student_parameters: Parameters,
    teacher_head: Parameters,
    teacher_logits: Tensor,
    *,
    beta: float = 5.0,
    **features: Tensor,
) -> Tensor:
    """Returns the sum of the terms of SRRL."""
    ((maps,), (target,)) = _layers("student", features), _layers("teacher", features)
    x = _convolve(maps, student_parameters["Conv_0"])
    x = torch.relu(_normalise(x, student_parameters["BatchNorm_0"])).mean(dim=(2, 3))
    logits = _dense(x, teacher_head)
    features_error = functional.mse_loss(x, target.mean(dim=(2, 3)))
    return features_error + beta * functional.mse_loss(logits, teacher_logits)


def stage_heads(
    student_parameters: Parameters,
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    *,
    exponent: float = 1.0,
    **features: Tensor,
) -> Tensor:
    """Returns the sum of the terms of OFA."""
    one_hot = functional.one_hot(labels.long(), teacher_logits.shape[-1])
    targets = (teacher_logits.softmax(dim=-1) + one_hot) ** exponent - one_hot
    names = [name.removeprefix("student_") for name in features if name.startswith("student_")]
    heads = [
        _dense(maps.mean(dim=(2, 3)), student_parameters[f"head_{name}"])
        for name, maps in zip(names, _layers("student", features), strict=True)
    ]
    logits = torch.stack([student_logits, *heads])
    return -(targets * logits.log_softmax(dim=-1)).sum(dim=(0, 2)).mean()


def simkd(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Returns the error of the transferred maps."""
    student, teacher = _channels_first(student_features), _channels_first(teacher_features)
    size = _smaller(student, teacher)
    return functional.mse_loss(
        functional.adaptive_avg_pool2d(student, size), functional.adaptive_avg_pool2d(teacher, size)
    )


def _layers(owner: str, features: Mapping[str, Tensor]) -> list[Tensor]:
    """Returns the features of student or teacher as maps [B, C, H, W]."""
    return [_channels_first(x) for name, x in features.items() if name.startswith(f"{owner}_")]


def _channels_first(features: Tensor) -> Tensor:
    """Returns maps [B, C, H, W] of maps [B, H, W, C] or vectors [B, C]."""
    maps = features[:, None, None] if features.ndim == 2 else features
    return maps.permute(0, 3, 1, 2)


def _smaller(maps: Tensor, others: Tensor) -> tuple[int, int]:
    """Returns the smaller height and the smaller width of maps [B, C, H, W]."""
    return min(maps.shape[2], others.shape[2]), min(maps.shape[3], others.shape[3])


def _convolve(maps: Tensor, parameters: Parameters) -> Tensor:
    kernel = parameters["kernel"].permute(3, 2, 0, 1)
    return functional.conv2d(maps, kernel, parameters.get("bias"), padding=kernel.shape[-1] // 2)


def _normalise(maps: Tensor, parameters: Parameters) -> Tensor:
    return functional.batch_norm(
        maps, None, None, parameters["scale"], parameters["bias"], training=True
    )


def _dense(rows: Tensor, parameters: Parameters) -> Tensor:
    return rows @ parameters["kernel"] + parameters["bias"]


_GROUPS = {
    "group_1": (64, 32, 32, 16),
    "group_2": (64, 16, 16, 32),
    "group_3": (64, 8, 8, 64),
}


def _module_case(
    module: nn.Module,
    reference: Callable[..., Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    **others: Any,
) -> LossCase:
    """Returns a case with features of these shapes, initial parameters and further arrays."""

    def inputs() -> dict[str, Any]:
        arrays: dict[str, Any] = dict(others)
        for name, shape in shapes.items():
            for owner, array in random_features(shape).items():
                arrays[owner.replace("features", name)] = array
        return {**arrays, "student_parameters": initial_parameters(module, arrays)}

    return LossCase(type(module).__name__, module_loss(module), reference, inputs)


CASES: list[LossCase] = [
    LossCase("hcl", losses.hcl, hcl, lambda: random_features((64, 8, 8, 64))),
    LossCase(
        "simkd",
        losses.simkd,
        simkd,
        lambda: random_features((64, 8, 8, 64), (64, 4, 4, 64)),
    ),
    _module_case(losses.ReviewKD((*_GROUPS, "pooled")), review_kd, {**_GROUPS, "pooled": (64, 64)}),
    _module_case(losses.SemCKD(), semckd, _GROUPS),
    _module_case(
        losses.SRRL("group_3"),
        srrl,
        {"group_3": (64, 8, 8, 64)},
        teacher_logits=random_logits(64, 100)["teacher_logits"],
        teacher_head={
            "kernel": random_logits(64, 100)["student_logits"],
            "bias": np.zeros(100, np.float32),
        },
    ),
    _module_case(
        losses.OFA(),
        stage_heads,
        _GROUPS,
        **random_logits(64, 100, labels=True),
    ),
]
