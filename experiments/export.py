"""Exports the student or a teacher of a finished run for use in other programs.

python -m experiments.export --workdir=DIR --format=safetensors --output=FOLDER
python -m experiments.export --workdir=DIR --format=stablehlo --output=FILE
python -m experiments.export --workdir=DIR --format=onnx --output=FILE

safetensors: a folder that Hugging Face's AutoModelForSequenceClassification and AutoTokenizer, or
MarianMTModel and MarianTokenizer, load. Only networks that started from such a folder have this
format; and decoders, for GPT2LMHeadModel and AutoTokenizer.

stablehlo: a file that `jax.export.deserialize` reads without this library. The exported function
maps raw inputs of B examples, for any B, to logits float32 [B, C]. A network for texts takes token
ids and token type ids, int32 [B, L], and lengths, int32 [B]; L is at most an encoder's max_length.
The tokens of n-grams are code points: 2, those of the text, then 3. The tokens of speech are 0,
then 3 more than each code; padding is 1. A birnn takes token ids and lengths of the sources, then
those of the translations, and gives scores from 0 to 1, with the smallest and the largest score of
the training split as 0 and 1. A network that generates texts takes token ids and lengths of the
sources, then those of the contexts, and gives the logits of the next tokens, [B, T, V]. A decoder
takes the token ids of prompts and completions, their token types, 0 for a prompt and 1 from the
start token on, and lengths, and gives the logits of the next tokens, [B, L, V].

onnx: the same function in a file that onnxruntime reads, for texts of the one length L to which the
data set pads. The file is written only if onnxruntime computes the same logits. It needs
pip install --no-deps jax2onnx, which asks for an older Orbax than it needs. jax2onnx converts image
networks, encoders, decoders and Transformers, but no recurrent networks and no n-grams.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import export as jax_export

from akd_jax import runs
from akd_jax.host import records
from akd_jax.host.errors import InputError, require
from akd_jax.host.files import Path
from akd_jax.models import huggingface
from akd_jax.models.birnn import BiRnn
from akd_jax.models.decoder import Decoder
from akd_jax.models.encoder import Encoder
from akd_jax.models.network import Model, Network
from akd_jax.models.seq2seq import RecurrentSeq2Seq, Transformer
from akd_jax.models.speech import MAX_POSITIONS, Speech
from akd_jax.runs import STUDENT, Plan
from akd_jax.types import SOURCE, TARGET, Tokens
from experiments import cli, onnx_files, options

_WORKDIR = options.workdir_flag()
_FORMAT = options.format_flag()
_OUTPUT = options.output_flag()
_MODEL = flags.DEFINE_string(
    "model", STUDENT, "Network to export: 'student', 'teacher' or 'assistant'."
)

_PLATFORMS = ("cpu", "cuda", "tpu")
_CHECKED = 3  # Examples on which onnxruntime's logits are compared.
_LARGEST_DIFFERENCE = 1e-3


def export_network(workdir: Path, format_name: str, output: Path, model: str = STUDENT) -> None:
    """Writes a network of a finished run to a file or folder.

    Args:
      workdir: folder of the run.
      format_name: a name in FORMATS.
      output: file or folder to write; it must not exist.
      model: 'student', or the name of a teacher of the run.

    Raises:
      InputError: `workdir` holds no finished run, the run has no such network, the network does
        not have the format, or `output` exists or cannot be written.
    """
    if format_name not in FORMATS:
        raise InputError(f"--format: expected one of {', '.join(FORMATS)}, got {format_name!r}")
    if format_name == "stablehlo":  # Fail before the run is loaded.
        require("flatbuffers", "export")
    elif format_name == "onnx":
        onnx_files.check_packages()
    plan, models = runs.load(workdir, teachers=model != STUDENT)
    if model not in models:
        raise InputError(f"--model: expected one of {', '.join(models)}, got {model!r}")
    network = plan.student if model == STUDENT else plan.teachers[model]
    records.check_writable(output.parent)
    FORMATS[format_name](plan, network, models[model], output)


def _write_safetensors(plan: Plan, network: Network, model: Model, output: Path) -> None:
    module, weights = network.module, network.pretrained
    if isinstance(module, Transformer) and isinstance(weights, huggingface.MarianWeights):
        huggingface.write_translation_folder(output, weights.folder, module, model.variables)
        return
    if isinstance(module, Decoder):
        target, files = plan.dataset.task.target, plan.dataset.tokenizers
        assert target is not None, "expected a task of generating texts"
        huggingface.write_decoder_folder(output, files[-1], module, model.variables, target)
        return
    if not isinstance(module, Encoder) or not isinstance(weights, huggingface.Weights):
        raise InputError(
            f"--format: expected stablehlo for a {type(module).__name__}, got safetensors, which"
            " only decoders and networks from Hugging Face folders have"
        )
    huggingface.write_folder(output, weights.folder, module, model.variables, plan.dataset.task)


def _write_stablehlo(plan: Plan, network: Network, model: Model, output: Path) -> None:
    _check_new(output)
    make_inputs: Callable[..., Any]  # From the exported function's arguments.
    if isinstance(network.module, BiRnn | Transformer | RecurrentSeq2Seq):
        make_inputs, limits = _make_pairs, []
        if isinstance(network.module, Transformer):
            limits = [f"{name} <= {network.module.config.max_length}" for name in "ST"]
        rows, *lengths = jax_export.symbolic_shape("B, S, T", constraints=limits)
        sides = [[(rows, length), (rows,)] for length in lengths]
        shapes = [shape for side in sides for shape in side]
        arguments = [jax.ShapeDtypeStruct(shape, jnp.int32) for shape in shapes]
    elif plan.dataset.texts:
        make_inputs, limit = Tokens, []
        if isinstance(network.module, Encoder | Decoder):
            limit = [f"L <= {network.module.config.max_length}"]
        elif isinstance(network.module, Speech):
            limit = [f"L <= {MAX_POSITIONS}"]
        rows, length = jax_export.symbolic_shape("B, L", constraints=limit)
        shapes = [(rows, length), (rows, length), (rows,)]
        arguments = [jax.ShapeDtypeStruct(shape, jnp.int32) for shape in shapes]
    else:
        make_inputs, (rows,) = network.preprocess, jax_export.symbolic_shape("B")
        example = plan.dataset.example
        arguments = [jax.ShapeDtypeStruct((rows, *example.shape[1:]), example.dtype)]
    function = _logits(network, model, make_inputs)
    exported = jax_export.export(jax.jit(function), platforms=_PLATFORMS)(*arguments)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(exported.serialize())


def _write_onnx(plan: Plan, network: Network, model: Model, output: Path) -> None:
    _check_new(output)
    examples = plan.dataset.splits["test"].take(np.arange(_CHECKED)).inputs
    make_inputs: Callable[..., Any] = network.preprocess
    arrays = [np.asarray(examples)]
    if plan.dataset.texts:
        inputs = network.preprocess(examples)
        is_pair = isinstance(inputs, Mapping)
        make_inputs = _make_pairs if is_pair else Tokens
        sides = [inputs[SOURCE], inputs[TARGET]] if is_pair else [inputs]
        arrays = [np.asarray(x) for side in sides for x in _arguments(side, is_pair)]
    function = _logits(network, model, make_inputs)
    try:
        content = onnx_files.convert(function, arrays)
        difference = onnx_files.largest_difference(content, function, arrays)
    except onnx_files.UnsupportedError as error:
        raise InputError(
            f"--format: expected stablehlo for a {type(network.module).__name__}, got onnx: {error}"
        ) from None
    if not difference < _LARGEST_DIFFERENCE:
        raise InputError(
            f"--format: expected a network whose logits onnxruntime computes within"
            f" {_LARGEST_DIFFERENCE:g}, got a difference of {difference:g}; use stablehlo"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(content)
    print(f"Largest difference of onnxruntime's logits, on {_CHECKED} examples: {difference:.1g}")


def _logits(
    network: Network, model: Model, make_inputs: Callable[..., Any]
) -> Callable[..., jax.Array]:
    """Returns the function to export, from arrays to logits."""

    def logits(*arrays: jax.Array) -> jax.Array:
        outputs: Any = network.module.apply(model.variables, make_inputs(*arrays), train=False)
        return outputs.logits

    return logits


def _check_new(output: Path) -> None:
    if output.exists():
        raise InputError(
            f"{output}: expected a new file, got one that exists; choose another --output"
        )


def _make_pairs(*arrays: jax.Array) -> dict[str, Tokens]:
    """Returns pairs of texts from ids and lengths of the sources and of the targets."""
    sides = zip((SOURCE, TARGET), arrays[::2], arrays[1::2], strict=True)
    return {side: Tokens(ids, jnp.zeros_like(ids), lengths) for side, ids, lengths in sides}


def _arguments(tokens: Tokens, is_pair: bool) -> list[Any]:
    """Returns the arguments of the exported function for one side of a text."""
    types = [] if is_pair else [tokens.token_type_ids]
    return [tokens.ids, *types, tokens.lengths]


FORMATS: dict[str, Callable[[Plan, Network, Model, Path], None]] = {
    "safetensors": _write_safetensors,
    "stablehlo": _write_stablehlo,
    "onnx": _write_onnx,
}


def main() -> None:
    """Exports the network and prints what was written."""
    output = options.path(_OUTPUT)
    export_network(options.path(_WORKDIR), _FORMAT.value or "", output, _MODEL.value)
    print(f"{output}: the {_MODEL.value} in {_FORMAT.value} format")


if __name__ == "__main__":
    cli.launch(main, required=["workdir", "format", "output"])
