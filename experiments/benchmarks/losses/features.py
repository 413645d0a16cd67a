"""The losses of convolutional features in PyTorch, and their cases.

The functions take maps [B, H, W, C] and Flax parameters, kernels [height, width, in, out].
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import numpy as np
import torch
from torch.nn import functional

from akd_jax import losses
from experiments.benchmarks.losses.case import LossCase, random_features
from experiments.benchmarks.losses.modules import (
    batch_of,
    initial_parameters,
    module_loss,
    random_numbers_of,
)

Tensor = torch.Tensor
Parameters = Mapping[str, Any]

_STUDENT, _TEACHER = (64, 8, 8, 64), (64, 8, 8, 128)


def feature_mse(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Mean squared error."""
    return functional.mse_loss(student_features, teacher_features)


def attention_transfer(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Squared difference of normalised attention maps."""

    def attention(maps: Tensor) -> Tensor:
        return functional.normalize(maps.square().mean(dim=1).flatten(1))

    student, teacher = _average_pooled(student_features, teacher_features)
    return (attention(student) - attention(teacher)).square().mean()


def nst(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of the channels, with the kernel (a . b)^2."""

    def kernel(one: Tensor, other: Tensor) -> Tensor:
        return (one @ other.transpose(1, 2)).square().mean()

    student, teacher = (
        functional.normalize(maps.flatten(2), dim=2)
        for maps in _average_pooled(student_features, teacher_features)
    )
    return kernel(teacher, teacher) + kernel(student, student) - 2 * kernel(student, teacher)


def fsp(
    student_first: Tensor,
    student_second: Tensor,
    teacher_first: Tensor,
    teacher_second: Tensor,
    student_parameters: Parameters,
    pool: Callable[[Tensor, tuple[int, int]], Tensor] = functional.adaptive_max_pool2d,
) -> Tensor:
    """Squared difference of the products of two layers' channels, after a pool to one size.

    The student's first map is projected if there are parameters.
    """

    def matrix(first: Tensor, second: Tensor) -> Tensor:
        size = _smaller_size(first, second)
        first, second = (pool(maps, size).flatten(2) for maps in (first, second))
        return first @ second.transpose(1, 2) / first.shape[2]

    first = _channels_first(student_first)
    if student_parameters:
        first = _conv(first, student_parameters["Conv_0"])
    return functional.mse_loss(
        matrix(first, _channels_first(student_second)),
        matrix(_channels_first(teacher_first), _channels_first(teacher_second)),
    )


def hint(
    student_features: Tensor, teacher_features: Tensor, student_parameters: Parameters
) -> Tensor:
    """Mean squared error after a convolution, batch norm and ReLU, for maps of one size."""
    projected = _conv_and_norm(_channels_first(student_features), student_parameters)
    return functional.mse_loss(functional.relu(projected), _channels_first(teacher_features))


def vid(
    student_features: Tensor, teacher_features: Tensor, student_parameters: Parameters
) -> Tensor:
    """Negative log-likelihood of the teacher's map, for maps of one size, or of its vector."""
    mean, shape = student_features, [1] * (student_features.ndim - 1)
    for number in range(3):
        mean = mean @ student_parameters[f"Dense_{number}"]["kernel"]
        mean = functional.relu(mean) if number < 2 else mean
    variance = functional.softplus(student_parameters["softplus_inverse"]).view(*shape, -1) + 1e-5
    return 0.5 * ((mean - teacher_features).square() / variance + variance.log()).mean()


def ab(
    student_features: Tensor, teacher_features: Tensor, student_parameters: Parameters
) -> Tensor:
    """Squared hinge between the student's map and the signs of the teacher's, margin 1."""
    student, teacher = map(_channels_first, (student_features, teacher_features))
    if student_parameters:
        student = _conv_and_norm(student, student_parameters)
    loss = (student + 1).square() * ((student > -1) & (teacher <= 0)) + (student - 1).square() * (
        (student <= 1) & (teacher > 0)
    )
    return loss.sum() / len(student)


def factor_transfer(
    student_features: Tensor, teacher_features: Tensor, student_parameters: Parameters
) -> Tensor:
    """Mean absolute difference of normalised factors, plus 0.002 reconstruction errors."""

    def convolutions(name: str, maps: Tensor) -> Tensor:
        for number in range(3):
            maps = functional.leaky_relu(_conv(maps, student_parameters[f"{name}_{number}"]), 0.1)
        return maps

    student, teacher = map(_channels_first, (student_features, teacher_features))
    code = convolutions("paraphraser", teacher)
    reconstruction = functional.mse_loss(convolutions("decoder", code), teacher)
    factor, target = (
        functional.normalize(maps.flatten(1))
        for maps in _pooled(convolutions("translator", student), code.detach())
    )
    return functional.l1_loss(factor, target) + 0.002 * reconstruction


def mgd(
    student_features: Tensor,
    teacher_features: Tensor,
    student_parameters: Parameters,
    mask: Tensor,
) -> Tensor:
    """Squared error of the teacher's map, generated from the student's projected, masked map."""
    student, teacher, mask = map(_channels_first, (student_features, teacher_features, mask))
    masked = _conv(student, student_parameters["Conv_0"]) * mask
    hidden = functional.relu(_conv(masked, student_parameters["generator_0"]))
    generated = _conv(hidden, student_parameters["generator_1"])
    return (generated - teacher).square().sum() / len(teacher)


def _channels_first(maps: Tensor) -> Tensor:
    """Maps [B, H, W, C] to [B, C, H, W]; other features stay as they are."""
    return maps.permute(0, 3, 1, 2) if maps.ndim == 4 else maps


def _smaller_size(one: Tensor, other: Tensor) -> tuple[int, int]:
    """The smaller height and the smaller width of maps [B, C, H, W]."""
    return min(one.shape[2], other.shape[2]), min(one.shape[3], other.shape[3])


def _pooled(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """Averages maps [B, C, H, W] to the smaller height and width of both."""
    size = _smaller_size(one, other)
    return functional.adaptive_avg_pool2d(one, size), functional.adaptive_avg_pool2d(other, size)


def _average_pooled(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    return _pooled(_channels_first(student), _channels_first(teacher))


def _conv(maps: Tensor, layer: Parameters) -> Tensor:
    """A convolution with stride 1 that keeps the size of maps [B, C, H, W]."""
    kernel = layer["kernel"].permute(3, 2, 0, 1)
    return functional.conv2d(maps, kernel, layer.get("bias"), padding="same")


def _conv_and_norm(maps: Tensor, parameters: Parameters) -> Tensor:
    """A convolution and a batch norm with the statistics of the batch."""
    norm = parameters["BatchNorm_0"]
    return functional.batch_norm(
        _conv(maps, parameters["Conv_0"]), None, None, norm["scale"], norm["bias"], training=True
    )


def _function_case(
    name: str, function: Callable[..., Any], reference: Callable[..., Tensor], *shapes: Any
) -> LossCase:
    return LossCase(name, function, reference, lambda: random_features(*shapes))


def _module_case(
    name: str,
    module: nn.Module,
    reference: Callable[..., Tensor],
    arrays: Callable[[], dict[str, Any]] = lambda: random_features(_STUDENT, _TEACHER),
    extra: Callable[[], dict[str, Any]] = dict,
) -> LossCase:
    """Returns the case of a loss module with its initial parameters.

    Args:
      name: the name of the module.
      module: the module.
      reference: the function of PyTorch.
      arrays: returns the features.
      extra: returns further arrays of the function of PyTorch.
    """

    def inputs() -> dict[str, Any]:
        features = arrays()
        return {
            **features,
            **extra(),
            "student_parameters": initial_parameters(module, features),
        }

    return LossCase(name, module_loss(module), reference, inputs)


def _two_layers() -> dict[str, np.ndarray]:
    first, second = random_features((64, 16, 16, 64)), random_features(_TEACHER)
    return {
        f"{owner}_{layer}": arrays[f"{owner}_features"]
        for owner in ("student", "teacher")
        for layer, arrays in (("first", first), ("second", second))
    }


_MGD = losses.MGD("features")

CASES: list[LossCase] = [
    _function_case("feature_mse", losses.feature_mse, feature_mse, _TEACHER),
    _function_case(
        "attention_transfer", losses.attention_transfer, attention_transfer, _STUDENT, _TEACHER
    ),
    _function_case("nst", losses.nst, nst, _STUDENT, _TEACHER),
    _module_case("FSP", losses.FSP(("first", "second")), fsp, _two_layers),
    _module_case("Hint", losses.Hint("features"), hint),
    _module_case("VID", losses.VID("features"), vid),
    _module_case("AB", losses.AB("features"), ab),
    _module_case("FactorTransfer", losses.FactorTransfer("features"), factor_transfer),
    _module_case(
        "MGD",
        _MGD,
        mgd,
        extra=lambda: {
            "mask": np.float32(
                random_numbers_of(_MGD, losses.MGD.draw_mask, _TEACHER, batch_of(_TEACHER[0]))
            )
        },
    ),
]
