"""Data parallelism over devices; the only module that calls `jax.pmap`.

The training state and the teachers are replicated: every device has the same copy. A batch is
sharded: it is cut into equal parts, one for each device of all processes. Each process places
only the copies and parts of its own devices. The steps sum losses and gradients over all
devices (`jax.lax.psum`), so every copy of the state receives the same update.

With a single device, `jax.jit` replaces `jax.pmap`, and arrays have no leading device axis.
"""

import collections
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from akd_jax.host.errors import InputError
from akd_jax.types import Metrics, WeightedSum

AXIS = "device"  # Name of the pmap axis, over which the steps sum.

# The maximum number of programs that wait for the devices. Without a limit, their collectives
# can deadlock on a machine with fewer CPU cores than (virtual) devices.
_MAX_IN_FLIGHT = 8


class PackedMetrics(struct.PyTreeNode):
    """The metrics of one or several steps in one array, so that the host fetches them at once.

    Attributes:
      sums: total and weight of each metric, float32 [metrics, 2]; [K, metrics, 2] for K steps.
      names: names of the metrics.
    """

    sums: jax.Array
    names: tuple[str, ...] = struct.field(pytree_node=False)

    @classmethod
    def of(cls, metrics: Metrics) -> "PackedMetrics":
        """Packs metrics on the device."""
        rows = [
            jnp.stack([jnp.float32(x.total), jnp.float32(x.weight)], axis=-1)
            for x in metrics.values()
        ]
        return cls(jnp.stack(rows, axis=-2) if rows else jnp.zeros((0, 2)), tuple(metrics))

    def fetch(self) -> list[Metrics]:
        """Waits for the steps and returns the metrics of each step on the host."""
        sums = np.asarray(self.sums).reshape(-1, len(self.names), 2)
        return [
            {name: WeightedSum(*row) for name, row in zip(self.names, step, strict=True)}
            for step in sums
        ]


class CompiledStep:
    """A step function compiled for all devices.

    Args:
      step: the function, with a keyword argument `axis_name`: the name of the pmap axis, or
        None with a single device.
      arguments: the number of positional arguments of the step.
      sharded: positions of the arguments that come from `shard`; the others are replicated.
      donated: positions of the arguments whose memory the results may reuse. The caller must
        not use these arguments again.
      gathered: whether the result differs between devices. If so, it has a leading axis with
        an entry for each device of this process; otherwise it is the same on all devices.

    Attributes:
      traces: how often JAX has traced the step; each trace is a compilation.
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
            # A call of a pmap program takes the host twice as long as one of a jit program.
            single = functools.wraps(step)(functools.partial(counted, axis_name=None))
            self._call = jax.jit(single, donate_argnums=donated)
        else:
            self._call = jax.pmap(
                counted,
                axis_name=AXIS,
                in_axes=tuple(0 if i in sharded else None for i in range(arguments)),
                out_axes=0 if gathered else None,
                donate_argnums=donated,
            )

    def __call__(self, *args: Any) -> Any:
        """Dispatches the step to all devices; returns before they have finished."""
        return self._call(*args)

    def program(self, *args: Any) -> Any:
        """Returns the compiled program for arguments of these shapes, for inspection."""
        return self._call.lower(*args).compile()

    def memory(self, *args: Any) -> int:
        """Returns the bytes that the step needs on each device, including these arguments."""
        sizes = self.program(*args).memory_analysis()
        total = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
        return int(total - sizes.alias_size_in_bytes)  # Outputs that reuse donated arguments.


def compile_train_step(train_step: Callable[..., Any]) -> CompiledStep:
    """Compiles `train_step(state, teachers, batch, temperature_step)` for all devices.

    Returns:
      A step that donates the state and returns the metrics as `PackedMetrics`.
    """

    @functools.wraps(train_step)
    def packed(*args: Any, axis_name: str | None) -> tuple[Any, PackedMetrics]:
        state, metrics = train_step(*args, axis_name=axis_name)
        return state, PackedMetrics.of(metrics)

    return CompiledStep(packed, arguments=4, sharded=(2,), donated=(0,))


def compile_predict_step(predict_step: Callable[..., Any]) -> CompiledStep:
    """Compiles `predict_step(model, batch)` for all devices.

    Returns:
      A step with results [devices, B / devices, ...], or [B, ...] with a single device, where
      `devices` and B are those of this process.
    """
    return CompiledStep(predict_step, arguments=2, sharded=(1,), gathered=True)


def replicate(tree: Any) -> Any:
    """Copies a tree of arrays to every device of this process.

    The copies have the sharding of a compiled step's results, so that the first call of a step
    and later calls use the same program. They never share memory with the originals: a step
    that donates a copy must not destroy the original.
    """
    # Copied first, because `device_put` shares the memory of the first device despite may_alias.
    own = jax.tree.map(
        lambda x: jax.device_put(x, x.sharding, may_alias=False) if isinstance(x, jax.Array) else x,
        tree,
    )
    return jax.device_put(own, _replicated(), may_alias=False)


def replicate_read_only(tree: Any) -> Any:
    """Like `replicate`, for read-only values: arrays already on every device are not copied."""
    return jax.device_put(tree, _replicated())


class DispatchQueue:
    """Callbacks for the results of dispatched programs, run later in the same order.

    A callback that reads a result waits for its program. Reading results late lets the host
    dispatch the next programs while the devices still compute.
    """

    def __init__(self) -> None:
        self._callbacks: collections.deque[Callable[[], None]] = collections.deque()

    def add(self, callback: Callable[[], None]) -> None:
        """Queues a callback for a program's results; runs the oldest one if the queue is full."""
        self._callbacks.append(callback)
        if len(self._callbacks) > _MAX_IN_FLIGHT:
            self.run_oldest()

    def run_oldest(self) -> None:
        """Runs the oldest callback."""
        self._callbacks.popleft()()

    def drain(self) -> None:
        """Runs all callbacks."""
        while self._callbacks:
            self.run_oldest()


