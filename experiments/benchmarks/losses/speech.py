"""Losses of speech in PyTorch, and their cases."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional

from akd_jax import losses
from experiments.benchmarks.losses.case import LossCase
from experiments.benchmarks.losses.modules import initial_parameters, module_loss

MASKED_CODES = losses.MaskedCodes(codes=256, layer="states")


def ctc(student_logits: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """The mean over the rows; the blank is class 0, and labels of 0 are padding."""
    return functional.ctc_loss(
        student_logits.log_softmax(dim=-1).transpose(0, 1),
        labels.long(),
        mask.sum(dim=1),
        (labels != 0).sum(dim=1),
        reduction="none",
    ).mean()


def masked_codes(
    student_states: Tensor,
    extra_codes: Tensor,
    extra_masked: Tensor,
    student_parameters: Mapping[str, Any],
) -> Tensor:
    """The mean over all masked positions."""
    dense, norm, output = (student_parameters[name] for name in ("dense", "norm", "output"))
    x = functional.gelu(student_states[extra_masked] @ dense["kernel"] + dense["bias"])
    x = functional.layer_norm(x, x.shape[-1:], norm["scale"], norm["bias"])
    codes = extra_codes[extra_masked].long() - MASKED_CODES.first_code
    return functional.cross_entropy(x @ output["kernel"] + output["bias"], codes)


def random_alignments(rows: int, frames: int, classes: int, labels: int) -> dict[str, np.ndarray]:
    """Returns logits [B, T, C] and labels [B, N] of random lengths with alignments."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2 * labels, frames + 1, rows)
    count = rng.integers(1, labels + 1, (rows, 1))
    classes_of_labels = rng.integers(1, classes, (rows, labels))
    return {
        "student_logits": rng.normal(size=(rows, frames, classes)).astype(np.float32),
        "labels": np.where(np.arange(labels) < count, classes_of_labels, 0).astype(np.int32),
        "mask": np.arange(frames) < lengths[:, None],
    }


def masked_positions(rows: int, length: int, width: int) -> dict[str, Any]:
    """Returns states [B, T, D], and codes of which half of each row are masked [B, T]."""
    rng = np.random.default_rng(0)
    order = rng.permuted(np.tile(np.arange(length), (rows, 1)), axis=1)
    codes = MASKED_CODES.first_code + rng.integers(0, MASKED_CODES.codes, (rows, length))
    arrays = {
        "student_states": rng.normal(size=(rows, length, width)).astype(np.float32),
        "extra_codes": codes.astype(np.int32),
        "extra_masked": order < length // 2,
    }
    return {**arrays, "student_parameters": initial_parameters(MASKED_CODES, arrays)}


CASES = [
    LossCase("ctc", losses.ctc, ctc, functools.partial(random_alignments, 32, 100, 32, 30)),
    LossCase(
        "MaskedCodes",
        module_loss(MASKED_CODES),
        masked_codes,
        functools.partial(masked_positions, 32, 128, 128),
    ),
]
