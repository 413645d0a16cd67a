"""The paper's images: CIFAR-100, with the networks and settings of cifar10.py.

python -m experiments.prepare --dataset=cifar100 --data_dir=DIR
python -m experiments.train --config=configs/cifar100.py:annealing_kd --workdir=runs/cifar100 \
    --config.dataset.data_dir=DIR
"""

from ml_collections.config_dict import ConfigDict

from configs import cifar10


def get_config(argument: str = "annealing_kd") -> ConfigDict:
    """As in cifar10.py; plain CNNs take their widths for 100 classes by themselves."""
    config = cifar10.get_config(argument)
    config.dataset.name = "cifar100"
    return config
