import io
import json
import math
import struct
import subprocess
import sys
import time

import pytest
from tensorboardX.proto.event_pb2 import Event

from akd_jax.host.errors import InputError
from akd_jax.host.writers import MetricWriter, ProgressBar
from tests.support.launching import GUARD_SECONDS, ROOT


def make_record(step):
    return {"stage": "stage_1", "step": step, "train_loss": 1.0 / step}


def read_steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def read_scalars(folder):
    """Reads the numbers in an event file: (tag, step) to value.

    An event is stored as its length (8 bytes), a checksum (4), the event, a checksum (4).
    """
    (path,) = folder.glob("events.*")
    data, scalars = path.read_bytes(), {}
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]
        scalars |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
    return scalars


def test_records_are_appended_and_sent_to_tensorboard(tmp_path):
    writer = MetricWriter(tmp_path / "new")
    for step in (1, 2):
        writer.write(make_record(step))
    writer.close()
    assert read_steps(writer.path) == [1, 2]
    assert read_scalars(writer.folder) == {
        ("stage_1/train_loss", 1): 1.0,
        ("stage_1/train_loss", 2): 0.5,
    }


def test_rewind_drops_later_records_and_an_incomplete_line(tmp_path):
    writer = MetricWriter(tmp_path)
    for step in (1, 2, 3):
        writer.write(make_record(step))
    writer.close()
    with writer.path.open("a") as file:
        file.write('{"stage": "sta')  # The process was killed while it wrote.
    resumed = MetricWriter(tmp_path)
    resumed.rewind(2)
    resumed.write(make_record(3))
    resumed.close()
    assert read_steps(resumed.path) == [1, 2, 3]


@pytest.mark.parametrize("line", ["step 1", '{"epoch": 1}', "[1]"])
def test_rewind_of_other_lines_is_refused(tmp_path, line):
    writer = MetricWriter(tmp_path)
    writer.path.write_text(f"{line}\n")
    with pytest.raises(InputError, match="expected a JSON object with a step in each line, got:"):
        writer.rewind(2)
    assert writer.path.read_text() == f"{line}\n"


def test_nonfinite_numbers_are_written_as_null_and_not_sent_to_tensorboard(tmp_path, caplog):
    writer = MetricWriter(tmp_path)
    writer.write({**make_record(1), "validation_pearson": math.nan})
    writer.close()
    (line,) = writer.path.read_text().splitlines()
    assert json.loads(line) == {**make_record(1), "validation_pearson": None}
    assert read_scalars(tmp_path) == {("stage_1/train_loss", 1): 1.0}
    (warning,) = caplog.messages
    assert "expected finite numbers, got NaN or infinity in validation_pearson" in warning

    resumed = MetricWriter(tmp_path)
    resumed.rewind(1)
    assert resumed.path.read_text() == line + "\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal(), True), (io.StringIO(), False)])
def test_progress_bar_is_shown_only_on_a_terminal(monkeypatch, stream, shown):
    monkeypatch.setattr(sys, "stderr", stream)
    bar = ProgressBar("annealing_kd stage_1", total=10)
    for _ in range(2):
        time.sleep(0.2)  # tqdm draws, and measures the rate, at most ten times a second.
        bar.update(3, lambda: "epoch 1/2 Phi 0.10 loss 0.5")
    bar.update(4, lambda: "epoch 2/2 Phi 0.20 loss 0.4", final=True)
    bar.close()
    text = stream.getvalue()
    if shown:
        for part in ("annealing_kd stage_1", "epoch 2/2 Phi 0.20 loss 0.4", "examples/s"):
            assert part in text
    else:
        assert text == ""


def test_without_tensorboardx_only_json_lines_are_written(tmp_path):
    code = (
        "import sys; sys.modules['tensorboardX'] = None; from pathlib import Path;"
        "from akd_jax.host.writers import MetricWriter;"
        "writer = MetricWriter(Path(sys.argv[1])); writer.write({'stage': 's', 'step': 1});"
        "writer.close()"
    )
    command = [sys.executable, "-c", code, tmp_path]
    subprocess.run(command, cwd=ROOT, check=True, timeout=GUARD_SECONDS)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
