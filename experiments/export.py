"""Writes the student of a finished run, or a teacher it read, for use elsewhere.

python -m experiments.export --workdir=DIR --format=safetensors --output=FOLDER
python -m experiments.export --workdir=DIR --format=stablehlo --output=FILE

safetensors: a folder that Hugging Face's AutoModelForSequenceClassification and AutoTokenizer
load; of an encoder. stablehlo: a file that `jax.export.deserialize` reads, without this
library, and whose call maps raw inputs, of any number of examples, to logits float32; of any
network. An encoder's takes token ids and token types int32 [B, L], and lengths int32 [B]; L is
at most the length that it has positions for.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from jax import export as jax_export

from akd_jax import records, runs
from akd_jax.errors import InputError
from akd_jax.files import Path
from akd_jax.models import huggingface
from akd_jax.models.encoder import Encoder
from akd_jax.plan import STUDENT, Plan
from akd_jax.types import Model, Network, Tokens
from experiments import cli

_WORKDIR = cli.workdir_flag()
_FORMAT = flags.DEFINE_string("format", None, "'safetensors' or 'stablehlo'.")
_OUTPUT = cli.output_flag()
_MODEL = flags.DEFINE_string("model", STUDENT, "'student', 'teacher' or 'assistant'.")

_PLATFORMS = ("cpu", "cuda", "tpu")


def export_network(workdir: Path, kind: str, output: Path, model: str = STUDENT) -> None:
    """Writes a network of a finished run.

    Args:
      workdir: of the run.
      kind: a name in FORMATS.
      output: the folder or file; it must not be there yet.
      model: 'student', or the name of a teacher that the run read.

    Raises:
      InputError: there is no such run, network or format, or the output cannot be written.
    """
    if kind not in FORMATS:
        raise InputError(f"--format: expected one of {', '.join(FORMATS)}, got {kind!r}")
    plan, found = runs.load(workdir, teachers=model != STUDENT)
    if model not in found:
        raise InputError(f"--model: expected one of {', '.join(found)}, got {model!r}")
    network = plan.student if model == STUDENT else plan.teachers[model]
    records.check_writable(output.parent)
    FORMATS[kind](plan, network, found[model], output)


def _safetensors(plan: Plan, network: Network, model: Model, output: Path) -> None:
    module, weights = network.module, network.pretrained
    if not isinstance(module, Encoder) or not isinstance(weights, huggingface.Weights):
        raise InputError(
            f"--format: expected stablehlo for a {type(module).__name__}, got safetensors,"
            " which is for encoders of texts"
        )
    huggingface.write_folder(output, weights.folder, module, model.variables, plan.dataset.task)


def _stablehlo(plan: Plan, network: Network, model: Model, output: Path) -> None:
    if output.exists():
        raise InputError(f"{output}: expected the name of a new file, got one that exists")
    read: Callable[..., Any]
    if isinstance(network.module, Encoder):
        most = network.module.config.max_length  # Beyond it there are no positions.
        read = Tokens
        rows, length = jax_export.symbolic_shape("B, L", constraints=[f"L <= {most}"])
        shapes = [(rows, length), (rows, length), (rows,)]
        arguments = [jax.ShapeDtypeStruct(shape, jnp.int32) for shape in shapes]
    else:
        read, (rows,) = network.preprocess, jax_export.symbolic_shape("B")
        example = plan.dataset.example
        arguments = [jax.ShapeDtypeStruct((rows, *example.shape[1:]), example.dtype)]

    def logits(*arrays: jax.Array) -> jax.Array:
        outputs: Any = network.module.apply(model.variables, read(*arrays), train=False)
        return outputs.logits

    exported = jax_export.export(jax.jit(logits), platforms=_PLATFORMS)(*arguments)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(exported.serialize())


FORMATS: dict[str, Callable[[Plan, Network, Model, Path], None]] = {
    "safetensors": _safetensors,
    "stablehlo": _stablehlo,
}


def main() -> None:
    """Exports what the flags say."""
    output = cli.path(_OUTPUT)
    export_network(cli.path(_WORKDIR), _FORMAT.value or "", output, _MODEL.value)
    print(f"{output}: {_FORMAT.value} of the {_MODEL.value}")


if __name__ == "__main__":
    cli.launch(main, required=["workdir", "format", "output"])
