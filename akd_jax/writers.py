"""What is written while a run goes on: JSON lines, TensorBoard, and the progress bar."""

import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import tqdm

from akd_jax import processes
from akd_jax.files import Path, not_writable, replace_text

METRICS = "metrics.jsonl"
_REFRESH_SECONDS = 0.1  # Of the progress bar.


class MetricWriter:
    """Appends records to `metrics.jsonl` and their numbers to TensorBoard's event files.

    Only in the primary process. A remote folder is written through copies on this machine,
    since its files can only be replaced.

    Args:
      folder: where both are written; made where it does not exist.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.path = folder / METRICS
        self._local = folder if isinstance(folder, pathlib.Path) else None
        self._purge_step = 0
        self._tensorboard: Any = None

    def rewind(self, step: int) -> None:
        """Drops what was written after update number `step`, to go on from there.

        A run that was killed has written records of epochs it must train again, and perhaps
        half a line.
        """
        self._purge_step = step + 1
        if not processes.is_primary() or not self.path.exists():
            return
        kept = [
            line
            for line in self.path.read_text().splitlines(keepends=True)
            if line.endswith("\n") and json.loads(line)["step"] <= step
        ]
        replace_text(self.path, "".join(kept))

    def write(self, record: dict[str, Any]) -> None:
        """Writes one record; it has a 'stage' and, counted over all stages, a 'step'.

        Raises:
          InputError: it cannot be written.
        """
        if not processes.is_primary():
            return
        try:
            self._write(record)
        except OSError as error:
            raise not_writable(self.folder, error) from None

    def _write(self, record: dict[str, Any]) -> None:
        local = self._local_folder()
        with (local / METRICS).open("a") as file:
            file.write(json.dumps(record) + "\n")
        # Imported late: it imports PyTorch where that is installed, for seconds.
        from tensorboardX import SummaryWriter
        from tensorboardX.proto.summary_pb2 import Summary

        if self._tensorboard is None:
            self._tensorboard = SummaryWriter(str(local), purge_step=self._purge_step)
        # One event for all: each one is pickled for a thread, which takes a core 0.1 ms.
        scalars = [
            Summary.Value(tag=f"{record['stage']}/{name}", simple_value=value)
            for name, value in record.items()
            if isinstance(value, float)
        ]
        self._tensorboard.file_writer.add_summary(Summary(value=scalars), record["step"])
        self._publish()

    def close(self) -> None:
        """Flushes the event files."""
        if self._tensorboard is not None:
            self._tensorboard.close()
            self._publish()
            self._tensorboard = None

    def _local_folder(self) -> pathlib.Path:
        """Where the files are written."""
        if self._local is None:
            self._local = pathlib.Path(tempfile.mkdtemp(prefix="akd_jax_"))
            if self.path.exists():
                (self._local / METRICS).write_text(self.path.read_text())
        self._local.mkdir(parents=True, exist_ok=True)
        return self._local

    def _publish(self) -> None:
        """Copies the files to where they belong, where that is not here."""
        local = self._local_folder()
        if local != self.folder:
            if self._tensorboard is not None:
                self._tensorboard.flush()
            for path in local.iterdir():
                (self.folder / path.name).write_bytes(path.read_bytes())


class ProgressBar:
    """A line on the terminal that shows how a stage goes; silent where there is no terminal.

    Args:
      label: what is trained.
      total: examples of the whole stage.
      done: examples of it that were seen in an earlier process.
    """

    def __init__(self, label: str, *, total: int, done: int = 0):
        self._next = 0.0
        self._bar = tqdm.tqdm(
            desc=label,
            total=total,
            initial=done,
            disable=not (processes.is_primary() and sys.stderr.isatty()),
            dynamic_ncols=True,
            postfix=[""],
            bar_format="{desc} {percentage:3.0f}%|{bar:10}| {postfix[0]} {remaining}",
        )

    def update(self, examples: int, text: Callable[[], str], *, final: bool = False) -> None:
        """Moves on by a number of examples; shows a text, and the examples per second, a few
        times a second and at the `final` call of an epoch.
        """
        if self._bar.disable:
            return
        now = time.monotonic()
        if final or now >= self._next:
            self._next = now + _REFRESH_SECONDS
            rate = self._bar.format_dict["rate"]
            self._bar.postfix = [f"{text()} {rate:,.0f} examples/s" if rate else text()]
        self._bar.update(examples)

    def close(self) -> None:
        """Leaves the line as it stands."""
        self._bar.close()
