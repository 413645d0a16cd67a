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
CHOSEN: dict[str, tuple[float, float | None]] = {}


def get_config(argument: str = "scratch") -> ConfigDict:
    """Returns the settings of language_names.py for a method, with the losses as variants."""
    config = language_names.get_config(argument)
    config.variants = ConfigDict(loss_rows.variants(loss_rows.LOGITS, CHOSEN))
    return config
