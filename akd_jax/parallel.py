"""Devices: the only file that says pmap.

State and teachers are replicated, a batch is cut into equal shares, one for each device of
all processes. Each process places what its own devices need; the steps add over all of them.
"""

import collections
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from akd_jax.errors import InputError
from akd_jax.types import PackedMetrics

AXIS = "device"  # The axis that the steps add over.

# Programs dispatched ahead of the devices. Unbounded, collectives in flight can deadlock a
# machine with fewer cores than (virtual) devices.
_IN_FLIGHT = 8


class CompiledStep:
    """A step compiled for all devices, which counts how often it was traced.

    Args:
      step: a function with a keyword `axis_name`, which is None where a device is alone. Then
        the step is compiled by itself, without pmap.
      arguments: how many the step has.
      sharded: positions of the arguments that `shard` has cut; the others are replicated.
      donated: positions of the arguments whose memory the results may take over. They
        must not be used again.
      gathered: whether each device returns its share of the result, [devices, ...] of those of
        this process, rather than all of them the same one. Of a device that is alone [...].
    """

    def __init__(
        self,
        step: Callable[..., Any],
        *,
        arguments: int,
        sharded: tuple[int, ...],
        donated: tuple[int, ...] = (),
        gathered: bool = False,
    ):
        self.traces = 0

        @functools.wraps(step)
        def counted(*args: Any, axis_name: str | None = AXIS) -> Any:
            self.traces += 1
            return step(*args, axis_name=axis_name)

        if _single_device():
            # pmap takes the host twice as long to call.
            alone = functools.wraps(step)(functools.partial(counted, axis_name=None))
            self._call = jax.jit(alone, donate_argnums=donated)
        else:
            self._call = jax.pmap(
                counted,
                axis_name=AXIS,
                in_axes=tuple(0 if i in sharded else None for i in range(arguments)),
                out_axes=0 if gathered else None,
                donate_argnums=donated,
            )

    def __call__(self, *args: Any) -> Any:
        """Runs the step on all devices; returns before they are done."""
        return self._call(*args)

    def program(self, *args: Any) -> Any:
        """The compiled program of a step on such arguments, to be looked at."""
        return self._call.lower(*args).compile()

    def memory(self, *args: Any) -> int:
        """Bytes that a step on such arguments takes on each device, themselves counted in."""
        found = self.program(*args).memory_analysis()
        held = found.argument_size_in_bytes + found.output_size_in_bytes
        return int(held + found.temp_size_in_bytes - found.alias_size_in_bytes)


def compile_train_step(train_step: Callable[..., Any]) -> CompiledStep:
    """Compiles `train_step(state, teachers, batch, temperature_step)`; the state is donated, and
    the metrics come back as `PackedMetrics`.
    """

    @functools.wraps(train_step)
    def packed(*args: Any, axis_name: str | None) -> tuple[Any, PackedMetrics]:
        state, metrics = train_step(*args, axis_name=axis_name)
        return state, PackedMetrics.of(metrics)

    return CompiledStep(packed, arguments=4, sharded=(2,), donated=(0,))


def compile_predict_step(predict_step: Callable[..., Any]) -> CompiledStep:
    """Compiles `predict_step(model, batch)`, whose result is [devices, B / devices, ...]; on a
    device that is alone [B, ...].
    """
    return CompiledStep(predict_step, arguments=2, sharded=(1,), gathered=True)


def replicate(tree: Any) -> Any:
    """Copies a tree of arrays to every device of this process.

    Placed as the compiled step returns it, so that the first call and the second are the
    same program. Never the same memory: the step that the copy is donated to would take the
    original with it.
    """
    return jax.device_put(tree, _replicated(), may_alias=False)


def replicate_read_only(tree: Any) -> Any:
    """As `replicate`, of what is only read: what is on all devices already is not copied."""
    return jax.device_put(tree, _replicated())


@jax.jit
def copy_on_device(tree: Any) -> Any:
    """A copy, where the arrays are; not waited for."""
    return jax.tree.map(jnp.copy, tree)


class DispatchQueue:
    """Programs that were dispatched ahead of the devices, whose results are looked at later, in
    the same order.
    """

    def __init__(self) -> None:
        self._callbacks: collections.deque[Callable[[], None]] = collections.deque()

    def add(self, callback: Callable[[], None]) -> None:
        """Notes how to look at what a program returns; looks at the oldest of too many."""
        self._callbacks.append(callback)
        if len(self._callbacks) > _IN_FLIGHT:
            self.run_oldest()

    def run_oldest(self) -> None:
        """Looks at the oldest."""
        self._callbacks.popleft()()

    def drain(self) -> None:
        """Looks at all of them."""
        while self._callbacks:
            self.run_oldest()


def _single_device() -> bool:
    """Whether one device is all there is."""
    return jax.device_count() == 1


def _replicated() -> NamedSharding:
    return NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), PartitionSpec())


def shard(batch: Any) -> Any:
    """Cuts this process's rows of a batch for its devices: each array [B / processes, ...]
    becomes [devices, B / all devices, ...]. A device that is alone takes the batch as it is.
    """
    if _single_device():
        return batch
    count = jax.local_device_count()
    return jax.tree.map(lambda x: x.reshape((count, x.shape[0] // count, *x.shape[1:])), batch)


def shard_steps(batches: Any) -> Any:
    """As `shard`, of K batches [K, B / processes, ...] for a program of K updates:
    [devices, K, B / all devices, ...].
    """
    if _single_device():
        return batches
    count = jax.local_device_count()

    def cut(x: Any) -> Any:
        steps, rows = x.shape[:2]
        return x.reshape((steps, count, rows // count, *x.shape[2:])).swapaxes(0, 1)

    return jax.tree.map(cut, batches)


def check_batch_size(batch_size: int, grad_accumulation_steps: int = 1) -> None:
    """Raises InputError unless the devices of all processes, and the parts of each one's share,
    divide the batch.

    Not left to pmap, which says something of a squeeze or runs on fewer devices.
    """
    devices = jax.device_count()
    count = devices * grad_accumulation_steps
    if batch_size % count:
        below, above = batch_size // count * count, (batch_size // count + 1) * count
        choice = f"{below} or {above}" if below else f"{above}"
        parts = "" if grad_accumulation_steps == 1 else f" x {grad_accumulation_steps} parts"
        raise InputError(
            f"config.batch_size: expected a multiple of the {devices} devices{parts}, got"
            f" {batch_size}; take {choice}"
        )


def describe() -> dict[str, Any]:
    """Kind and number of the devices, for a run's records."""
    return {
        "kind": jax.devices()[0].device_kind,
        "count": jax.device_count(),
        "processes": jax.process_count(),
    }
