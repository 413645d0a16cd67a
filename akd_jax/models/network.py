"""A network: a Flax module with its preprocessing and its initial weights; and a model of it."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Protocol

import flax.linen as nn
import jax
from flax import struct, traverse_util

from akd_jax.types import Array, Outputs, Variables


class ApplyFn(Protocol):
    """`flax.linen.Module.apply` of a module with the signature (inputs, train, axis_name)."""

    def __call__(self, variables: Variables, *args: Any, **kwargs: Any) -> Any:
        """Returns the outputs; with `mutable`, also the collections that the module changed."""


class Preprocess(Protocol):
    """Preprocessing of raw inputs, such as normalisation."""

    def __call__(self, inputs: Any, /) -> Any:
        """Returns the inputs of the module."""


class Pretrained(Protocol):
    """A source of pretrained weights."""

    def __call__(self, shapes: Variables, /) -> Mapping[tuple[str, ...], Array]:
        """Returns the pretrained variables by their paths in the tree of all variables."""


@dataclasses.dataclass(frozen=True)
class Network:
    """A module with its preprocessing and its initial weights.

    Attributes:
      module: maps preprocessed inputs to `Outputs`.
      preprocess: maps raw inputs to the inputs of the module.
      pretrained: the source of pretrained weights; None for random initial weights.
    """

    module: nn.Module
    preprocess: Preprocess
    pretrained: Pretrained | None = None

    def init(self, key: jax.Array, inputs: Any) -> Variables:
        """Returns random variables; only the shapes of the raw inputs matter."""
        return self.module.init(key, self.preprocess(inputs))

    def variable_shapes(self, inputs: Any) -> Variables:
        """Returns the shapes and types of the variables; equal networks are traced once."""
        init, _ = self._traced()
        return jax.eval_shape(init, jax.random.key(0), inputs)

    def initial_variables(self, key: jax.Array, inputs: Any) -> Variables:
        """Returns the pretrained variables, and random ones where no pretrained ones exist."""
        if self.pretrained is None:
            return jax.jit(self.init)(key, inputs)
        stored = self.pretrained(self.variable_shapes(inputs))

        # Initialise only the variables that are missing from the checkpoint.
        def missing_variables(key: jax.Array, inputs: Any) -> Any:
            variables = traverse_util.flatten_dict(dict(self.init(key, inputs)))
            return {path: value for path, value in variables.items() if path not in stored}

        return traverse_util.unflatten_dict({**stored, **jax.jit(missing_variables)(key, inputs)})

    def apply(self, variables: Variables, inputs: Any, **kwargs: Any) -> Any:
        """Calls the module's `apply` on preprocessed raw inputs."""
        return self.module.apply(variables, self.preprocess(inputs), **kwargs)

    def apply_shapes(self, variables: Variables, inputs: Any, **kwargs: Any) -> Any:
        """Like `apply`, for checks of shapes: in inference mode, equal networks are traced once."""
        if kwargs == {"train": False}:
            _, infer = self._traced()
            return infer(variables, inputs)
        return self.apply(variables, inputs, **kwargs)

    def _traced(self) -> tuple[Any, Any]:
        preprocess: Any = self.preprocess  # The type does not say that it is hashable.
        return _traced_once(self.module, preprocess)


@functools.lru_cache(maxsize=64)
def _traced_once(module: nn.Module, preprocess: Any) -> tuple[Any, Any]:
    """Returns the functions `init` and `infer` of a network, whose traces JAX keeps.

    Their second call with the same shapes costs little, also within another function. They are
    made for `jax.eval_shape`, and nothing is compiled.
    """
    network = Network(module, preprocess)
    return jax.jit(network.init), jax.jit(functools.partial(network.apply, train=False))


def count_parameters(variables: Variables) -> int:
    """Returns the number of parameters among the variables of a network, or their shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


class Model(struct.PyTreeNode):
    """Variables and the function that applies them in inference mode."""

    variables: Variables
    apply_fn: ApplyFn = struct.field(pytree_node=False)

    def __call__(self, inputs: Any) -> Outputs:
        """Maps inputs [B, ...] to outputs, without dropout and with running statistics."""
        return self.apply_fn(self.variables, inputs, train=False)
