"""The 1,797 handwritten digits that scikit-learn ships: 8x8 grey images, 10 classes.

They need no download. The images are the test part of UCI's "Optical Recognition of
Handwritten Digits" (Alpaydin and Kaynak, 1998).
"""

from pathlib import Path

import numpy as np

from akd_jax.data.dataset import Examples, Normalise, Source, split
from akd_jax.host.errors import require
from akd_jax.types import Task

SIZES = {"train": 1297, "test": 500}


def load(data_dir: Path | None) -> Source:
    """Returns the digits as uint8 images [N, 8, 8, 1] with values from 0 to 16.

    The test split is fixed.

    Args:
      data_dir: ignored, because scikit-learn contains the images.

    Raises:
      InputError: scikit-learn is not installed.
    """
    del data_dir
    digits = require("sklearn.datasets", "images").load_digits()
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
