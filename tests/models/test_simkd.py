"""The student of SimKD: its features, its gradients and its specification."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import models
from akd_jax.host.errors import InputError
from akd_jax.models.simkd import FROZEN, last_map

IMAGES = np.float32(np.random.default_rng(0).normal(size=(3, 8, 8, 1)))


@functools.cache
def student():
    """A student, and random variables with a random classifier."""
    module = models.build("simkd:6,plain_cnn:4 M 5 M FC", 7)
    variables = jax.jit(module.init)(jax.random.key(0), IMAGES)
    rng = np.random.default_rng(1)
    draw = functools.partial(jax.tree.map, lambda x: np.float32(rng.normal(size=x.shape)))
    return module, {**variables, FROZEN: draw(variables[FROZEN])}


def test_logits_are_those_of_the_classifier_on_the_transferred_map():
    module, variables = student()
    outputs = jax.jit(module.apply)(variables, IMAGES)
    features = outputs.features
    transferred = np.asarray(features["transferred"])
    assert transferred.shape == (3, 4, 4, 6)  # The size of the last map, before its pool.
    assert (transferred >= 0).all()
    np.testing.assert_allclose(features["pooled"], transferred.mean(axis=(1, 2)), rtol=1e-5)
    kernel, bias = variables[FROZEN]["kernel"], variables[FROZEN]["bias"]
    expected = np.asarray(features["pooled"]) @ kernel + bias
    np.testing.assert_allclose(outputs.logits, expected, rtol=1e-5)
    np.testing.assert_array_equal(outputs.head.kernel, kernel)
    np.testing.assert_array_equal(outputs.head.bias, bias)
    backbone = models.build("plain_cnn:4 M 5 M FC", 7)
    parts = {name: variables[name]["backbone"] for name in ("params", "batch_stats")}
    plain = jax.jit(backbone.apply)(parts, IMAGES).features
    for name in ("group_1", "group_2", "group_2_preactivation"):
        np.testing.assert_allclose(features[name], plain[name], rtol=1e-5)
    assert plain.keys() | {"transferred"} == features.keys()


def test_the_transfer_has_the_layers_of_the_paper():
    _, variables = student()
    kernels = [variables["params"][f"Conv_{number}"]["kernel"].shape for number in range(3)]
    assert kernels == [(1, 1, 5, 3), (3, 3, 3, 3), (1, 1, 3, 6)]
    norms = {name for name in variables["params"] if name.startswith("BatchNorm")}
    assert len(norms) == 3
    assert variables["params"].keys() == {"backbone", "Conv_0", "Conv_1", "Conv_2", *norms}


def test_the_classifier_is_no_parameter_and_starts_at_0():
    module, variables = student()
    fresh = jax.jit(module.init)(jax.random.key(0), IMAGES)
    assert {name: x.shape for name, x in fresh[FROZEN].items()} == {"kernel": (6, 7), "bias": (7,)}
    assert not any(np.any(x) for x in fresh[FROZEN].values())

    @jax.jit
    def gradients(params, others):
        def total(params):
            outputs, changed = module.apply(
                {"params": params, **others}, IMAGES, train=True, mutable=list(others)
            )
            return jnp.square(outputs.logits).sum(), changed

        return jax.grad(total, has_aux=True)(params)

    others = {name: x for name, x in variables.items() if name != "params"}
    gradient, changed = gradients(variables["params"], others)
    jax.tree.map(np.testing.assert_array_equal, changed[FROZEN], variables[FROZEN])
    assert np.abs(gradient["Conv_2"]["kernel"]).max() > 0
    assert np.abs(gradient["backbone"]["Conv_0"]["kernel"]).max() > 0
    assert not np.any(gradient["backbone"]["Dense_0"]["kernel"])  # Nothing reads its logits.


@jax.numpy_dtype_promotion("standard")  # Flax's batch norm promotes bfloat16 to float32.
def test_bfloat16_has_logits_in_float32():
    module = models.build("simkd:6,plain_cnn:4 M FC", 7, jnp.bfloat16)
    outputs = jax.eval_shape(lambda: module.init_with_output(jax.random.key(0), IMAGES)[0])
    assert outputs.features["transferred"].dtype == jnp.bfloat16
    assert outputs.logits.dtype == outputs.features["pooled"].dtype == jnp.float32


def test_the_last_map_has_the_largest_number():
    names = ("group_9", "group_10", "group_10_preactivation", "pooled", "group_2")
    assert last_map(dict.fromkeys(names)) == "group_10"
    with pytest.raises(InputError, match=r"expected networks that return maps .* got .* pooled;"):
        last_map({"pooled": None})


@pytest.mark.parametrize(
    "spec", ["64", "64,", "63,resnet:8", "0,resnet:8", "resnet:8", "8,huggingface:a", "8,simkd:8,a"]
)
def test_other_specifications_are_refused(spec):
    message = r"simkd: expected CHANNELS,STUDENT .* got '.*'; write simkd:64,resnet:8"
    with pytest.raises(InputError, match=message):
        models.build(f"simkd:{spec}", 5)


def test_a_wrong_backbone_is_named():
    with pytest.raises(InputError, match="resnet:9: expected a depth among"):
        models.build("simkd:64,resnet:9", 5)