def _single_device() -> bool:
    """Whether all processes together have one device."""
    return jax.device_count() == 1


def _replicated() -> NamedSharding:
    """Returns the sharding that puts a full copy on each device of this process."""
    return NamedSharding(Mesh(np.array(jax.local_devices()), (AXIS,)), PartitionSpec())


def shard(batch: Any) -> Any:
    """Cuts this process's part of a batch into one part per device.

    Args:
      batch: a tree of arrays [B / P, ...], where P is the number of processes.

    Returns:
      A tree of arrays [devices of this process, B / all devices, ...]; `batch` itself with a
      single device.
    """
    if _single_device():
        return batch
    count = jax.local_device_count()
    return jax.tree.map(lambda x: x.reshape((count, x.shape[0] // count, *x.shape[1:])), batch)


def merge_shards(array: jax.Array) -> np.ndarray:
    """Returns the result of a prediction step on the host, [B / P, ...], as before `shard`."""
    rows = np.asarray(array)
    if _single_device():
        return rows
    devices, count, *shape = rows.shape
    return rows.reshape(devices * count, *shape)  # Not -1, which an array of size 0 does not allow.


def shard_steps(batches: Any) -> Any:
    """Like `shard`, for the K batches of a program that does K updates.

    Args:
      batches: a tree of arrays [K, B / P, ...], where P is the number of processes.

    Returns:
      A tree of arrays [devices of this process, K, B / all devices, ...]; `batches` itself with
      a single device.
    """
    if _single_device():
        return batches
    count = jax.local_device_count()

    def cut(x: Any) -> Any:
        steps, rows = x.shape[:2]
        return x.reshape((steps, count, rows // count, *x.shape[2:])).swapaxes(0, 1)

    return jax.tree.map(cut, batches)


def check_batch_size(batch_size: int, grad_accumulation_steps: int = 1) -> None:
    """Checks that a batch can be cut into equal parts.

    Checked here because pmap would raise an error about axis sizes, or use fewer devices.

    Args:
      batch_size: of all processes together.
      grad_accumulation_steps: the parts into which each device cuts its examples.

    Raises:
      InputError: the batch size is not a multiple of the number of parts.
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
