"""The core of the library works without the optional packages."""

import json

from tests.support.launching import GUARD_SECONDS, launch

# Runs in a separate process, because this process has already imported the optional packages.
PROGRAM = """
import json
import pathlib
import sys

for name in (
    "babel", "dm_pix", "matplotlib", "safetensors", "scipy", "sklearn", "soundfile",
    "tensorflow_datasets", "tokenizers",
):
    sys.modules[name] = None  # Makes `import name` raise ModuleNotFoundError.

import jax
import jax.numpy as jnp
import numpy as np
import optax

import akd_jax.methods
import akd_jax.runs
from akd_jax import Batch, TrainState, data, losses, models, train_step
from akd_jax.data.augmentation import Augmentation
from akd_jax.data.speech import recordings
from akd_jax.host.errors import InputError


def message_of(function, *arguments):
    try:
        function(*arguments)
    except InputError as error:
        return str(error)


inputs = np.ones((4, 8, 8, 1), np.float32)
ids = np.arange(4, dtype=np.int32)
batch = Batch(inputs, ids, np.ones(4, np.float32), ids=ids, views=ids)
module = models.build("plain_cnn:4 M FC", num_classes=10)
state = TrainState.create(
    module.apply,
    module.init(jax.random.key(0), inputs),
    optimizer=optax.sgd(0.1),
    loss=losses.compose(ce=(1.0, losses.cross_entropy)),
    key=jax.random.key(1),
    steps_per_epoch=1,
)
state, _ = jax.jit(train_step)(state, {}, batch, jnp.int32(0))
print(json.dumps({
    "step": int(state.step),
    "digits": message_of(data.DATASETS["digits"], None),
    "language_names": message_of(data.DATASETS["language_names"], None),
    "speech": message_of(recordings.read, pathlib.Path("a.wav"), 16_000),
    "huggingface": message_of(models.build, "huggingface:folder", 2),
    "augmentation": message_of(Augmentation(2, True, seed=0).view, batch),
}))
"""


def test_core_works_without_optional_packages():
    process = launch("-c", PROGRAM)
    output, _ = process.communicate(timeout=GUARD_SECONDS)
    assert process.returncode == 0, output
    install = "install it with: pip install 'akd_jax"
    assert json.loads(output.splitlines()[-1]) == {
        "step": 1,
        "digits": f"expected the Python package sklearn, got none; {install}[images]'",
        "language_names": f"expected the Python package babel, got none; {install}[text]'",
        "speech": f"expected the Python package soundfile, got none; {install}[speech]'",
        "huggingface": f"expected the Python package tokenizers, got none; {install}[text]'",
        "augmentation": f"expected the Python package dm_pix, got none; {install}[images]'",
    }
