import io
import json
import math
import struct
import sys
import time

import pytest
from tensorboardX.proto.event_pb2 import Event

from akd_jax.writers import MetricWriter, ProgressBar


def record(step):
    return {"stage": "stage_1", "step": step, "train_loss": 1.0 / step}


def read(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_records_are_appended_and_reach_tensorboard(tmp_path):
    writer = MetricWriter(tmp_path / "new")
    for step in (1, 2):
        writer.write(record(step))
    writer.close()
    assert read(writer.path) == [1, 2]
    assert scalars(writer.folder) == {
        ("stage_1/train_loss", 1): 1.0,
        ("stage_1/train_loss", 2): 0.5,
    }


def scalars(folder):
    """What TensorBoard reads: each event has its length (8 bytes) and a checksum (4) before it, and
    another one behind it.
    """
    (path,) = folder.glob("events.*")
    data, found = path.read_bytes(), {}
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]
        found |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
    return found


def test_rewind_drops_later_records_and_half_a_line(tmp_path):
    writer = MetricWriter(tmp_path)
    for step in (1, 2, 3):
        writer.write(record(step))
    writer.close()
    with writer.path.open("a") as file:
        file.write('{"stage": "sta')  # Killed while writing.
    resumed = MetricWriter(tmp_path)
    resumed.rewind(2)
    resumed.write(record(3))
    resumed.close()
    assert read(resumed.path) == [1, 2, 3]


def test_numbers_that_are_not_finite_are_written_as_null(tmp_path, caplog):
    writer = MetricWriter(tmp_path)
    writer.write({**record(1), "validation_pearson": math.nan})
    writer.close()
    (line,) = writer.path.read_text().splitlines()
    assert json.loads(line) == {**record(1), "validation_pearson": None}
    assert scalars(tmp_path) == {("stage_1/train_loss", 1): 1.0}
    (warning,) = caplog.messages
    assert "expected finite numbers in validation_pearson" in warning

    resumed = MetricWriter(tmp_path)
    resumed.rewind(1)
    assert resumed.path.read_text() == line + "\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal(), True), (io.StringIO(), False)])
def test_the_progress_bar_shows_on_a_terminal_alone(monkeypatch, stream, shown):
    monkeypatch.setattr(sys, "stderr", stream)
    bar = ProgressBar("annealing_kd stage_1", total=10)
    for _ in range(2):
        time.sleep(0.2)  # tqdm draws, and measures the rate, ten times a second at most.
        bar.update(3, lambda: "epoch 1/2 Phi 0.10 loss 0.5")
    bar.update(4, lambda: "epoch 2/2 Phi 0.20 loss 0.4", final=True)
    bar.close()
    text = stream.getvalue()
    if shown:
        for part in ("annealing_kd stage_1", "epoch 2/2 Phi 0.20 loss 0.4", "examples/s"):
            assert part in text
    else:
        assert text == ""
