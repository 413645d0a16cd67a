"""The part of a teacher's outputs that is stored, and the names of its arrays."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from akd_jax.types import Outputs, TopK

_LOGITS, _FEATURE, _TOP_K = "logits", "feature.", "top_k."  # Names of arrays, or their beginnings.


@dataclasses.dataclass(frozen=True)
class Selection:
    """The part of a teacher's outputs that is stored.

    Attributes:
      features: names of the features.
      dtype: the type of the stored numbers, 'float32' or 'bfloat16'.
      top_k: number of the largest logits that are stored; 0 for all.
    """

    features: tuple[str, ...] = ()
    dtype: str = "float32"
    top_k: int = 0

    def __call__(self, outputs: Outputs) -> Outputs:
        """Returns the selected part of outputs on the device, in the stored type."""
        dtype = jnp.dtype(self.dtype)
        features = {name: outputs.features[name].astype(dtype) for name in self.features}
        if not self.top_k:
            return Outputs(outputs.logits.astype(dtype), features)
        logits = outputs.logits.astype(jnp.float32)
        largest = TopK.of(logits, self.top_k)
        largest = largest.replace(values=largest.values.astype(dtype))
        return Outputs(logits[..., :0].astype(dtype), features, largest)


def to_arrays(outputs: Outputs) -> dict[str, np.ndarray]:
    """Returns the arrays of outputs by the names of their files."""
    arrays = {_LOGITS: outputs.logits}
    arrays |= {f"{_FEATURE}{name}": array for name, array in outputs.features.items()}
    if outputs.top_k is not None:
        fields = dataclasses.fields(outputs.top_k)
        arrays |= {f"{_TOP_K}{x.name}": getattr(outputs.top_k, x.name) for x in fields}
    return {name: np.asarray(array) for name, array in arrays.items()}


def to_outputs(arrays: Mapping[str, Any]) -> Outputs:
    """Returns the outputs whose arrays have these names."""

    def named(prefix: str) -> dict[str, Any]:
        return {
            name.removeprefix(prefix): array
            for name, array in arrays.items()
            if name.startswith(prefix)
        }

    top_k = named(_TOP_K)
    return Outputs(arrays[_LOGITS], named(_FEATURE), TopK(**top_k) if top_k else None)
