"""The loss of a language model that learns a stream of tasks (L2KD)."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp

from akd_jax.losses.logits.divergences import kl
from akd_jax.losses.logits.labels import cross_entropy
from akd_jax.types import Batch, Clock, Outputs, TargetVocabulary, Term

_QA, _LM, _REPLAYED = "qa", "lm", "replayed"


@dataclasses.dataclass(frozen=True)
class StreamLoss:
    """The loss of new and of replayed examples, each in rows of the answer and of the whole text.

    With the QA rows, whose prompt is the question, and the LM rows, which have no prompt,

        loss = mean_QA l(token) + lambda mean_LM l(token)

    The means are those over the tokens of completions. For an example of the new tasks,
    l = T^2 KL(softmax(z_t / T) || softmax(z_s / T)) if there is a teacher; for all others, and
    without a teacher, l = -log softmax(z_s)[label]. Padding and the tokens of tasks are no classes:
    they are never generated.

    Sources: Chuang, Su and Chen, "Lifelong Language Knowledge Distillation", EMNLP 2020,
    https://arxiv.org/abs/2010.02123; Sun, Ho and Lee, "LAMOL", ICLR 2020,
    https://arxiv.org/abs/1909.03329.

    Attributes:
      target: the tokens of the texts.
      new_rows: number of the rows of the new tasks; the ids of their examples are below it.
      teacher: the name of the teacher; empty for none.
      temperature: T, greater than 0.
      lm_weight: lambda, at least 0.
      split_means: whether new and replayed rows have separate means, so that the loss has four
        terms. Replayed tokens then weigh as much as all new ones together, as in the authors' code.

    Raises:
      ValueError: a batch has no ids.
    """

    target: TargetVocabulary
    new_rows: int
    teacher: str = ""
    temperature: float = 2.0
    lm_weight: float = 0.25
    split_means: bool = False

    def __call__(
        self, student: Outputs, teachers: Mapping[str, Outputs], batch: Batch, clock: Clock
    ) -> Mapping[str, Term]:
        """Returns the terms, whose values are those of the tokens [B, L], in nats.

        Raises:
          ValueError: the batch has no ids, or the student's outputs have no mask.
        """
        del clock
        if batch.ids is None or student.mask is None:
            raise ValueError("batch: expected texts with the ids of their examples, got others")
        excluded = jnp.array([self.target.pad, *self.target.task_tokens])
        classes = jnp.ones(student.logits.shape[-1], bool).at[excluded].set(False)
        labels = jnp.where(batch.labelled, jnp.asarray(batch.labels), self.target.end)
        values = cross_entropy(student.logits, labels, where=classes)
        new = (jnp.asarray(batch.ids) < self.new_rows)[:, None]
        if self.teacher:
            soft = kl(
                student.logits, teachers[self.teacher].logits, self.temperature, where=classes
            )
            values = jnp.where(new, soft, values)
        counted = jnp.where(batch.labelled & student.mask, jnp.asarray(batch.weights)[:, None], 0)
        whole = student.mask[:, :1]  # A text without a prompt.
        rows = {_QA: ~whole, _LM: whole}
        if self.split_means:
            rows = {
                **{name: chosen & new for name, chosen in rows.items()},
                **{f"{_REPLAYED}_{name}": chosen & ~new for name, chosen in rows.items()},
            }
        return {
            name: Term(
                values,
                jnp.where(chosen, counted, 0),
                self.lm_weight if name.endswith(_LM) else 1.0,
            )
            for name, chosen in rows.items()
        }
