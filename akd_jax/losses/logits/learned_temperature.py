"""A temperature that is learned against the student."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from akd_jax import schedules
from akd_jax.losses.binding import value_weights
from akd_jax.losses.logits.divergences import kl
from akd_jax.types import Batch, Clock, Outputs, Term


class CTKD(nn.Module):
    """The KL divergence with a temperature that is learned to make it large (CTKD).

        T = 1 + 20 sigmoid(theta)        value = T^2 KL(softmax(z_t / T) || softmax(z_s / T))

    with the logits z_s and z_t, [B, C].

    theta is trained like the student, but with its gradient times -lambda: it ascends. lambda rises
    from 0 to 1 on half a cosine, once per epoch, so that the task becomes harder. theta begins at
    1, which is T = 15.6. The usual weight is 0.9, with 0.1 for the labels.

    The records show the mean of T as the term 'temperature', whose scale is 0: it is no part of the
    loss.

    With `width` above 0, theta is instead predicted for each row from the logits of teacher and
    student, by a network with one hidden layer; it starts near 1. This network is also trained with
    a reversed gradient, and the student gets no gradient through it.

    Source: Li et al., "Curriculum Temperature for Knowledge Distillation", AAAI 2023,
    https://arxiv.org/abs/2211.16231.

    Attributes:
      epochs: the number of epochs in which the strength lambda rises to 1, at least 1.
      width: the width of the hidden layer of the network that predicts theta; 0 for one theta for
        all examples.
      teacher: the name of the teacher.
    """

    epochs: int = 10
    width: int = 0
    teacher: str = "teacher"

    @nn.compact
    def __call__(
        self, student: Outputs, teachers: Mapping[str, Outputs], batch: Batch, clock: Clock
    ) -> Mapping[str, Term]:
        """Returns the terms 'kl', and 'temperature' with the scale 0: per example, or per token.

        Raises:
          ValueError: the logits of student and teacher differ in shape, or epochs or width is
            out of range.
        """
        if self.width < 0:
            raise ValueError(f"width: expected at least 0, got {self.width}; 0 learns one theta")
        strength = schedules.cosine(0.0, 1.0, epochs=self.epochs)(clock)
        logits = student.logits, teachers[self.teacher].logits
        theta = self._predict(*logits) if self.width else self._theta()
        temperature = reverse_gradient(1 + 20 * jax.nn.sigmoid(theta), strength)
        values = kl(*logits, temperature=temperature)
        weights = value_weights(values, student, batch)
        shown = jnp.broadcast_to(jax.lax.stop_gradient(temperature), values.shape)
        return {"kl": Term(values, weights), "temperature": Term(shown, weights, 0.0)}

    def _theta(self) -> jax.Array:
        return self.param("theta", nn.initializers.ones, ())

    def _predict(self, *logits: jax.Array) -> jax.Array:
        """Returns theta of each row of logits [..., C]."""
        both = jax.lax.stop_gradient(jnp.concatenate(logits, axis=-1, dtype=jnp.float32))
        finite = jnp.where(jnp.isfinite(both), both, 0)
        hidden = nn.relu(nn.Dense(self.width, name="hidden")(finite))
        return nn.Dense(1, bias_init=nn.initializers.ones, name="theta")(hidden)[..., 0]


@jax.custom_vjp
def reverse_gradient(x: jax.Array, strength: jax.Array) -> jax.Array:
    """Returns x; its gradient is multiplied by -strength."""
    del strength
    return x


def _forward(x: jax.Array, strength: jax.Array) -> tuple[jax.Array, jax.Array]:
    return x, strength


def _backward(strength: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    return -strength * gradient, jnp.zeros_like(strength)


reverse_gradient.defvjp(_forward, _backward)
