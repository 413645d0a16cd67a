r"""CIFAR-10 as in the paper: ResNet-110 teaches ResNet-8, with ResNet-20 as TAKD's assistant.

python -m experiments.prepare --dataset=cifar10 --data_dir=DIR
python -m experiments.train --config=configs/cifar10.py:annealing_kd --workdir=runs/cifar10 \
    --config.dataset.data_dir=DIR

--config=configs/cifar10.py:METHOD,plain_cnn selects the paper's second pair of networks: a plain
CNN of 10 layers teaches one of 2 layers.
"""

from ml_collections.config_dict import ConfigDict

from configs import default


def get_config(argument: str = "annealing_kd") -> ConfigDict:
    """Returns the paper's settings; default.py has those that are not set here.

    Args:
      argument: METHOD or METHOD,plain_cnn.
    """
    method, _, variant = argument.partition(",")
    if variant not in ("", "plain_cnn"):
        raise ValueError(f"expected METHOD or METHOD,plain_cnn, got {argument!r}")
    config = default.get_config()
    config.method = method
    config.dataset.name = "cifar10"
    config.dataset.validation_size = 5000
    config.dataset.crop_padding = 4
    config.dataset.flip = True
    plain = variant == "plain_cnn"
    config.teacher.model = "plain_cnn:10" if plain else "resnet:110"
    config.takd.assistant.model = "plain_cnn:6" if plain else "resnet:20"
    config.student.model = "plain_cnn:2" if plain else "resnet:8"
    if plain:
        default.set_optimizers(config, learning_rate=0.01, schedule="constant")
    return config
