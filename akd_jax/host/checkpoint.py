"""Checkpoints of a training stage, written and read with Orbax.

A checkpoint holds everything that a stage needs to resume: trees of arrays (the latest state
and the best variables) and a JSON record of the progress. Both are written in one atomic save,
so they always belong to the same update.

The training state is replicated: every device of every process has the same copy. Therefore
only the primary process writes checkpoints. It is also the only one that reads them; it
broadcasts the arrays to the other processes, which place them on their own devices. A
checkpoint does not depend on the number of devices or processes, so a run can resume on others.
"""

import contextlib
import errno
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from akd_jax.host import processes
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, absolute, delete_tree, is_remote, not_writable, reason
from akd_jax.host.strict_json import replace_nonfinite

_PROGRESS = "progress"
_TRASH = "trash"
# Free space for a checkpoint's metadata and for the records written before the next checkpoint.
_METADATA_BYTES = 500_000


class Checkpoints:
    """The checkpoints of one stage, with increasing numbers; the two newest are kept.

    All processes create this object and call its methods in the same order. Only the primary
    process accesses the directory. Saves run in the background, one at a time. Use the object
    as a context manager, or call `close`.

    Args:
      directory: folder of the checkpoints; created if it does not exist.
      read_only: whether the directory must stay as it is: nothing is created, saved or deleted.
    """

    def __init__(self, directory: Path, *, read_only: bool = False):
        self.directory = absolute(directory)
        self.read_only = read_only
        self._manager: ocp.CheckpointManager | None = None
        if not processes.is_primary():
            return
        if not read_only:
            self.directory.mkdir(parents=True, exist_ok=True)
        # Orbax deletes an old checkpoint file by file. A process killed meanwhile would leave an
        # incomplete checkpoint, so Orbax first moves the checkpoint into the trash folder. Remote
        # stores do without: they rename a folder by copying each file.
        retention: dict[str, Any] = {} if read_only else {"max_to_keep": 2}
        if retention and not is_remote(self.directory):
            retention["todelete_subdir"] = _TRASH
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                create=False,
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=0, active_processes={0}
                ),
                **retention,
            ),
        )

    def save(self, number: int, items: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        """Copies the arrays to the host and starts to write a checkpoint in the background.

        Keeps an existing checkpoint with the same number, because it has the same content.

        Args:
          number: of the checkpoint.
          items: name to a tree of arrays.
          progress: values that JSON can hold; numbers that are not finite are saved as null.

        Raises:
          InputError: this checkpoint or the previous one cannot be written.
        """
        if self._manager is None or number in self._manager.all_steps():
            return
        trees = jax.tree.map(_to_host, dict(items))
        self._check_free_space(sum(leaf.nbytes for leaf in jax.tree.leaves(trees)))
        record = replace_nonfinite(progress, self.directory / str(number))
        with self._catch_write_errors():
            self._manager.save(
                number,
                args=ocp.args.Composite(
                    **{name: ocp.args.StandardSave(tree) for name, tree in trees.items()},
                    **{_PROGRESS: ocp.args.JsonSave(record)},
                ),
            )

    def _check_free_space(self, size: int) -> None:
        """Checks that the local disk has space for a checkpoint with `size` bytes of arrays.

        On a full disk, each of Orbax's threads would print a traceback.

        Raises:
          InputError: it does not.
        """
        if isinstance(self.directory, pathlib.Path):
            free = shutil.disk_usage(self.directory).free
            needed = 1.1 * size + _METADATA_BYTES
            if free < needed:
                message = f"{free / 1e6:,.1f} MB free, but a checkpoint needs {needed / 1e6:,.1f}"
                raise not_writable(self.directory, OSError(errno.ENOSPC, message))

    def restore(self, items: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Restores the newest readable checkpoint, the same one in all processes.

        Moves newer unreadable checkpoints aside (unreadable_NUMBER), so that their numbers can
        be saved again.

        Args:
          items: name to a tree of arrays that gives the shapes, types and devices of the result;
            it may be a subset of the saved items. NumPy arrays are restored as NumPy arrays.

        Returns:
          The items and the progress; None if there is no checkpoint.

        Raises:
          InputError: there are checkpoints but none can be read, or the newest readable one has
            other shapes or types.
        """
        template = jax.tree.map(_host_template, dict(items))
        restored: dict[str, Any] = {}  # Stays empty in the other processes.

        def read() -> dict[str, Any] | None:
            newest = self._read_newest(template)
            if newest is None:
                return None
            restored.update(newest[0])
            return newest[1]

        progress = processes.on_primary(read)
        if progress is None:
            return None
        values = processes.broadcast(restored or template)
        return jax.tree.map(_to_device, dict(items), values), progress

    def _read_newest(self, template: dict[str, Any]) -> tuple[dict[str, Any], Any] | None:
        """Reads the newest readable checkpoint: its items as NumPy arrays, and its progress."""
        assert self._manager is not None, "expected the primary process"
        unreadable: list[int] = []
        for number in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self._manager.restore(
                    number,
                    args=ocp.args.Composite(
                        **{name: ocp.args.StandardRestore(tree) for name, tree in template.items()},
                        **{_PROGRESS: ocp.args.JsonRestore()},
                    ),
                )
            # Orbax and TensorStore raise many classes of errors for a damaged file.
            except Exception as error:
                logging.warning("%s/%s cannot be read: %s", self.directory, number, reason(error))
                unreadable.append(number)
            else:
                items = {name: restored[name] for name in template}
                self._check_shapes(number, template, items)
                self._set_aside(unreadable)
                return items, restored[_PROGRESS]
        if unreadable:
            raise InputError(
                f"{self.directory}: expected a readable checkpoint, got {len(unreadable)} that"
                " cannot be read; try again, or delete the folder to train this stage from its"
                " start"
            )
        return None

    def _check_shapes(self, number: int, template: Any, items: Any) -> None:
        """Checks the shapes and types of restored arrays, which Orbax does not check.

        Raises:
          InputError: an array differs from the template.
        """
        pairs = zip(jax.tree.leaves_with_path(template), jax.tree.leaves(items), strict=True)
        for (path, expected), got in pairs:
            if expected.shape != got.shape or expected.dtype != got.dtype:
                raise InputError(
                    f"{self.directory}/{number}: expected {jax.tree_util.keystr(path)} as"
                    f" {expected.dtype} {list(expected.shape)}, got {got.dtype}"
                    f" {list(got.shape)}, of another network; restore the original checkpoint"
                )

    def has_reached(self, number: int) -> bool:
        """Whether the newest checkpoint has this number or a higher one."""

        def reached() -> bool:
            assert self._manager is not None, "expected the primary process"
            return (self._manager.latest_step() or 0) >= number

        return processes.on_primary(reached)

    def _set_aside(self, numbers: Sequence[int]) -> None:
        """Renames unreadable checkpoints, so that their numbers can be saved again."""
        if numbers and not self.read_only and self._manager is not None:
            for number in numbers:
                aside = self.directory / f"unreadable_{number}"
                delete_tree(aside)
                (self.directory / str(number)).rename(aside)
            self._manager.reload()

    def close(self) -> None:
        """Waits until the last save is complete, and deletes old checkpoints.

        Raises:
          InputError: the save failed.
        """
        if self._manager is None:
            return
        with self._catch_write_errors():
            try:
                self._manager.wait_until_finished()
            finally:
                self._manager.close()
        if not self.read_only:
            delete_tree(self.directory / _TRASH)

    @contextlib.contextmanager
    def _catch_write_errors(self) -> Iterator[None]:
        """Converts errors of a write to InputError; the earlier checkpoints are kept."""
        try:
            yield
        # A full disk raises OSError, or ValueError in TensorStore.
        except (OSError, ValueError) as error:
            raise not_writable(self.directory, error) from None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_host(leaf: Any) -> np.ndarray:
    """Copies an array, or the data of a random key, to the host."""
    return np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _host_template(leaf: Any) -> np.ndarray:
    """Returns zeros with the shape and type of `_to_host(leaf)`."""
    array = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return np.zeros(array.shape, array.dtype)


def _to_device(leaf: Any, value: Any) -> Any:
    """Reverts `_to_host`: places a value as an array or random key on the devices of `leaf`."""
    if not isinstance(leaf, jax.Array):
        return value
    if _is_key(leaf):
        value = jax.random.wrap_key_data(value, impl=jax.random.key_impl(leaf))
    return jax.device_put(value, leaf.sharding, may_alias=False)
