"""Students, states and updates for the tests of the training step."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from akd_jax.models.network import Model
from akd_jax.training import parallel
from akd_jax.training.state import TrainState, init_loss
from akd_jax.training.step import train_step
from akd_jax.types import Batch, Outputs


class Linear(nn.Module):
    """A linear student without a bias, whose gradient has a closed form."""

    outputs: int = 3

    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None):
        del train, axis_name
        logits = nn.Dense(self.outputs, use_bias=False)(inputs)
        return Outputs(logits, {"scores": logits})


def uneven_images():
    """Returns 16 images with weights; of four devices one has only padding rows, one has some."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 2, size=16)
    weights[9:] = 0  # One device has some padding rows, and another one only padding rows.
    return Batch(
        inputs=np.float32(rng.normal(size=(16, 8, 8, 1))),
        labels=np.int32(rng.integers(0, 10, size=16)),
        weights=np.float32(weights),
    )


def make_state(module, inputs, *, loss, optimizer=None, variables=None, **options):
    """Returns a state with seeded parameters; by default an epoch is one update."""
    options = {"key": jax.random.key(2), "steps_per_epoch": 1, **options}
    return TrainState.create(
        module.apply,
        module.init(jax.random.key(1), inputs) if variables is None else variables,
        optimizer=optimizer or optax.sgd(0.1, momentum=0.9),
        loss=loss,
        **options,
    )


def make_module_state(student, loss, teachers, batch):
    """A state whose loss is a module, with seeded parameters of student and loss."""
    model = Model(student.init(jax.random.key(1), batch.inputs), student.apply)
    return make_state(
        student,
        batch.inputs,
        loss=loss,
        variables=model.variables,
        loss_variables=init_loss(loss, jax.random.key(3), model, teachers, batch),
        optimizer=optax.sgd(0.1),
    )


def assert_all_trained(start, end):
    """Checks that each parameter of student and loss has changed."""
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), end.params, start.params)
    assert min(jax.tree.leaves(moved)) > 0


def with_optimizer(state, optimizer):
    """The state at its beginning with another optimizer, of the student and of the loss."""
    opt_state = {name: optimizer.init(params) for name, params in state.params.items()}
    return state.replace(optimizer=optimizer, loss_optimizer=optimizer, opt_state=opt_state)


def update_on_one(state, teachers, batches, k=0):
    """Returns the state after updates on one device, and the metrics of each update."""
    step, metrics = jax.jit(train_step), []
    for batch in batches:
        state, result = step(state, teachers, batch, jnp.int32(k))
        metrics.append(result)
    return state, metrics


def update_on_four(state, teachers, batches, k=0):
    """Like `update_on_one`, on four devices; every device has the same state at the end."""
    assert jax.local_device_count() == 4
    step, metrics = parallel.compile_train_step(train_step), []
    state, teachers, k = parallel.replicate((state, teachers, jnp.int32(k)))
    for batch in batches:
        state, result = step(state, teachers, parallel.shard(batch), k)
        metrics.extend(result.fetch())
    for leaf in jax.tree.leaves(arrays(state)):
        first, *others = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(others) == 3
        for other in others:
            np.testing.assert_array_equal(other, first)
    return state, metrics


def arrays(state):
    """The arrays of a state that training changes."""
    return {
        "params": state.params,
        "model_state": state.model_state,
        "loss_state": state.loss_state,
        "opt": state.opt_state,
    }


def means(metrics):
    """The mean of each metric, by name."""
    return {name: float(value.mean()) for name, value in metrics.items()}


def assert_close(actual, expected, atol):
    """Checks that two trees of arrays have the same structure and nearly equal values."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=0, atol=atol),
        jax.device_get(actual),
        jax.device_get(expected),
    )
