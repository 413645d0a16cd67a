r"""Losses of logits on names in 94 languages.

python -m experiments.choose_weights --config=configs/logit_losses.py --config.seed=10 --seeds=1 \
    --factors=0.1,0.3,1,3,10 --temperatures=1,4 --variants=kl,dkd,dist --workdir=runs/weights
python -m experiments.compare --config=configs/logit_losses.py --seeds=5 \
    --methods=scratch,kd,kl,kl_chosen,dkd,dkd_chosen --workdir=runs/logit_losses

The settings are those of language_names.py, and the rows those of loss_rows.py.
"""

from ml_collections.config_dict import ConfigDict

from configs import language_names, loss_rows

# The factor of the weights and the temperature that experiments.choose_weights found best.
CHOSEN: dict[str, tuple[float, float | None]] = {
    "kl": (0.3, 1),
    "reverse_kl": (0.3, 1),
    "generalized_jsd": (3, 1),
    "skew_kl": (1, 1),
    "skew_reverse_kl": (1, 1),
    "total_variation": (3, 1),
    "dkd": (0.1, 1),
    "nkd": (0.1, 1),
    "wsld": (0.1, 4),
    "ofa": (3, None),
    "dist": (1, 4),
    "standardized_kl": (1, 1),
    "multi_level": (0.1, None),
    "ttm": (0.1, None),
    "wttm": (0.1, None),
    "top_k_kl_bin": (0.3, 1),
    "top_k_kl_drop": (1, 1),
    "top_k_kl_renormalise": (0.3, 1),
    "hinge_ranking": (0.3, None),
    "logistic_ranking": (1, None),
    "ctkd": (3, None),
    "annealed_mse": (0.1, None),
}


def get_config(argument: str = "scratch") -> ConfigDict:
    """Returns the settings of language_names.py for a method, with the losses as variants."""
    config = language_names.get_config(argument)
    config.variants = ConfigDict(loss_rows.variants(loss_rows.LOGITS, CHOSEN))
    config.search = ConfigDict()  # That of other rows.
    return config
