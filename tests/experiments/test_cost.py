"""The cost of a network."""

import jax

from akd_jax.models.network import Model
from akd_jax.runs import make_plan
from experiments import cost
from tests.support.configs import small_config


def test_multiply_adds_are_those_of_the_layers():
    config = small_config()
    config.method = "scratch"
    config.student.model = "plain_cnn:4 M 8 M FC"
    plan = make_plan(config)
    network, examples = plan.student, plan.dataset.splits["test"]
    model = Model(network.initial_variables(jax.random.key(0), plan.dataset.example), network.apply)
    # Convolutions of 3 x 3 on maps of 8 x 8 and 4 x 4, without the products with the padding: the
    # rows have 8 + 7 + 7 and 4 + 3 + 3 of them. Then a dense layer on 2 x 2 x 8 numbers.
    layers = 22 * 22 * 1 * 4 + 10 * 10 * 4 * 8 + 32 * 10
    counted = cost.multiply_adds(plan, network, model, examples)
    assert layers <= counted <= 1.3 * layers  # Normalisations and activations are counted too.
    size = cost.Size.of(model)
    # Kernels, and biases or scales and shifts with two statistics.
    kernels = 9 * 4 + 9 * 4 * 8 + 32 * 10
    assert kernels < size.parameters < kernels + 100
    assert size.bytes >= 4 * size.parameters
