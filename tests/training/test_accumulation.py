"""Gradient accumulation: the parts of a batch give the update of the whole batch."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from akd_jax import losses, models
from akd_jax.models.network import Model
from akd_jax.teachers.live import LiveTeacher
from akd_jax.training.step import train_step
from akd_jax.types import Outputs, Term
from tests.support.steps import (
    Linear,
    assert_close,
    make_state,
    uneven_images,
    update_on_four,
    update_on_one,
)

annealed = losses.bind(losses.annealed_mse, factor=0.5)


class TwoLayers(nn.Module):
    """A student without batch norm, because its statistics would differ between the parts."""

    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None):
        del train, axis_name
        hidden = nn.relu(nn.Dense(8)(inputs.reshape(len(inputs), -1)))
        return Outputs(logits=nn.Dense(10)(hidden))


@pytest.fixture
def batch():
    return uneven_images()


def teacher(module, batch):
    variables = module.init(jax.random.key(0), batch.inputs)
    return {"teacher": LiveTeacher(Model(variables, module.apply))}


@pytest.mark.parametrize("grad_accumulation_steps", [2, 4])
def test_accumulated_gradients_give_the_update_of_the_whole_batch(batch, grad_accumulation_steps):
    teachers = teacher(models.build("plain_cnn:8 M FC", num_classes=10), batch)
    state = make_state(TwoLayers(), batch.inputs, loss=annealed)
    expected, expected_metrics = update_on_one(state, teachers, [batch])
    parts = state.replace(grad_accumulation_steps=grad_accumulation_steps)
    for update in (update_on_one, update_on_four):
        actual, metrics = update(parts, teachers, [batch])
        assert int(actual.step) == 1
        assert_close(actual.params, expected.params, 1e-6)
        assert_close(metrics, expected_metrics, 2e-5)


def test_accumulation_parts_must_divide_the_rows(batch):
    state = make_state(TwoLayers(), batch.inputs, loss=annealed, grad_accumulation_steps=3)
    with pytest.raises(ValueError, match="a multiple of 3 rows per device, got 16"):
        update_on_one(state, {}, [batch])


def products(state, teachers, batch):
    """Returns the number of matrix products and convolutions in the optimised program."""
    program = jax.jit(train_step).lower(state, teachers, batch, jnp.int32(0)).compile()
    return len(re.findall(r"= \S+ (?:dot|convolution|custom-call)\(", program.as_text()))


@pytest.mark.parametrize("parts", [1, 2])
def test_weights_of_the_parts_cost_no_matrix_product(batch, parts):
    # One product each for the student, the teacher and the gradient of the student's kernel.
    batch = batch.replace(inputs=batch.inputs.reshape(16, 64))
    teachers = teacher(Linear(10), batch)
    loss = losses.compose(hard=(0.5, losses.cross_entropy), soft=(0.5, annealed))
    state = make_state(Linear(10), batch.inputs, loss=loss, grad_accumulation_steps=parts)
    assert products(state, teachers, batch) == 3

    def confident(student, teachers, batch, clock):
        del clock
        values = losses.annealed_mse(student.logits, teachers["teacher"].logits)
        weights = batch.weights * jax.nn.softmax(student.logits).max(axis=-1)
        return {"soft": Term(values, weights)}

    # Weights that depend on the student need its outputs for each part before the first gradient.
    state = state.replace(loss=confident)
    assert products(state, teachers, batch) == 3 + (parts > 1)


def test_weights_of_the_parts_need_no_batch_statistics(batch):
    module = models.build("plain_cnn:4 M 4 FC8 FC", num_classes=10)
    teachers = teacher(models.build("plain_cnn:8 M FC", num_classes=10), batch)
    state = make_state(module, batch.inputs, loss=annealed)
    whole = products(state, teachers, batch)
    # The layers of teacher and student; the gradients of four kernels and of three inputs.
    assert whole == 2 + 4 + 4 + 3
    assert products(state.replace(grad_accumulation_steps=2), teachers, batch) == whole
