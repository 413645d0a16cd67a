r"""A stream of tasks: pronunciation in several languages, for a small language model.

python -m experiments.prepare --dataset=pronunciations --data_dir=DIR
python -m experiments.train --config=configs/stream.py:base --workdir=runs/base \
    --config.dataset.data_dir=DIR
python -m experiments.export --workdir=runs/base --format=safetensors --output=runs/gpt2
python -m experiments.compare --config=configs/stream.py:runs/gpt2 --references=lamol,finetune \
    --methods=finetune,lamol,word_kd,seq_kd,seq_kd_soft,multitask --seeds=6 \
    --workdir=runs/stream --config.dataset.data_dir=DIR

python -m experiments.prepare --dataset=mixed_tasks --data_dir=DIR --vocabulary_size=1000
python -m experiments.compare --config=configs/stream.py:mixed --references=lamol,finetune \
    --methods=finetune,lamol,word_kd,seq_kd,seq_kd_soft,multitask --seeds=3 \
    --workdir=runs/mixed --config.dataset.data_dir=DIR

The base learns English and Swedish, in the part that GPT-2's pretraining has in the paper. The
stream is German, French and Spanish. The seeds are the six orders of the tasks. The second stream
has three different tasks, and a network that starts from random parameters: pronunciations, German
labels of programs, and sentiment. `:reversed` has the reverse order. The rows of a comparison are

  finetune, lamol, word_kd, seq_kd, seq_kd_soft, multitask   the variants of the method
  lamol_real       replay of the data's examples: a ceiling of replay
  multitask_long   three times the epochs, which are about as many updates as lamol makes
  lamol_split, word_kd_split, seq_kd_soft_split   separate means for new and replayed examples
"""

from typing import Any

from ml_collections.config_dict import ConfigDict

from configs import default

_VARIANTS = ("finetune", "lamol", "word_kd", "seq_kd", "seq_kd_soft", "multitask")

_NETWORK = "decoder:2x64,heads=2"

_MIXED = {"mixed": "english,german,sentiment", "reversed": "sentiment,german,english"}


def get_config(base: str = "base") -> ConfigDict:
    """Returns the settings.

    Args:
      base: the folder of the pretrained network; 'base' for the settings that pretrain it; or
        'mixed' or 'reversed' for the stream of different tasks, in one of two orders.
    """
    config = default.get_config()
    config.method = "l2kd"
    config.batch_size = 64  # Rows: half of them are answers, and half are whole texts.
    config.checkpoint_every = 10
    config.dataset.name = "stream"
    config.dataset.validation_size = 0  # Each task has its own validation split.
    config.dataset.max_length = 32
    default.set_optimizers(
        config,
        name="adamw",
        learning_rate=2e-3,
        weight_decay=0.01,
        clip_norm=1.0,
        schedule="linear",
    )
    if base == "base":
        config.dataset.tasks = "en,sv"
        config.l2kd.variant = "multitask"
        config.student.model = config.teacher.model = _NETWORK
        config.student.epochs = 5
        default.fit_annealing(config)
        return config
    config.student.epochs = 10
    config.teacher.epochs = 30
    config.l2kd.gamma = 1.0
    config.l2kd.task_size = 2000
    if base in _MIXED:
        config.dataset.tasks = _MIXED[base]
        config.dataset.max_length = 64  # A few texts are longer.
        config.student.model = config.teacher.model = _NETWORK
        config.l2kd.order = "given"
    else:
        config.dataset.tasks = "de,fr,es"
        config.student.model = config.teacher.model = f"huggingface:{base}"
        config.l2kd.order = "seed"
    rows: dict[str, dict[str, Any]] = {name: {"variant": name} for name in _VARIANTS}
    # The ceiling learns only the answers, as finetune does.
    rows["multitask"]["lm_weight"] = 0.0
    rows["lamol_real"] = {"variant": "lamol", "replay": "real"}
    rows |= {
        f"{name}_split": {"variant": name, "split_means": True}
        for name in ("lamol", "word_kd", "seq_kd_soft")
    }
    variants: dict[str, Any] = {name: {"l2kd": fields} for name, fields in rows.items()}
    variants["multitask_long"] = {
        **variants["multitask"],
        "student": {"epochs": 3 * config.student.epochs},
    }
    config.variants = ConfigDict(variants)
    return config
