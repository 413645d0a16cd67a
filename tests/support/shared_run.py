"""The training that test_processes.py does in one process and pair.py in two."""

import flax.linen as nn
import jax
import numpy as np
import optax
from ml_collections.config_dict import ConfigDict

from akd_jax import models
from akd_jax.data import Batches, Examples
from akd_jax.host.errors import InputError
from akd_jax.methods.scratch import supervised_loss
from akd_jax.training import parallel
from akd_jax.training.state import TrainState
from akd_jax.training.step import train_step
from configs import digits

# For `stop_at_check`. The first is in the teacher's second epoch. In a run resumed from there,
# the second is in the second epoch of the student's first stage. The tests check both places.
TEACHER_CHECK = 11
STUDENT_CHECK = 33


def make_module() -> nn.Module:
    """Creates a network with batch norm, whose statistics are also averaged over devices."""
    return models.build("plain_cnn:4 M FC", 10)


def make_state() -> TrainState:
    module = make_module()
    return TrainState.create(
        module.apply,
        module.init(jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32)),
        optimizer=optax.sgd(0.1, momentum=0.9),
        loss=supervised_loss,
        key=jax.random.key(1),
        steps_per_epoch=4,
    )


def make_batches(part: tuple[int, int] = (0, 1)) -> list:
    """Returns 8 batches of two epochs; the last one of each has rows of weight 0."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(60, 8, 8, 1)).astype(np.float32)
    examples = Examples(images, rng.integers(10, size=60).astype(np.int32))
    batches = Batches(examples, 16, seed=0, part=part)
    return [batch for epoch in range(2) for batch in batches.epoch(epoch)]


def train() -> dict[str, np.ndarray]:
    """Returns the variables after 8 steps on all devices of all processes."""
    step = parallel.compile_train_step(train_step)
    state = parallel.replicate(make_state())
    zero = parallel.replicate(np.int32(0))
    for batch in make_batches((jax.process_index(), jax.process_count())):
        state, metrics = step(state, {}, parallel.shard(batch), zero)
        jax.block_until_ready(metrics)
    return flatten(state.model.variables)


def flatten(variables) -> dict[str, np.ndarray]:
    leaves = jax.tree.leaves_with_path(variables)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def make_config() -> ConfigDict:
    """A stored teacher of two epochs and two stages of two epochs, with five steps each."""
    config = digits.get_config()
    config.batch_size = 200
    config.checkpoint_every = 2
    config.teacher.model = "plain_cnn:8 M FC"
    config.teacher.epochs = 2
    config.teacher.views = 2
    config.dataset.crop_padding = 1
    config.student.model = "plain_cnn:4 M FC"
    config.student.epochs = 4
    config.annealing_kd.stage_1.epochs = 2
    config.annealing_kd.max_temperature = 2
    config.continuation_kd.max_temperature = 4
    config.continuation_kd.psi_epochs = 3
    return config


def raise_input_error() -> None:
    raise InputError("expected nothing, got something")
