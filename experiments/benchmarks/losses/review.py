"""Losses of several layers, and losses that read the teacher's classifier, in PyTorch.

Features are dicts of arrays by the names of the layers, which are in alphabetical order from the
shallowest to the deepest. Parameters have the names and shapes that Flax gives them.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch.nn import functional

from akd_jax import losses
from akd_jax.types import Batch, Clock, Head, Outputs
from experiments.benchmarks.losses.case import LossCase, random_features

_Tensors = Mapping[str, Any]


def hcl(student_features: torch.Tensor, teacher_features: torch.Tensor) -> torch.Tensor:
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


def review_kd(
    student_features: _Tensors, teacher_features: _Tensors, student_parameters: _Tensors
) -> torch.Tensor:
    """Returns the loss of ReviewKD."""
    pairs = zip(student_features.values(), teacher_features.values(), strict=True)
    value, deeper = torch.zeros(()), None
    for number, (features, target) in reversed(list(enumerate(pairs))):
        parameters, goal = student_parameters[f"fusion_{number}"], _channels_first(target)
        convolutions = iter(parameters[name] for name in sorted(parameters) if "Conv" in name)
        x = _convolve(_channels_first(features), next(convolutions))
        x = _normalise(x, parameters["BatchNorm_0"])
        if deeper is not None:
            deeper = functional.interpolate(deeper, x.shape[2:], mode="nearest")
            both = torch.cat([x, deeper], dim=1)
            own, others = torch.sigmoid(_convolve(both, next(convolutions))).split(1, dim=1)
            x = own * x + others * deeper
        deeper = functional.interpolate(x, goal.shape[2:], mode="nearest")
        output = _normalise(_convolve(deeper, next(convolutions)), parameters["BatchNorm_1"])
        value = value + hcl(output.permute(0, 2, 3, 1), goal.permute(0, 2, 3, 1))
    return value


def semckd(
    student_features: _Tensors,
    teacher_features: _Tensors,
    student_parameters: _Tensors,
    *,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Returns the loss of SemCKD."""
    students, teachers = (
        [_channels_first(x) for x in features.values()]
        for features in (student_features, teacher_features)
    )

    def embed(kind: str, layers: list[torch.Tensor]) -> torch.Tensor:
        embedded = []
        for number, features in enumerate(layers):
            parameters = student_parameters[f"{kind}_{number}"]
            rows = features.flatten(1)
            x = torch.relu(_dense(rows @ rows.T, parameters["hidden"]))
            embedded.append(functional.normalize(_dense(x, parameters["output"])))
        return torch.stack(embedded, dim=1)

    scores = embed("query", students) @ embed("key", teachers).transpose(1, 2)
    attention = (scores / temperature).softmax(dim=-1)
    value = torch.zeros(())
    for s, features in enumerate(students):
        for t, target in enumerate(teachers):
            parameters = student_parameters[f"projection_{s}_{t}"]
            size = _smaller(features, target)
            x = functional.adaptive_avg_pool2d(features, size)
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
    student_features: _Tensors,
    teacher_features: _Tensors,
    teacher_logits: torch.Tensor,
    teacher_head: _Tensors,
    student_parameters: _Tensors,
    *,
    beta: float = 5.0,
) -> torch.Tensor:
    """Returns the sum of the terms of SRRL."""
    ((features,), (target,)) = student_features.values(), teacher_features.values()
    x = _convolve(_channels_first(features), student_parameters["Conv_0"])
    x = torch.relu(_normalise(x, student_parameters["BatchNorm_0"])).mean(dim=(2, 3))
    target = _channels_first(target).mean(dim=(2, 3))
    logits = _dense(x, teacher_head)
    return functional.mse_loss(x, target) + beta * functional.mse_loss(logits, teacher_logits)


def simkd(student_features: torch.Tensor, teacher_features: torch.Tensor) -> torch.Tensor:
    """Returns the error of the transferred maps."""
    student, teacher = _channels_first(student_features), _channels_first(teacher_features)
    size = _smaller(student, teacher)
    return functional.mse_loss(
        functional.adaptive_avg_pool2d(student, size), functional.adaptive_avg_pool2d(teacher, size)
    )


def _channels_first(features: torch.Tensor) -> torch.Tensor:
    """Returns maps [B, C, H, W] of maps [B, H, W, C] or vectors [B, C]."""
    maps = features[:, None, None] if features.ndim == 2 else features
    return maps.permute(0, 3, 1, 2)


