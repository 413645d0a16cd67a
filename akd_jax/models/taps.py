"""Features of submodules that a network does not return itself, such as one from another package.

For example, the outputs of a block and of a nested module become features of these names:

    tap(network, block="BasicBlock_3", attention="encoder/layer_1/attention")
"""

import dataclasses
from typing import Any

import jax
from flax import traverse_util
from flax.core.scope import union_filters

from akd_jax.host.errors import InputError
from akd_jax.models.network import Network
from akd_jax.types import Outputs, Variables

_COLLECTION = "intermediates"  # Flax stores captured outputs in this collection.
_MAX_SHOWN = 40  # A message lists at most this many paths.


def tap(network: Network, /, **paths: str) -> Network:
    """Returns a network that also returns the outputs of submodules as features.

    The variables and the initial weights do not change. The output of a submodule is what its
    `__call__` returns in its last call; the first element of it if that is a tuple or a list.
    A feature of the network with the same name is replaced. A network that returns an array
    [B, C] is accepted too: the array becomes the logits. Tapping a tapped network adds features.
    Submodules within `nn.scan` can be tapped only if its variable_axes contain 'intermediates'.

    Args:
      network: the network. Its module takes the arguments `train` and `axis_name`.
      **paths: the name of each feature, with the path of its submodule in the tree of modules:
        the names on the way to it, joined by '/'.

    Returns:
      A network whose `init` and `apply` raise InputError, while they are traced, if there is no
      submodule at a path, or if its output is not an array.
    """
    earlier = dict(network.paths) if isinstance(network, TappedNetwork) else {}
    return TappedNetwork(
        network.module,
        network.preprocess,
        network.pretrained,
        tuple({**earlier, **paths}.items()),
    )


@dataclasses.dataclass(frozen=True)
class TappedNetwork(Network):
    """A network with features of its submodules; use `tap` to create it.

    Attributes:
      paths: pairs of the name of a feature and the path of its submodule.
    """

    paths: tuple[tuple[str, str], ...] = ()

    def init(self, key: jax.Array, inputs: Any) -> Variables:
        """Returns random variables; only the shapes of the raw inputs matter."""
        variables = super().init(key, inputs)
        # Check the paths before the first program is compiled, which is that of `init`.
        jax.eval_shape(lambda: self.apply(variables, inputs, train=False))
        return variables

    def apply(
        self, variables: Variables, inputs: Any, *, mutable: Any = False, **kwargs: Any
    ) -> Any:
        """Calls the module's `apply` on preprocessed raw inputs; adds the features.

        Raises:
          InputError: a tapped submodule was not called, or does not return an array.
        """
        wanted = [path for _, path in self.paths]
        result, changed = self.module.apply(
            variables,
            self.preprocess(inputs),
            mutable=union_filters(mutable, _COLLECTION),
            capture_intermediates=lambda module, method: (
                method == "__call__" and "/".join(module.path) in wanted
            ),
            **kwargs,
        )
        changed = dict(changed)
        captured = _last_outputs(changed.pop(_COLLECTION, {}))
        missing = [path for path in wanted if path not in captured]
        if missing:
            raise InputError(
                f"tap: expected the path of a submodule, got {missing[0]!r}; use one of:"
                f" {self._known_paths(variables, inputs, **kwargs)}"
            )
        outputs = result if isinstance(result, Outputs) else Outputs(logits=result)
        features = {name: _as_array(path, captured[path]) for name, path in self.paths}
        outputs = outputs.replace(features={**outputs.features, **features})
        return outputs if mutable is False else (outputs, changed)

    def _known_paths(self, variables: Variables, inputs: Any, **kwargs: Any) -> str:
        """Returns the paths of the submodules for a message, the outermost ones first."""

        def intermediates() -> Any:
            _, changed = self.module.apply(
                variables,
                self.preprocess(inputs),
                mutable=True,
                capture_intermediates=True,
                **kwargs,
            )
            return changed[_COLLECTION]

        paths = [path for path in _last_outputs(jax.eval_shape(intermediates)) if path]
        paths.sort(key=lambda path: path.count("/"))
        hidden = len(paths[_MAX_SHOWN:])
        return ", ".join(paths[:_MAX_SHOWN]) + (f" and {hidden} more" if hidden else "")


def _last_outputs(intermediates: Any) -> dict[str, Any]:
    """Returns the output of the last call of each captured module by its path."""
    return {
        "/".join(path): calls[-1]
        for (*path, name), calls in traverse_util.flatten_dict(dict(intermediates)).items()
        if name == "__call__"  # Other names are values that the network stores itself.
    }


def _as_array(path: str, output: Any) -> jax.Array:
    """Returns an output that is an array, or its first element."""
    first = output[0] if isinstance(output, (tuple, list)) and output else output
    if not hasattr(first, "shape"):
        raise InputError(
            f"tap: expected the submodule {path!r} to return an array, got"
            f" {type(first).__name__}; tap a submodule inside it"
        )
    return first
