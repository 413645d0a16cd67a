r"""Losses of features and relations on a cut of Fashion-MNIST, for an hour of two CPU cores.

python -m experiments.choose_weights --config=configs/feature_losses.py --config.seed=10 --seeds=1 \
    --factors=0.1,1,10 --variants=hint,sp,rkd --workdir=runs/feature_weights
python -m experiments.compare --config=configs/feature_losses.py --seeds=3 \
    --methods=scratch,kd,hint,hint_chosen,sp,rkd --workdir=runs/feature_losses

The data, the networks and the batches are those of configs/fashion_mnist.py:small, with 4,000
instead of 10,000 training images and 15 instead of 40 epochs of the student. The rows are those of
loss_rows.py.
"""

from ml_collections.config_dict import ConfigDict

from configs import default, fashion_mnist, loss_rows

TRAIN_SIZE = 4000
GROUPS = ("group_1", "group_2")  # The student has two groups of convolutions.
# The factor of the weights and the temperature that experiments.choose_weights found best.
CHOSEN: dict[str, tuple[float, float | None]] = {
    "hint": (0.1, None),
    "attention_transfer": (0.1, None),
    "nst": (0.1, None),
    "fsp": (0.1, None),
    "vid": (1, None),
    "ab": (0.1, None),
    "factor_transfer": (0.1, None),
    "mgd": (1, None),
    "review_kd": (1, None),
    "semckd": (0.1, None),
    "srrl": (0.1, None),
    "sp": (1, None),
    "cc": (1, None),
    "pkt": (1, None),
    "rkd": (0.1, None),
    "crd": (0.1, None),
    "crd_in_batch": (1, None),
}


def get_config(method: str = "scratch") -> ConfigDict:
    """Returns the settings for a method, with the losses as variants."""
    config = fashion_mnist.get_config(f"{method},small")
    config.dataset.train_size = TRAIN_SIZE
    config.student.epochs = 15
    default.fit_annealing(config)
    config.annealing_kd.stage_1.epochs = config.annealing_kd.max_temperature = 8
    config.search = ConfigDict()  # That of other rows.
    config.variants = ConfigDict(loss_rows.variants(loss_rows.features(GROUPS, TRAIN_SIZE), CHOSEN))
    for row in config.variants:
        if row.startswith("srrl"):  # It reads the teacher's last layer, which is not stored.
            config.variants[row].teacher = ConfigDict({"views": 0})
    return config
