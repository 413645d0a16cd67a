"""Logits for the tests of losses, and NumPy formulas that do not use the library."""

import jax.numpy as jnp
import numpy as np

# Two examples, three classes; small enough to work by hand.
STUDENT = jnp.array([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
TEACHER = jnp.array([[4.0, 0.0, -2.0], [1.0, 2.0, 3.0]])
LABELS = jnp.array([0, 2])


def random_logits(shape=(4, 5, 7)):
    """Logits of student and teacher in float64, and labels; by default a row is a token."""
    rng = np.random.default_rng(0)
    return (
        3 * rng.normal(size=shape),
        3 * rng.normal(size=shape),
        rng.integers(0, shape[-1], shape[:-1]),
    )


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softmax(logits):
    return np.exp(log_softmax(logits))


def cross_entropy(logits, labels):
    return -np.take_along_axis(log_softmax(logits), labels[..., None], axis=-1)[..., 0]


def kl(student, teacher, temperature):
    log_p, log_q = log_softmax(teacher / temperature), log_softmax(student / temperature)
    return temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
