"""Parameters that keep their values in a stage, and the submodules that they belong to."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import flax.linen as nn
from flax import traverse_util

from akd_jax.host.errors import InputError

EVERYTHING = "*"  # The path of all submodules and parameters.


def split_frozen(params: Any, frozen: Sequence[str]) -> tuple[Any, Any]:
    """Divides a tree of parameters into those that are trained and those that are frozen.

    Args:
      params: the parameters of a network.
      frozen: the paths of submodules or parameters, the names on the way to them joined by '/',
        such as 'encoder' or 'encoder/layer_0'; or EVERYTHING.

    Returns:
      Two trees; `merge_frozen` joins them.

    Raises:
      InputError: there is nothing at a path, or the paths are those of all parameters.
    """
    if not frozen:
        return params, {}
    if EVERYTHING in frozen:
        return {}, params
    flat = traverse_util.flatten_dict(params, sep="/")
    for path in frozen:
        if not any(_is_within(name, path) for name in flat):
            top = dict.fromkeys(name.partition("/")[0] for name in flat)
            raise InputError(
                f"frozen: expected the path of a submodule or of a parameter, got {path!r}; use one"
                f" of {', '.join(top)} or a path within them"
            )
    parts: list[dict[str, Any]] = [{}, {}]
    for name, value in flat.items():
        parts[any(_is_within(name, path) for path in frozen)][name] = value
    if not parts[0]:
        raise InputError(
            f"frozen: expected parameters that remain to be trained, got {', '.join(frozen)}, which"
            " are all; freeze fewer"
        )
    trained, kept = (traverse_util.unflatten_dict(part, sep="/") for part in parts)
    return trained, kept


def merge_frozen(trained: Any, frozen: Any) -> Any:
    """Returns the whole tree of parameters from the two parts of `split_frozen`."""
    if not frozen:
        return trained
    if not trained:
        return frozen
    flat = {**traverse_util.flatten_dict(trained), **traverse_util.flatten_dict(frozen)}
    return traverse_util.unflatten_dict(flat)


@contextmanager
def inference_mode(frozen: Sequence[str]) -> Iterator[None]:
    """Runs frozen submodules with train=False: without dropout, with running statistics.

    It applies to the submodules at these paths whose `__call__` gets the keyword argument `train`.
    """

    def intercept(
        method: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        path = "/".join(context.module.path)
        if "train" in kwargs and (path in frozen or EVERYTHING in frozen):
            kwargs = {**kwargs, "train": False}
        return method(*args, **kwargs)

    with nn.intercept_methods(intercept):
        yield


def _is_within(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}/")
