"""Losses of the hidden states of transformers: TinyBERT, DistilBERT and PKD.

Student and teacher read the same texts: B texts of L tokens, which both networks tokenise in the
same way. Hidden states are tokens [B, L, D] of width D, such as 'hidden_6' of `Encoder`. All losses
compute in float32. The teacher's features get no gradient.
"""

from collections.abc import Mapping
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax.losses.binding import value_weights
from akd_jax.losses.features.distances import feature_mse
from akd_jax.losses.features.preparation import prepare_features
from akd_jax.losses.features.projectors import apply_to_rows
from akd_jax.losses.rows import unit_rows
from akd_jax.types import Array, Batch, Clock, Outputs, Term

LayerStrategy = Literal["uniform", "top", "bottom", "pkd_skip", "pkd_last"]


def layer_map(
    student_layers: int, teacher_layers: int, strategy: LayerStrategy = "uniform"
) -> tuple[tuple[int, int], ...]:
    """Returns pairs (m, g(m)): layer m of a student learns from layer g(m) of its teacher.

    With M layers of the student and N of the teacher, g(m) is
      - 'uniform': m N / M, rounded to the nearest layer, a half upwards;
      - 'top': m + N - M, the last layers;
      - 'bottom': m, the first layers;
      - 'pkd_skip' and 'pkd_last': as 'uniform' and 'top', without the student's last layer M.
    TinyBERT uses 'uniform', and compares it with 'top' and 'bottom'; PKD compares the last two. For
    example, PKD of 6 layers from 12:

        losses.compose(
            **{
                f"layer_{m}": (0.1, losses.bind(losses.pkd, layers=(f"hidden_{m}", f"hidden_{g}")))
                for m, g in losses.layer_map(6, 12, "pkd_skip")
            }
        )

    Source: Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", Findings
    of EMNLP 2020, https://arxiv.org/abs/1909.10351; Sun et al., "Patient Knowledge Distillation for
    BERT Model Compression", EMNLP 2019, https://arxiv.org/abs/1908.09355.

    Args:
      student_layers: M, at least 1 and at most N.
      teacher_layers: N.
      strategy: which layers of the teacher the student learns from.

    Returns:
      The pairs in the order of m = 1 ... M, or M - 1.

    Raises:
      ValueError: the student has no layers or more than its teacher, or the strategy is unknown.
    """
    if not 1 <= student_layers <= teacher_layers:
        raise ValueError(
            f"student_layers: expected 1 to {teacher_layers}, the number of the teacher's layers,"
            f" got {student_layers}"
        )
    numbers = range(1, student_layers + 1)
    skipped = teacher_layers - student_layers
    pairs = {
        "uniform": [
            (m, (2 * m * teacher_layers + student_layers) // (2 * student_layers)) for m in numbers
        ],
        "top": [(m, m + skipped) for m in numbers],
        "bottom": [(m, m) for m in numbers],
    }
    pairs |= {"pkd_skip": pairs["uniform"][:-1], "pkd_last": pairs["top"][:-1]}
    if strategy not in pairs:
        raise ValueError(f"strategy: expected one of {', '.join(pairs)}, got {strategy!r}")
    return tuple(pairs[strategy])


def cosine(student_features: Array, teacher_features: Array) -> jax.Array:
    """Returns one minus the cosine of the features of student and teacher.

        value = 1 - F_s . F_t / (||F_s|| ||F_t||)

    The value is 1, without a gradient, if one of the features is 0. DistilBERT compares
    'last_hidden_state' with weight 1, next to `kl` at temperature 2 with weight 5 and the
    cross-entropy of masked tokens with weight 2. Its `kl` has the factor T^2.

    Source: Sanh et al., "DistilBERT, a distilled version of BERT", 2019,
    https://arxiv.org/abs/1910.01108.

    Args:
      student_features: F_s, tokens [B, L, D] or vectors [B, D].
      teacher_features: F_t, of the same shape.

    Returns:
      float32 [B, L] for tokens, [B] for vectors; from 0 to 2.

    Raises:
      ValueError: the features are neither both tokens nor both vectors of one shape.
    """
    student, teacher = prepare_features(student_features, teacher_features)
    if student.shape != teacher.shape or student.ndim not in (2, 3):
        raise ValueError(
            "features: expected tokens [B, L, D] or vectors [B, D] of one shape, got shapes"
            f" {student.shape} and {teacher.shape}; choose other layers, or HiddenStates, which"
            " projects the student's"
        )
    units = unit_rows(student), unit_rows(teacher)
    defined = units[0].any(axis=-1) & units[1].any(axis=-1)
    # Half of the squared distance: the difference of 1 and a cosine near 1 would lose its digits.
    return jnp.where(defined, jnp.square(units[0] - units[1]).sum(axis=-1) / 2, 1)


def pkd(student_features: Array, teacher_features: Array) -> jax.Array:
    """Returns the squared distance of normalised hidden states of the first token (PKD).

        value = || h_s / ||h_s|| - h_t / ||h_t|| ||^2 = 2 - 2 cos(h_s, h_t)

    h is the hidden state of the first token, BERT's [CLS]. A state of 0 stays 0 and gets no
    gradient. The paper adds the values of all layers but the student's last one, see `layer_map`.
    It tries weights from 10 to 1000. They belong to the authors' code, which takes the mean over
    the layers and the D elements: divide them by D times the number of layers here.

    Source: Sun et al., "Patient Knowledge Distillation for BERT Model Compression", EMNLP 2019,
    https://arxiv.org/abs/1908.09355.

    Args:
      student_features: hidden states [B, L, D], or those of the first tokens [B, D].
      teacher_features: hidden states of the teacher, of the same texts and width.

    Returns:
      float32 [B], from 0 to 4.

    Raises:
      ValueError: the features are not hidden states of the same texts and width.
    """
    student, teacher = prepare_features(student_features, teacher_features)
    if student.shape != teacher.shape or student.ndim not in (2, 3):
        raise ValueError(
            "features: expected hidden states [B, L, D] or [B, D] of one shape, got shapes"
            f" {student.shape} and {teacher.shape}; choose other layers"
        )
    if student.ndim == 3:
        student, teacher = student[:, 0], teacher[:, 0]
    return jnp.square(unit_rows(student) - unit_rows(teacher)).sum(axis=-1)


class HiddenStates(nn.Module):
    """TinyBERT's loss of hidden states: their errors after one projection for all layers.

        value of a layer = mean over the D_t elements of (H_s W + b - H_t)^2

    The layers share W and b. They are trained with the student and belong to the loss. The means
    run over the real tokens of a batch. For TinyBERT, pair the embeddings 'hidden_0', and the
    layers of `layer_map`, with weight 1, and add `attention_mse` of the same layers:

        numbers = losses.layer_map(4, 12)
        hidden = [(f"hidden_{m}", f"hidden_{g}") for m, g in ((0, 0), *numbers)]
        attention = {
            f"attention_{m}": (
                1.0,
                losses.bind(losses.attention_mse, layers=(f"attention_{m}", f"attention_{g}")),
            )
            for m, g in numbers
        }
        losses.compose(hidden=(1.0, losses.HiddenStates(tuple(hidden))), **attention)

    TinyBERT trains with these losses first. A second stage trains with the teacher's predictions,
    `kl` at temperature 1, and without these losses.

    Source: Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", Findings
    of EMNLP 2020, https://arxiv.org/abs/1909.10351.

    Attributes:
      layers: pairs of a feature of the student and one of the teacher, by name. All features of a
        network have the same width.
      teacher: the name of the teacher.
      always_project: whether to project even if student and teacher have the same width, as
        TinyBERT does.

    Raises:
      ValueError: the layers are not pairs, or a feature of the student is named twice.
    """

    layers: tuple[tuple[str, str], ...] = (("last_hidden_state", "last_hidden_state"),)
    teacher: str = "teacher"
    always_project: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [pair[0] for pair in self.layers if isinstance(pair, tuple) and len(pair) == 2]
        if not names or len({*names}) != len(self.layers):
            raise ValueError(
                "layers: expected pairs of a feature of the student and one of the teacher, each"
                f" feature of the student once, got {self.layers!r}"
            )

    @nn.compact
    def __call__(
        self,
        student: Outputs,
        teachers: Mapping[str, Outputs],
        batch: Batch,
        clock: Clock,
    ) -> Mapping[str, Term]:
        """Returns a term per layer, by the student's name: a value per token [B, L].

        Raises:
          ValueError: the features are not tokens of the same texts with one width per network.
        """
        del clock
        features = {
            name: prepare_features(student.features[name], teachers[self.teacher].features[target])
            for name, target in self.layers
        }
        shapes, targets = ({x.shape for x in side} for side in zip(*features.values(), strict=True))
        _check_shapes(shapes, targets)
        width = targets.pop()[-1]
        project = nn.Dense(width, name="fit_dense")
        keep = not self.always_project and shapes.pop()[-1] == width
        terms = {}
        for name, (states, target) in features.items():
            values = feature_mse(states if keep else apply_to_rows(project, states), target)
            terms[name] = Term(values, value_weights(values, student, batch))
        return terms


def _check_shapes(student: set[tuple[int, ...]], teacher: set[tuple[int, ...]]) -> None:
    """Raises ValueError unless the layers are tokens of the same texts, one width per network."""
    shapes = [*student, *teacher]
    if len(shapes) == 2 and len(shapes[0]) == 3 and shapes[0][:2] == shapes[1][:2]:
        return
    raise ValueError(
        "HiddenStates: expected tokens [B, L, D] of the same texts, and one width of all layers of"
        f" a network, got shapes {sorted(student)} and {sorted(teacher)}; choose other layers"
    )
