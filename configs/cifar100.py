r"""CIFAR-100 as in the paper, with the networks and settings of cifar10.py.

python -m experiments.prepare --dataset=cifar100 --data_dir=DIR
python -m experiments.train --config=configs/cifar100.py:annealing_kd --workdir=runs/cifar100 \
    --config.dataset.data_dir=DIR
"""

from ml_collections.config_dict import ConfigDict

from configs import cifar10


def get_config(argument: str = "annealing_kd") -> ConfigDict:
    """Returns the settings of cifar10.py; plain CNNs choose their widths for 100 classes."""
    config = cifar10.get_config(argument)
    config.dataset.name = "cifar100"
    return config