def _smaller(maps: torch.Tensor, others: torch.Tensor) -> tuple[int, int]:
    """Returns the smaller height and the smaller width of maps [B, C, H, W]."""
    return min(maps.shape[2], others.shape[2]), min(maps.shape[3], others.shape[3])


def _convolve(maps: torch.Tensor, parameters: _Tensors) -> torch.Tensor:
    kernel = parameters["kernel"].permute(3, 2, 0, 1)
    return functional.conv2d(maps, kernel, parameters.get("bias"), padding=kernel.shape[-1] // 2)


def _normalise(maps: torch.Tensor, parameters: _Tensors) -> torch.Tensor:
    return functional.batch_norm(
        maps, None, None, parameters["scale"], parameters["bias"], training=True
    )


def _dense(rows: torch.Tensor, parameters: _Tensors) -> torch.Tensor:
    return rows @ parameters["kernel"] + parameters["bias"]


def call(module: nn.Module, *, axis_name: str | None = None, **arrays: Any) -> jax.Array:
    """Returns the sum of the terms of a loss module, one value per example [B].

    Args:
      module: the loss.
      axis_name: the axis of the surrounding pmap.
      **arrays: 'student_parameters', the parameters of the module; 'student_features' and
        'teacher_features' by name; if the loss reads them, 'student_logits', 'teacher_logits',
        'teacher_head' with 'kernel' and 'bias', 'labels', and 'weights', which are 1 by default.
    """
    terms, _ = module.apply(
        {"params": arrays["student_parameters"]},
        *_arguments(**arrays),
        axis_name=axis_name,
        mutable=["batch_stats"],
    )
    return sum((term.scale * term.values for term in terms.values()), start=jnp.zeros(()))


def with_parameters(module: nn.Module, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arrays for `call` with random 'student_parameters'."""
    keys = {"params": jax.random.key(0), "loss": jax.random.key(1)}
    shapes = jax.eval_shape(lambda: module.init(keys, *_arguments(**arrays))["params"])
    rng = np.random.default_rng(1)

    def draw(shape: Any) -> np.ndarray:
        fan_in = max(1, int(np.prod(shape.shape[:-1])))
        return (rng.normal(size=shape.shape) / np.sqrt(fan_in)).astype(np.float32)

    return {**arrays, "student_parameters": jax.tree.map(draw, shapes)}


def _arguments(**arrays: Any) -> tuple[Outputs, dict[str, Outputs], Batch, Clock]:
    """Returns the arguments of a loss."""
    rows = len(next(iter(arrays["student_features"].values())))
    student, teacher = (
        Outputs(arrays.get(f"{owner}_logits", jnp.zeros((rows, 1))), arrays[f"{owner}_features"])
        for owner in ("student", "teacher")
    )
    if "teacher_head" in arrays:
        teacher = teacher.replace(head=Head(**arrays["teacher_head"]))
    labels = arrays.get("labels", jnp.zeros(rows, jnp.int32))
    batch = Batch(jnp.zeros(rows), labels, arrays.get("weights", jnp.ones(rows)))
    return student, {"teacher": teacher}, batch, Clock.at()


def _layers(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, dict[str, np.ndarray]]:
    """Returns random features of student and teacher with these names and shapes."""
    pairs = {name: random_features(shape) for name, shape in shapes.items()}
    return {
        owner: {name: pair[owner] for name, pair in pairs.items()}
        for owner in ("student_features", "teacher_features")
    }


_GROUPS = {
    "group_1": (64, 32, 32, 16),
    "group_2": (64, 16, 16, 32),
    "group_3": (64, 8, 8, 64),
}


def _module_case(
    module: nn.Module,
    reference: Callable[..., torch.Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    **others: tuple[int, ...],
) -> LossCase:
    """Returns a case with features of these shapes; `others` are the shapes of further arrays."""

    def inputs() -> dict[str, Any]:
        rng = np.random.default_rng(2)
        arrays: dict[str, Any] = {
            name: rng.normal(size=x).astype(np.float32) for name, x in others.items()
        }
        if "kernel" in arrays:
            arrays["teacher_head"] = {name: arrays.pop(name) for name in ("kernel", "bias")}
        return with_parameters(module, {**_layers(shapes), **arrays})

    def values(**arrays: Any) -> jax.Array:
        return call(module, **arrays)

    return LossCase(type(module).__name__, values, reference, inputs)


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
        teacher_logits=(64, 100),
        kernel=(64, 100),
        bias=(100,),
    ),
]
