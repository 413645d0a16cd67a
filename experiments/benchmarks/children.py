"""Processes of their own, for what one process can measure only once.

Each prints one JSON object.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any


def start(kind: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Starts a child of a kind in KINDS."""
    main = "import sys; from experiments.benchmarks import children; children.main(sys.argv[1:])"
    command = [sys.executable, "-c", main, kind, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )


def result(child: subprocess.Popen[str]) -> dict[str, Any]:
    """What a child printed last."""
    output, _ = child.communicate()
    if child.returncode:
        raise RuntimeError(f"expected a child that ends well, got {child.returncode}: {output}")
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def first_step(spec: str) -> dict[str, Any]:
    """Seconds from an empty process with its imports done to the end of the first step, those of
    the second one, and how often the step was traced in both.
    """
    from akd_jax import data
    from experiments import cli
    from experiments.benchmarks import measure as m

    cli.set_up_jax()
    (batch,) = data.Batches(m.images(m.BATCH_SIZE), m.BATCH_SIZE).epoch()
    started = time.perf_counter()
    step = m.Trainer(m.state(spec), {})
    step(batch)
    first = time.perf_counter() - started
    step(batch)
    second = time.perf_counter() - started - first
    return {"first": first, "second": second, "traces": step.compiled.traces}


def collective_bytes(spec: str, process_id: str, count: str, port: str) -> dict[str, Any]:
    """The collectives of a step of one of several processes, by name, and the parameters' bytes."""
    import jax

    from akd_jax import data, processes
    from experiments.benchmarks import hlo
    from experiments.benchmarks import measure as m

    if int(count) > 1:
        processes.initialize(f"127.0.0.1:{port}", int(count), int(process_id))
    part = (int(process_id), int(count))
    (batch,) = data.Batches(m.images(m.BATCH_SIZE), m.BATCH_SIZE, part=part).epoch()
    state = m.state(spec)
    trainer = m.Trainer(state, {})
    program = trainer.compiled.program(*trainer.arguments(batch))
    found = [(name, sum(sizes)) for name, sizes in hlo.collectives(program)]
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))
    return {"collectives": found, "parameters": parameters}


KINDS: dict[str, Callable[..., dict[str, Any]]] = {
    "first_step": first_step,
    "collective_bytes": collective_bytes,
}


def main(arguments: Sequence[str]) -> None:
    """Runs a child."""
    print(json.dumps(KINDS[arguments[0]](*arguments[1:])))
