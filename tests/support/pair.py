"""What each process of the pair in test_processes.py does, on two devices.

python -m tests.support.pair PROCESS_ID PORT FOLDER
"""

import sys
from pathlib import Path

import ml_dtypes
import numpy as np

from akd_jax import runs
from akd_jax.host import processes
from akd_jax.host.errors import InputError, StoppedError
from tests.support import shared_run
from tests.support.stopping import stop_at_check


def main(process_id: int, port: str, folder: Path) -> None:
    processes.initialize(f"127.0.0.1:{port}", 2, process_id)
    np.savez(folder / f"variables_{process_id}.npz", **shared_run.train())
    check_communication(process_id)
    try:
        with stop_at_check(shared_run.STUDENT_CHECK):
            runs.run(shared_run.make_config(), folder / "stopped")
    except StoppedError as error:
        print(error)
    print("finished")


def check_communication(process_id: int) -> None:
    mixed = {
        "zero": np.float32(-0.0),
        "nan": np.array([np.nan, process_id]),
        "bool": np.bool_(1),
        "bfloat16": np.array([1.5, process_id], ml_dtypes.bfloat16),
        "empty": np.zeros((2, 0), np.float32),
    }
    received = processes.broadcast(mixed)
    assert np.signbit(received["zero"]), received
    assert received["zero"].shape == (), received
    np.testing.assert_array_equal(received["nan"], [np.nan, 0])
    assert received["bfloat16"].dtype == ml_dtypes.bfloat16, received
    assert received["bfloat16"].tolist() == [1.5, 0], received
    assert received["empty"].shape == (2, 0), received

    rows = processes.gather(np.full((2, 3), process_id))
    np.testing.assert_array_equal(rows[:, 0], [0, 0, 1, 1])
    assert processes.gather(np.zeros((2, 0))).shape == (4, 0)
    bits = processes.gather(np.full(1, process_id, ml_dtypes.bfloat16))
    assert bits.dtype == ml_dtypes.bfloat16, bits
    assert bits.tolist() == [0, 1], bits

    assert processes.on_primary(lambda: {"from": process_id}) == {"from": 0}
    assert processes.on_primary(lambda: processes.on_primary(lambda: "nested")) == "nested"
    try:
        processes.on_primary(shared_run.raise_input_error)
    except InputError as error:
        assert str(error) == "expected nothing, got something"
    else:
        raise AssertionError("expected the primary's error in all processes")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
