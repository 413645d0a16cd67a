"""What test_processes.py runs in each of two processes of two devices.

python -m tests.support.pair PROCESS_ID PORT FOLDER
"""

import sys
from pathlib import Path

import numpy as np

from akd_jax import interrupts, processes, runs
from akd_jax.errors import InputError, StoppedError
from tests.support import shared_run


def main(process_id: int, port: str, folder: Path) -> None:
    processes.initialize(f"127.0.0.1:{port}", 2, process_id)
    found = {}
    for name, module in shared_run.MODULES.items():
        for path, value in shared_run.train(module).items():
            found[f"{name}{path}"] = value
    np.savez(folder / f"parameters_{process_id}.npz", **found)

    mixed = {"zero": np.float32(-0.0), "nan": np.array([np.nan, process_id]), "bool": np.bool_(1)}
    sent = processes.broadcast(mixed)
    assert np.signbit(sent["zero"]), sent
    assert sent["zero"].shape == (), sent
    np.testing.assert_array_equal(sent["nan"], [np.nan, 0])
    gathered = processes.gather(np.full((2, 3), process_id))
    np.testing.assert_array_equal(gathered[:, 0], [0, 0, 1, 1])
    assert processes.on_primary(lambda: {"from": process_id}) == {"from": 0}
    assert processes.on_primary(lambda: processes.on_primary(lambda: "nested")) == "nested"
    try:
        processes.on_primary(shared_run.refuse)
    except InputError as error:
        assert str(error) == "expected nothing, got something"
    else:
        raise AssertionError("expected the primary's error in all processes")

    runs.run(shared_run.config(), folder / "begun_alone")
    original = interrupts.stop_requested
    interrupts.stop_requested = shared_run.after(shared_run.LOOKS)
    try:
        runs.run(shared_run.config(), folder / "begun_by_two")
    except StoppedError:
        print("stopped as asked")
    interrupts.stop_requested = original


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
