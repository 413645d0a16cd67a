"""Output of a run in progress: metrics as JSON lines and TensorBoard events, and a progress bar."""

import importlib.util
import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, Literal

import tqdm

from akd_jax.host import processes
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, not_writable, reason, replace_text, temporary_folder
from akd_jax.host.strict_json import replace_nonfinite

METRICS = "metrics.jsonl"
Output = Literal["text", "quiet", "json"]
_REFRESH_SECONDS = 0.1  # Between two changes of the progress bar's text.


class Terminal:
    """The output of a process in the terminal.

    Attributes:
      output: 'text', bars and tables; 'quiet', only errors and warnings; or 'json', the records of
        the epochs as JSON lines on standard output.
    """

    output: Output = "text"


terminal = Terminal()


class MetricWriter:
    """Appends records to `metrics.jsonl`, and their numbers to TensorBoard's event files.

    Only the primary process writes. There are no event files if tensorboardX, which the extra
    `reports` installs, is missing. For a remote folder, the files are written to a local
    temporary folder and copied after each record, because remote files can only be replaced.

    Args:
      folder: for both kinds of files; created if it does not exist.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.path = folder / METRICS
        self._local = folder if isinstance(folder, pathlib.Path) else None
        self._purge_step = 0
        self._tensorboard: Any = None

    def rewind(self, step: int) -> None:
        """Removes the records after update number `step`, where training resumes.

        A killed run has written records of epochs that it must repeat, and its last line may be
        incomplete.

        Raises:
          InputError: the file has other lines than records, or it cannot be written.
        """
        self._purge_step = step + 1
        if not processes.is_primary() or not self.path.exists():
            return
        try:
            kept = [
                line
                for line in self.path.read_text().splitlines(keepends=True)
                if line.endswith("\n") and json.loads(line)["step"] <= step
            ]
            replace_text(self.path, "".join(kept))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{self.path}: expected a JSON object with a step in each line, got:"
                f" {reason(error)}; restore or delete the file"
            ) from None
        except OSError as error:
            raise not_writable(self.folder, error) from None

    def write(self, record: dict[str, Any]) -> None:
        """Writes one record.

        A number that is not finite is written as null, with a warning; TensorBoard does not
        receive it.

        Args:
          record: has a 'stage', and a 'step' that counts the updates of all stages.

        Raises:
          InputError: the record cannot be written.
        """
        if not processes.is_primary():
            return
        try:
            self._write(replace_nonfinite(record, self.path))
        except OSError as error:
            raise not_writable(self.folder, error) from None

    def _write(self, record: dict[str, Any]) -> None:
        local = self._local_folder()
        with (local / METRICS).open("a") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")
        if importlib.util.find_spec("tensorboardX") is not None:
            self._write_event(record, local)
        self._publish()
        if terminal.output == "json":
            print(json.dumps({"run": str(self.folder), **record}, allow_nan=False), flush=True)

    def _write_event(self, record: dict[str, Any], local: pathlib.Path) -> None:
        """Writes the numbers of a record to the event file."""
        # Imported here because tensorboardX imports PyTorch if it is installed: seconds.
        from tensorboardX import SummaryWriter
        from tensorboardX.proto.summary_pb2 import Summary

        if self._tensorboard is None:
            self._tensorboard = SummaryWriter(str(local), purge_step=self._purge_step)
        # One event for all numbers: the writer pickles each event for a thread, in 0.1 ms.
        scalars = [
            Summary.Value(tag=f"{record['stage']}/{name}", simple_value=value)
            for name, value in record.items()
            if isinstance(value, float)
        ]
        self._tensorboard.file_writer.add_summary(Summary(value=scalars), record["step"])

    def close(self) -> None:
        """Flushes and closes the event files."""
        if self._tensorboard is not None:
            self._tensorboard.close()
            self._publish()
            self._tensorboard = None

    def _local_folder(self) -> pathlib.Path:
        """Returns the local folder that the files are written to; creates it."""
        if self._local is None:
            self._local = temporary_folder()
            if self.path.exists():
                (self._local / METRICS).write_text(self.path.read_text())
        self._local.mkdir(parents=True, exist_ok=True)
        return self._local

    def _publish(self) -> None:
        """Copies the files to the remote folder, if the folder is remote."""
        local = self._local_folder()
        if local != self.folder:
            if self._tensorboard is not None:
                self._tensorboard.flush()
            for path in local.iterdir():
                (self.folder / path.name).write_bytes(path.read_bytes())


class ProgressBar:
    """The progress of a stage in one terminal line; silent if standard error is not a terminal.

    Args:
      label: the name of what is trained.
      total: the number of examples of the whole stage.
      done: the number of those that earlier processes have trained on.
    """

    def __init__(self, label: str, *, total: int, done: int = 0):
        self._next_refresh = 0.0
        self._bar = tqdm.tqdm(
            desc=label,
            total=total,
            initial=done,
            disable=not (
                processes.is_primary() and sys.stderr.isatty() and terminal.output == "text"
            ),
            dynamic_ncols=True,
            postfix=[""],
            bar_format="{desc} {percentage:3.0f}%|{bar:10}| {postfix[0]} {remaining}",
        )

    def update(self, examples: int, text: Callable[[], str], *, final: bool = False) -> None:
        """Advances the bar.

        Args:
          examples: the number of examples since the last call.
          text: returns the text to show; called a few times a second at most.
          final: whether this is the last call of an epoch, whose text is always shown.
        """
        if self._bar.disable:
            return
        now = time.monotonic()
        if final or now >= self._next_refresh:
            self._next_refresh = now + _REFRESH_SECONDS
            rate = self._bar.format_dict["rate"]
            self._bar.postfix = [f"{text()} {rate:,.0f} examples/s" if rate else text()]
        self._bar.update(examples)

    def close(self) -> None:
        """Stops updating the line, which stays on the terminal."""
        self._bar.close()
