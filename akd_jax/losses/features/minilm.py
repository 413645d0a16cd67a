"""MiniLM and MiniLMv2: the attention of one layer of the student, and of one of the teacher."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax

from akd_jax import checks
from akd_jax.losses.binding import value_weights
from akd_jax.losses.features.attention import attention_kl, relation_kl
from akd_jax.types import Batch, Clock, Outputs, Term


@dataclasses.dataclass(frozen=True)
class MiniLM:
    """MiniLM's loss of the attention and of the relations of the values in one layer.

        loss = mean of attention_kl(A_s, A_t) + mean of relation_kl(V_s, V_t)

    A are the scores 'attention_N' and V the values 'value_N' of `Encoder`. The paper takes the last
    layers. Student and teacher need the same number of heads, but may have different widths. The
    terms are called 'attention' and 'value'. No other loss is needed for a student that is
    distilled on texts without labels, and fine-tuned later.

    Source: Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of
    Pre-Trained Transformers", NeurIPS 2020, https://arxiv.org/abs/2002.10957.

    Attributes:
      student_layer: number of the student's layer, from 1; -1 for the last one.
      teacher_layer: number of the teacher's layer, from 1; -1 for the last one.
      teacher: the name of the teacher.

    Raises:
      ValueError: the number of a layer is out of range.
    """

    student_layer: int = -1
    teacher_layer: int = -1
    teacher: str = "teacher"

    def __post_init__(self) -> None:
        _check_layers(self)

    def __call__(
        self, student: Outputs, teachers: Mapping[str, Outputs], batch: Batch, clock: Clock
    ) -> Mapping[str, Term]:
        """Returns two terms with a value per example [B]."""
        del clock
        functions = {"attention": attention_kl, "value": relation_kl}
        return _layer_terms(self, functions, student, teachers, batch)


@dataclasses.dataclass(frozen=True)
class MiniLMv2:
    """MiniLMv2's loss of the relations of the queries, keys and values in one layer.

        loss = mean of relation_kl(Q_s, Q_t) + mean of relation_kl(K_s, K_t)
               + mean of relation_kl(V_s, V_t)

    Q, K and V are the features 'query_N', 'key_N' and 'value_N' of `Encoder`. Student and teacher
    may have different numbers of heads. The paper takes the last layer of the student. It takes the
    last layer of a teacher of base size (12 layers), and 48 relation heads; for a teacher of large
    size (24 layers) one of the upper layers but not the last one, and 64 relation heads. The terms
    are called 'query', 'key' and 'value'.

    Source: Wang et al., "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing
    Pretrained Transformers", Findings of ACL 2021, https://arxiv.org/abs/2012.15828.

    Attributes:
      student_layer: number of the student's layer, from 1; -1 for the last one.
      teacher_layer: number of the teacher's layer, from 1; -1 for the last one.
      relation_heads: number of heads into which the vectors of a token are split again, a divisor
        of the width of both networks; 0 for the heads of the networks.
      teacher: the name of the teacher.

    Raises:
      ValueError: the number of a layer or of the heads is out of range.
    """

    student_layer: int = -1
    teacher_layer: int = -1
    relation_heads: int = 48
    teacher: str = "teacher"

    def __post_init__(self) -> None:
        _check_layers(self)
        checks.check_values("relation_heads", self.relation_heads, "at least 0", lambda x: x >= 0)

    def __call__(
        self, student: Outputs, teachers: Mapping[str, Outputs], batch: Batch, clock: Clock
    ) -> Mapping[str, Term]:
        """Returns three terms with a value per example [B]."""
        del clock
        function = functools.partial(relation_kl, relation_heads=self.relation_heads)
        functions = {"query": function, "key": function, "value": function}
        return _layer_terms(self, functions, student, teachers, batch)


def _layer_terms(
    loss: MiniLM | MiniLMv2,
    functions: Mapping[str, Callable[..., jax.Array]],
    student: Outputs,
    teachers: Mapping[str, Outputs],
    batch: Batch,
) -> Mapping[str, Term]:
    """Returns a term for each function of the features KIND_N, where the key is the kind."""
    teacher = teachers[loss.teacher]
    terms = {}
    for kind, function in functions.items():
        values = function(
            _layer(student.features, kind, loss.student_layer),
            _layer(teacher.features, kind, loss.teacher_layer),
            mask=student.mask,
        )
        terms[kind] = Term(values, value_weights(values, student, batch))
    return terms


def _layer(features: Mapping[str, jax.Array], kind: str, number: int) -> jax.Array:
    """Returns the feature KIND_number; with -1, the one of the largest number."""
    if number == -1:
        # Stored outputs of a teacher hold only the features that a loss reads.
        numbers = [name.removeprefix(f"{kind}_") for name in features]
        number = max((int(x) for x in numbers if x.isdecimal()), default=1)
    return features[f"{kind}_{number}"]


def _check_layers(loss: MiniLM | MiniLMv2) -> None:
    for name in ("student_layer", "teacher_layer"):
        checks.check_values(
            name,
            getattr(loss, name),
            "a number of at least 1, or -1 for the last layer",
            lambda x: (x >= 1) | (x == -1),
        )
