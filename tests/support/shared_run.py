"""What test_processes.py trains alone, and pair.py in two processes."""

import itertools
from collections.abc import Callable

import flax.linen as nn
import jax
import numpy as np
import optax
from ml_collections.config_dict import ConfigDict

from akd_jax import models, parallel
from akd_jax.data import Batches, Examples
from akd_jax.errors import InputError
from akd_jax.methods.scratch import supervised_loss
from akd_jax.step import train_step
from akd_jax.types import Outputs, TrainState
from configs import digits

LOOKS = 20  # After which a run is stopped: in the middle of the student's training.


class TwoLayers(nn.Module):
    """Without batch norm."""

    @nn.compact
    def __call__(self, inputs, *, train=False, axis_name=None):
        hidden = nn.relu(nn.Dense(32)(inputs.reshape(len(inputs), -1)))
        return Outputs(logits=nn.Dense(10)(hidden))


MODULES = {"plain": TwoLayers(), "batch_norm": models.build("plain_cnn:4 M FC", 10)}


def state(module: nn.Module) -> TrainState:
    return TrainState.create(
        module.apply,
        module.init(jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32)),
        optimizer=optax.sgd(0.1, momentum=0.9),
        loss=supervised_loss,
        key=jax.random.key(1),
    )


def batches(part: tuple[int, int] = (0, 1)) -> list:
    """20 steps; of each four batches the last one is filled up with rows of weight 0."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(60, 8, 8, 1)).astype(np.float32)
    examples = Examples(images, rng.integers(10, size=60).astype(np.int32))
    whole = Batches(examples, 16, seed=0, part=part)
    return [batch for epoch in range(5) for batch in whole.epoch(epoch)]


def train(module: nn.Module) -> dict[str, np.ndarray]:
    """The variables after 20 steps over all devices of all processes."""
    step = parallel.compile_train_step(train_step)
    placed = parallel.replicate(state(module))
    zero = parallel.replicate(np.int32(0))
    for batch in batches((jax.process_index(), jax.process_count())):
        placed, metrics = step(placed, {}, parallel.shard(batch), zero)
        jax.block_until_ready(metrics)
    return flat(placed.model.variables)


def flat(variables) -> dict[str, np.ndarray]:
    leaves = jax.tree.leaves_with_path(variables)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def config() -> ConfigDict:
    """Three epochs of five steps for each stage, with a stored teacher."""
    found = digits.get_config()
    found.batch_size = 200
    found.checkpoint_every = 2
    found.teacher.model = "plain_cnn:8 M FC"
    found.teacher.epochs = 1
    found.teacher.views = 2
    found.dataset.crop_padding = 1
    found.student.model = "plain_cnn:4 M FC"
    found.student.epochs = 6
    found.annealing_kd.stage_1.epochs = 3
    found.annealing_kd.max_temperature = 2
    found.continuation_kd.max_temperature = 5
    found.continuation_kd.psi_epochs = 3
    return found


def after(looks: int) -> Callable[[], bool]:
    """Somebody who asks to stop at that look."""
    counter = itertools.count(1)
    return lambda: next(counter) >= looks


def refuse() -> None:
    raise InputError("expected nothing, got something")
