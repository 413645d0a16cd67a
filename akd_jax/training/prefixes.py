"""Contexts that the student writes itself, in place of those of the data."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from akd_jax.host.errors import InputError
from akd_jax.models.network import Model
from akd_jax.schedules import Schedule
from akd_jax.training.generation import Step, Writing, generate, greedy, sample, written_lengths
from akd_jax.types import TARGET, UNLABELLED, Batch, Clock, TargetVocabulary, Teacher, Tokens

REPLACED = "replaced"  # Name in `batch.extra`: which contexts the student wrote, bool [B].


@dataclasses.dataclass(frozen=True)
class StudentPrefixes:
    """Replaces contexts of a batch by texts of the student, for `Stage.prepare`.

    Each context is kept with the probability beta; otherwise the student writes another one for the
    same source, in inference mode. Which contexts are kept, and what is drawn for them, depends on
    the examples' ids and on the update, and not on the number of devices. There is no gradient
    through the writing.

    A context has the tokens before the end. Positions after it are padding for all losses. The
    tokens of replaced contexts have no label, since the data do not continue them.

    Source: Lin et al., "Autoregressive Knowledge Distillation through Imitation Learning", EMNLP
    2020, https://arxiv.org/abs/2009.07253.

    Raises:
      InputError: the student continues texts, and has no side for the source.

    Attributes:
      target: the tokens of the texts.
      kept: beta, the probability of keeping a context, a schedule with values from 0 to 1.
      temperature: the softmax temperature of the tokens that are drawn; 0 writes greedily.
      top_k: the number of the most probable tokens that are drawn from; 0 for all.
      top_p: the probability of the most probable tokens that are drawn from; 1 for all.
    """

    target: TargetVocabulary
    kept: Schedule
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __call__(
        self,
        student: Model,
        teachers: Mapping[str, Teacher],
        batch: Batch,
        clock: Clock,
        key: jax.Array,
    ) -> Batch:
        """Returns the batch with some contexts replaced, and REPLACED in `extra`.

        Raises:
          InputError: the student does not map a source to a target.
        """
        del teachers
        assert batch.ids is not None, "expected a batch with the ids of its examples"
        if any(isinstance(texts, Tokens) for texts in batch.inputs.values()):
            raise InputError(
                "config.student.model: expected a network that maps a source to a target, such as"
                " transformer:4000,2+2x256, since the student writes contexts, got one that"
                " continues texts; choose another network or another method"
            )
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(batch.ids))
        draws = jax.vmap(jax.random.uniform)(keys)
        replaced = draws >= self.kept(clock)
        length = batch.labels.shape[1]
        writing = Writing.of(self.target, length)

        def decode(step: Step, cache: Any, rows: int) -> jax.Array:
            if self.temperature == 0:
                return greedy(step, cache, rows, writing)
            own = jax.vmap(jax.random.fold_in, (0, None))(keys, 1)
            return sample(
                step,
                cache,
                own,
                writing,
                temperature=self.temperature,
                top_k=self.top_k,
                top_p=self.top_p,
            )

        tokens = generate(student, batch.inputs, length, decode)
        lengths = jnp.asarray(written_lengths(tokens, writing) + 1, jnp.int32)  # With the start.

        def replace(before: Tokens) -> Tokens:
            ids = jnp.where(replaced[:, None], tokens, before.ids)
            return before.replace(ids=ids, lengths=jnp.where(replaced, lengths, before.lengths))

        inputs = {
            vocabulary: {**texts, TARGET: replace(texts[TARGET])}
            for vocabulary, texts in batch.inputs.items()
        }
        labels = jnp.where(replaced[:, None], UNLABELLED, batch.labels)
        return batch.replace(
            inputs=inputs, labels=labels, extra={**batch.extra, REPLACED: replaced}
        )
