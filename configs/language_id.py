r"""Texts of user interfaces in 67 languages: n-grams with many embeddings teach those with few.

python -m experiments.prepare --dataset=language_id --data_dir=DIR
python -m experiments.compare --config=configs/language_id.py --seeds=3 \
    --methods=scratch,kd,unannealed,annealing_kd,annealing_weighted --workdir=runs/language_id \
    --config.dataset.data_dir=DIR

Students of other sizes, from small to large, are ngrams:2048x4, ngrams:4096x8,32 and
ngrams:4096x16: --config.student.model=ngrams:4096x8,32.
"""

from ml_collections.config_dict import ConfigDict

from configs import language_names


def get_config(method: str = "annealing_kd") -> ConfigDict:
    """Returns the settings of language_names.py for a method, with other texts and a student."""
    config = language_names.get_config(method)
    config.dataset.name = "language_id"
    config.dataset.max_length = 64
    config.student.model = "ngrams:4096x16"
    return config
