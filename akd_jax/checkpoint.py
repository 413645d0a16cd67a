"""Checkpoints: the only import of Orbax.

One checkpoint holds everything a stage needs to go on, in one atomic save: items (trees of
arrays, such as the latest state and the best variables) and a JSON record of the progress.
Kept in one save, the latest and the best cannot come from different moments.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from akd_jax.errors import InputError

_PROGRESS = "progress"
_TRASH = "trash"


class Checkpoints:
    """The checkpoints of one stage, numbered as it goes on; the last two are kept.

    Saves run in the background, one at a time. Use as a context manager, or call `close`.

    Args:
      directory: made where it does not exist.
      read_only: nothing is made, saved or deleted.
    """

    def __init__(self, directory: Path, *, read_only: bool = False):
        self.directory = directory.absolute()
        self.read_only = read_only
        # Orbax deletes old checkpoints file by file: killed meanwhile, it would leave half a
        # one under its number. Renamed into the trash first, none is ever seen half deleted.
        self._manager = ocp.CheckpointManager(
            self.directory,
            options=ocp.CheckpointManagerOptions(create=False)  # Its read_only only warns.
            if read_only
            else ocp.CheckpointManagerOptions(max_to_keep=2, todelete_subdir=_TRASH),
        )

    def save(self, number: int, items: Mapping[str, Any], progress: Mapping[str, Any]) -> None:
        """Starts to save trees of arrays by name, and a record that JSON can hold.

        A checkpoint that is there under the same number stays: it is the same.
        """
        if number in self._manager.all_steps():
            return
        self._manager.save(
            number,
            args=ocp.args.Composite(
                **{name: ocp.args.StandardSave(tree) for name, tree in items.items()},
                **{_PROGRESS: ocp.args.JsonSave(dict(progress))},
            ),
        )

    def restore(self, items: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Reads the newest checkpoint that can be read.

        Args:
          items: name to a tree of arrays with the shapes, types and devices to restore to;
            a subset of what was saved is enough.

        Returns:
          The items and the progress; None where nothing was saved yet.

        Raises:
          InputError: there are checkpoints, and none can be read.
        """
        unreadable: list[int] = []
        for number in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored = self._manager.restore(
                    number,
                    args=ocp.args.Composite(
                        **{
                            name: ocp.args.StandardRestore(jax.tree.map(_abstract, tree))
                            for name, tree in items.items()
                        },
                        **{_PROGRESS: ocp.args.JsonRestore()},
                    ),
                )
            # Orbax and TensorStore raise errors of many kinds for a damaged file.
            except Exception as error:
                reason = str(error).split("\n")[0]
                logging.warning("%s/%s cannot be read: %s", self.directory, number, reason)
                unreadable.append(number)
            else:
                self._set_aside(unreadable)
                return {name: restored[name] for name in items}, restored[_PROGRESS]
        if unreadable:
            raise InputError(
                f"{self.directory}: expected a checkpoint that can be read, got {len(unreadable)}"
                " that cannot; try again, or delete the folder to train this stage anew"
            )
        return None

    def latest(self) -> int:
        """The number of the newest checkpoint; 0 where there is none."""
        return self._manager.latest_step() or 0

    def _set_aside(self, numbers: Sequence[int]) -> None:
        """Renames checkpoints that cannot be read, out of the way of their next save."""
        if numbers and not self.read_only:
            for number in numbers:
                aside = self.directory / f"unreadable_{number}"
                shutil.rmtree(aside, ignore_errors=True)
                (self.directory / str(number)).rename(aside)
            self._manager.reload()

    def close(self) -> None:
        """Waits for the save in progress and empties the trash."""
        self._manager.wait_until_finished()
        self._manager.close()
        if not self.read_only:
            shutil.rmtree(self.directory / _TRASH, ignore_errors=True)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _abstract(leaf: Any) -> Any:
    """NumPy leaves are restored as NumPy's, JAX's onto the devices they are on now."""
    return leaf if isinstance(leaf, np.ndarray) else ocp.utils.to_shape_dtype_struct(leaf)
