"""Networks, by name."""

from collections.abc import Callable, Mapping

import flax.linen as nn

from akd_jax.errors import InputError
from akd_jax.models import plain_cnn

# Name to a builder that takes what follows the colon, and the number of classes.
MODELS: Mapping[str, Callable[[str, int], nn.Module]] = {
    "plain_cnn": plain_cnn.build,
}


def build(spec: str, num_classes: int) -> nn.Module:
    """Makes the module of a `name:argument`, such as 'plain_cnn:16 M 16 M FC'.

    The module maps inputs [B, ...] to `Outputs`, and takes `train` and `axis_name`.

    Raises:
      InputError: the name is unknown, or its argument is not what that model takes.
    """
    name, _, argument = spec.partition(":")
    if name not in MODELS:
        raise InputError(
            f"expected NAME:ARGUMENT with a name among {', '.join(MODELS)}, got {spec!r}"
        )
    return MODELS[name](argument, num_classes)
