"""Checkpoints: the only import of Orbax.

One checkpoint holds everything a stage needs to go on, in one atomic save: items (trees of
arrays, such as the latest state and the best variables) and a JSON record of the progress.
Kept in one save, the latest and the best cannot come from different moments.

What is trained is the same on all devices of all processes, so that the primary process
alone saves it, and what it restores is sent to the others. A run can go on with another
number of devices or processes.
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

from akd_jax import processes, records
from akd_jax.errors import InputError
from akd_jax.files import Path, absolute, delete_tree, is_remote, not_writable, reason

_PROGRESS = "progress"
_TRASH = "trash"
_METADATA = 500_000  # Bytes of a checkpoint beside its arrays, and of records until the next one.


class Checkpoints:
    """The checkpoints of one stage, numbered as it goes on; the last two are kept.

    Saves run in the background, one at a time. Use as a context manager, or call `close`.

    Args:
      directory: made where it does not exist.
      read_only: nothing is made, saved or deleted.
    """

    def __init__(self, directory: Path, *, read_only: bool = False):
        self.directory = absolute(directory)
        self.read_only = read_only
        self._manager: ocp.CheckpointManager | None = None
        if not processes.is_primary():
            return
        if not read_only:
            self.directory.mkdir(parents=True, exist_ok=True)
        # Orbax deletes old checkpoints file by file: killed meanwhile, it would leave half a
        # one under its number. Renamed into the trash first, none is ever seen half deleted.
        keep: dict[str, Any] = {} if read_only else {"max_to_keep": 2}
        if keep and not is_remote(self.directory):  # There a renaming copies each file.
            keep["todelete_subdir"] = _TRASH
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(
                create=False,
                multiprocessing_options=ocp.options.MultiprocessingOptions(
                    primary_host=0, active_processes={0}
                ),
                **keep,
            ),
        )

    def save(self, number: int, items: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        """Starts to save trees of arrays by name, and a record that JSON can hold.

        A checkpoint that is there under the same number stays: it is the same.

        Raises:
          InputError: this one, or the one before, cannot be written.
        """
        if self._manager is None or number in self._manager.all_steps():
            return
        trees = jax.tree.map(_to_host, dict(items))
        self._check_room(sum(leaf.nbytes for leaf in jax.tree.leaves(trees)))
        finite = records.replace_nonfinite(progress, self.directory / str(number))
        with self._writing():
            self._manager.save(
                number,
                args=ocp.args.Composite(
                    **{name: ocp.args.StandardSave(tree) for name, tree in trees.items()},
                    **{_PROGRESS: ocp.args.JsonSave(finite)},
                ),
            )

    def _check_room(self, size: int) -> None:
        """Raises InputError where the disk has no room for a checkpoint of so many bytes.

        Not left to Orbax: on a full disk each of its threads prints a traceback of its own.
        """
        if isinstance(self.directory, pathlib.Path):
            free = shutil.disk_usage(self.directory).free
            needed = 1.1 * size + _METADATA
            if free < needed:
                said = f"{free / 1e6:,.1f} MB free where a checkpoint needs {needed / 1e6:,.1f}"
                raise not_writable(self.directory, OSError(errno.ENOSPC, said))

    def restore(self, items: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Reads the newest checkpoint that can be read, in all processes the same one.

        Args:
          items: name to a tree of arrays with the shapes, types and devices to restore to;
            a subset of what was saved is enough. Leaves that are NumPy's are restored as such.

        Returns:
          The items and the progress; None where nothing was saved yet.

        Raises:
          InputError: there are checkpoints, and none can be read.
        """
        template = jax.tree.map(_blank, dict(items))
        found: dict[str, Any] = {}

        def read() -> dict[str, Any] | None:
            newest = self._read_newest(template)
            if newest is None:
                return None
            found.update(newest[0])
            return newest[1]

        progress = processes.on_primary(read)
        if progress is None:
            return None
        values = processes.broadcast(found or template)
        return jax.tree.map(_like, dict(items), values), progress

    def _read_newest(self, template: dict[str, Any]) -> tuple[dict[str, Any], Any] | None:
        """The newest checkpoint that can be read, as NumPy arrays, and its progress."""
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
            # Orbax and TensorStore raise errors of many kinds for a damaged file.
            except Exception as error:
                logging.warning("%s/%s cannot be read: %s", self.directory, number, reason(error))
                unreadable.append(number)
            else:
                found = {name: restored[name] for name in template}
                self._check_shapes(number, template, found)
                self._set_aside(unreadable)
                return found, restored[_PROGRESS]
        if unreadable:
            raise InputError(
                f"{self.directory}: expected a checkpoint that can be read, got {len(unreadable)}"
                " that cannot; try again, or delete the folder to train this stage anew"
            )
        return None

    def _check_shapes(self, number: int, template: Any, found: Any) -> None:
        """Raises InputError where arrays are others than asked for, which Orbax passes over."""
        pairs = zip(jax.tree.leaves_with_path(template), jax.tree.leaves(found), strict=True)
        for (path, wanted), got in pairs:
            if wanted.shape != got.shape or wanted.dtype != got.dtype:
                raise InputError(
                    f"{self.directory}/{number}: expected {jax.tree_util.keystr(path)} as"
                    f" {wanted.dtype} {list(wanted.shape)}, got {got.dtype} {list(got.shape)}; it"
                    " is the checkpoint of another network: put back the one that belongs here"
                )

    def has_reached(self, number: int) -> bool:
        """Whether the newest checkpoint has this number, or a higher one."""

        def look() -> bool:
            assert self._manager is not None, "expected the primary process"
            return (self._manager.latest_step() or 0) >= number

        return processes.on_primary(look)

    def _set_aside(self, numbers: Sequence[int]) -> None:
        """Renames checkpoints that cannot be read, out of the way of their next save."""
        if numbers and not self.read_only and self._manager is not None:
            for number in numbers:
                aside = self.directory / f"unreadable_{number}"
                delete_tree(aside)
                (self.directory / str(number)).rename(aside)
            self._manager.reload()

    def close(self) -> None:
        """Waits for the save in progress and empties the trash.

        Raises:
          InputError: the save failed.
        """
        if self._manager is None:
            return
        with self._writing():
            try:
                self._manager.wait_until_finished()
            finally:
                self._manager.close()
        if not self.read_only:
            delete_tree(self.directory / _TRASH)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Raises InputError where a checkpoint cannot be written; those before it are kept."""
        try:
            yield
        # A full disk is an OSError, or a ValueError of TensorStore's.
        except (OSError, ValueError) as error:
            raise not_writable(self.directory, error) from None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_host(leaf: Any) -> np.ndarray:
    """A copy of an array, or of a key's data, on the host."""
    return np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _blank(leaf: Any) -> np.ndarray:
    """An array of the shape and type that `_to_host` gives."""
    found = jax.eval_shape(jax.random.key_data, leaf) if _is_key(leaf) else leaf
    return np.zeros(found.shape, found.dtype)


def _like(leaf: Any, value: Any) -> Any:
    """What `_to_host` copied, as an array or key on the devices where `leaf` is."""
    if not isinstance(leaf, jax.Array):
        return value
    if _is_key(leaf):
        value = jax.random.wrap_key_data(value, impl=jax.random.key_impl(leaf))
    return jax.device_put(value, leaf.sharding, may_alias=False)
