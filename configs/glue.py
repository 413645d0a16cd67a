r"""GLUE tasks as in the paper: RoBERTa-large teaches DistilRoBERTa; RoBERTa-base is the assistant.

python -m experiments.train --config=configs/glue.py:rte --workdir=runs/rte \
    --config.dataset.data_dir=DIR

DIR holds GLUE's TSV files (DIR/RTE/train.tsv) or the data of tensorflow-datasets (DIR/glue/rte).
The networks are Hugging Face folders in models/:

hf download FacebookAI/roberta-large --local-dir models/roberta-large   (likewise roberta-base)
hf download distilbert/distilroberta-base --local-dir models/distilroberta-base

The run first fine-tunes the teacher. --config.teacher.path=FOLDER uses a fine-tuned one instead.
"""

from ml_collections.config_dict import ConfigDict

from akd_jax.data.readers.glue import TASKS
from configs import default

# Number of training examples held out for validation: about a tenth, and 2,000 for large tasks.
_VALIDATION = {
    "cola": 850,
    "sst2": 2000,
    "mrpc": 360,
    "stsb": 570,
    "qqp": 2000,
    "mnli": 2000,
    "qnli": 2000,
    "rte": 250,
    "wnli": 60,
}


def get_config(argument: str = "rte") -> ConfigDict:
    """Returns the paper's settings for a task.

    Args:
      argument: TASK or TASK,METHOD. The tasks are cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte
        and wnli.
    """
    task, _, method = argument.partition(",")
    if task not in TASKS:
        raise ValueError(f"expected a task among {', '.join(TASKS)}, got {task!r}")
    config = default.get_config()
    config.method = method or "annealing_kd"
    config.batch_size = 32
    config.checkpoint_every = 1
    config.dataset.name = task
    config.dataset.validation_size = _VALIDATION[task]
    config.teacher.model = "huggingface:models/roberta-large"
    config.teacher.epochs = 5
    config.teacher.views = 1  # Without augmentation, all views are equal.
    config.takd.assistant.model = "huggingface:models/roberta-base"
    config.takd.assistant.epochs = 18
    config.student.model = "huggingface:models/distilroberta-base"
    config.student.epochs = 18
    config.annealing_kd.max_temperature = 7
    config.annealing_kd.stage_1.epochs = 14
    # The paper's ramp, scaled from 30 to 18 epochs: psi = i / 40 for 20 of 30 epochs, then 1.
    config.continuation_kd.max_temperature = 10
    config.continuation_kd.psi_epochs = 24
    config.continuation_kd.psi_until = 12
    default.set_optimizers(
        config,
        name="adamw",
        learning_rate=2e-5,
        weight_decay=0.01,
        clip_norm=1.0,
        schedule="linear",
    )
    return config
