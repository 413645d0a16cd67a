"""Child processes, for measurements that one process can make only once.

Each child prints one JSON object as its last line.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any


def start(function: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Starts a child process that calls a function of FUNCTIONS.

    Args:
      function: a key of FUNCTIONS.
      *arguments: its arguments; the child receives them as strings.
      **environment: additional environment variables.
    """
    # Not `python -m`: the package imports this module first, and Python warns of that.
    main = "import sys; from experiments.benchmarks import children; children.main(sys.argv[1:])"
    command = [sys.executable, "-c", main, function, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def result(child: subprocess.Popen[str]) -> dict[str, Any]:
    """Waits for a child and returns the JSON object of its last line.

    Raises:
      RuntimeError: the child failed.
    """
    output, _ = child.communicate()
    if child.returncode:
        raise RuntimeError(
            f"child process: expected exit code 0, got {child.returncode}; read its output:"
            f" {output}"
        )
    printed: dict[str, Any] = json.loads(output.splitlines()[-1])
    return printed


def first_step(spec: str) -> dict[str, Any]:
    """Measures the first two training steps of a network.

    Returns:
      'first': seconds from the end of the imports to the end of the first step; 'second': seconds
      of the second step; 'traces': how often the step was traced in total.
    """
    from akd_jax import data
    from experiments.benchmarks import workload
    from experiments.jax_setup import set_up_jax

    set_up_jax()
    images = workload.images(workload.BATCH_SIZE)
    batches = data.Batches(images, workload.BATCH_SIZE)
    (batch,) = batches.epoch()
    start = time.perf_counter()
    step = workload.Trainer(workload.build(workload.random_model(spec), batches))
    step(batch)
    first = time.perf_counter() - start
    step(batch)
    second = time.perf_counter() - start - first
    return {"first": first, "second": second, "traces": step.compiled.traces}


def collective_bytes(spec: str, process_id: str, count: str, port: str) -> dict[str, Any]:
    """Reads the collectives of a training step from the program of one of several processes.

    Returns:
      'collectives': a list of name and bytes; 'parameters': bytes of all parameters.
    """
    import jax

    from akd_jax import data
    from akd_jax.host import processes
    from experiments.benchmarks import hlo, workload

    if int(count) > 1:
        processes.initialize(f"127.0.0.1:{port}", int(count), int(process_id))
    part = (int(process_id), int(count))
    images = workload.images(workload.BATCH_SIZE)
    batches = data.Batches(images, workload.BATCH_SIZE, part=part)
    (batch,) = batches.epoch()
    run = workload.build(workload.random_model(spec), batches)
    trainer = workload.Trainer(run)
    program = trainer.compiled.program(*trainer.arguments(batch))
    collectives = [(name, sum(sizes)) for name, sizes in hlo.collectives(program)]
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(run.state.params))
    return {"collectives": collectives, "parameters": parameters}


FUNCTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "first_step": first_step,
    "collective_bytes": collective_bytes,
}


def main(arguments: Sequence[str]) -> None:
    """Calls a function of FUNCTIONS in the child, and prints its result."""
    print(json.dumps(FUNCTIONS[arguments[0]](*arguments[1:])))
