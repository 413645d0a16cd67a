"""The 1,797 handwritten digits that scikit-learn ships: 8x8 grey images, 10 classes.

A real image set that needs no download. (UCI's "Optical Recognition of Handwritten
Digits", its test part; Alpaydin and Kaynak, 1998.)
"""

from pathlib import Path

import numpy as np
from sklearn import datasets

from akd_jax.data.dataset import Examples, Normalise, Source, split
from akd_jax.types import Task

SIZES = {"train": 1297, "test": 500}


def load(data_dir: Path | None) -> Source:
    """Images uint8 [N, 8, 8, 1] from 0 to 16; the test split is cut off once and for all."""
    del data_dir  # They come with scikit-learn.
    digits = datasets.load_digits()
    examples = Examples(
        inputs=digits.images[..., None].astype(np.uint8),
        labels=digits.target.astype(np.int32),
    )
    splits = split(examples, SIZES, seed=0)
    return Source(
        train=splits["train"],
        test=splits["test"],
        task=Task.numbered(10),
        normalise=Normalise(mean=(0.0,), std=(16.0,)),
    )
