"""A linear student of two teachers with stored outputs, and its losses by hand."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax

from akd_jax.teachers.live import StoredTeacher
from akd_jax.types import Batch, Clock, Outputs
from tests.support.steps import Linear, make_state

NAMES, B, C, D = ("one", "two"), 8, 3, 4
CLOCK = Clock.at()
TEACHERS: Mapping[str, StoredTeacher] = {name: StoredTeacher(name) for name in NAMES}


def batch_of(weights=(1.0,) * B, seed=0, names=NAMES):
    """A batch with random inputs, labels and outputs of the teachers."""
    rng = np.random.default_rng(seed)
    return Batch(
        np.float32(rng.normal(size=(B, D))),
        np.int32(rng.integers(0, C, B)),
        np.float32(weights),
        ids=np.arange(B, dtype=np.int32),
        stored={name: Outputs(np.float32(2 * rng.normal(size=(B, C)))) for name in names},
    )


def state_of(batch, loss, optimizer=None, loss_optimizer=None, key=1, data=None):
    """A state whose loss is a module; `data` is added to the variables of the loss."""
    teachers = {name: outputs.replace(features={}) for name, outputs in batch.stored.items()}
    variables = loss.init(
        {"params": jax.random.key(0), "loss": jax.random.key(0)},
        Outputs(jnp.zeros((B, C))),
        teachers,
        batch,
        CLOCK,
    )
    return make_state(
        Linear(),
        batch.inputs,
        loss=loss,
        loss_variables={**variables, **(data or {})},
        optimizer=optimizer or optax.sgd(0.1),
        loss_optimizer=loss_optimizer or optax.sgd(0.1),
        key=jax.random.key(key),
    )


def losses_of(student, batch, actions):
    """Cross-entropy and KL divergence to the mean of the chosen teachers, or of all, by hand."""
    weights = np.where(np.any(actions, axis=1, keepdims=True), actions, 1)
    p = np.stack([np.asarray(jax.nn.softmax(x.logits)) for x in batch.stored.values()], axis=1)
    q = np.einsum("bk,bkc->bc", weights / weights.sum(axis=1, keepdims=True), p)
    log_s = np.asarray(jax.nn.log_softmax(student))
    return -log_s[np.arange(B), batch.labels], (q * (np.log(q) - log_s)).sum(axis=1)
