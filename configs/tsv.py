r"""Custom texts: train.tsv, dev.tsv and test.tsv with the columns sentence and label.

python -m experiments.train --config=configs/tsv.py:annealing_kd --workdir=runs/mine \
    --config.dataset.data_dir=DIR --config.teacher.path=models/fine-tuned \
    --config.student.model=huggingface:models/distilroberta-base

Pairs of texts have the columns sentence1, sentence2 and label. If dev.tsv or test.tsv is missing,
set --config.dataset.validation_size to the number of rows of train.tsv to hold out for validation.
"""

from ml_collections.config_dict import ConfigDict

from configs import glue


def get_config(method: str = "annealing_kd") -> ConfigDict:
    """Returns the settings of glue.py for a method."""
    config = glue.get_config(f"sst2,{method}")
    config.dataset.name = "tsv"
    config.dataset.validation_size = 0
    return config
