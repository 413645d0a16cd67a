"""The 1,797 handwritten digits that scikit-learn ships: 8x8 grey images, 10 classes.

A real image set that needs no download. (UCI's "Optical Recognition of Handwritten
Digits", its test part; Alpaydin and Kaynak, 1998.)
"""

import numpy as np
from sklearn import datasets

from akd_jax.data.dataset import Dataset, Examples, split

SIZES = {"train": 1000, "validation": 297, "test": 500}


def load() -> Dataset:
    """Images float32 [N, 8, 8, 1] from 0 to 1, split once and for all."""
    digits = datasets.load_digits()
    examples = Examples(
        inputs=(digits.images[..., None] / 16).astype(np.float32),
        labels=digits.target.astype(np.int32),
    )
    return Dataset(splits=split(examples, SIZES), num_classes=10)
