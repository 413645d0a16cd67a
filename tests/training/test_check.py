"""What a stage reads of its teachers, found by tracing its loss on shapes."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import losses
from akd_jax.host.errors import InputError
from akd_jax.models.network import Model
from akd_jax.teachers import LiveTeacher
from akd_jax.training.check import Reads, check_stage
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage
from akd_jax.types import Batch, Head, Outputs


def apply(variables, inputs, **options):
    logits = inputs @ variables["params"]["kernel"]
    head = Head(variables["params"]["kernel"], jnp.zeros(4))
    return Outputs(logits, {"hidden": inputs, "map": logits[:, None]}, head=head)


MODEL = Model({"params": {"kernel": np.zeros((3, 4), np.float32)}}, apply)
BATCH = Batch(np.zeros((2, 3), np.float32), np.zeros(2, np.int32), np.ones(2, np.float32))


def reads(loss):
    """What a loss reads of the teachers 'one' and 'two'."""
    stage = Stage("stage", 1, loss, OptimizerConfig())
    teachers = {"one": LiveTeacher(MODEL), "two": LiveTeacher(MODEL)}
    found = check_stage(stage, MODEL, teachers, BATCH)
    return found["one"], found["two"]


def hidden(student, teachers, batch, clock):
    return teachers["two"].features["hidden"].mean(axis=-1)


@jax.jit
def compiled(outputs):
    return outputs.logits.mean(axis=-1)


class Projector(nn.Module):
    @nn.compact
    def __call__(self, student, teachers, batch, clock):
        return nn.Dense(1)(teachers["one"].features["map"])[:, 0, 0]


@pytest.mark.parametrize(
    ("loss", "one", "two"),
    [
        (losses.bind(losses.supervised), Reads(), Reads()),
        (losses.bind(losses.annealed_mse, teacher="two"), Reads(), Reads(logits=True)),
        (hidden, Reads(), Reads(features={"hidden"})),
        (
            losses.bind(losses.linear_chunked(losses.kl), teacher="one", layers="hidden"),
            Reads(head=True, features={"hidden"}),
            Reads(),
        ),
        (Projector(), Reads(features={"map"}), Reads()),
        (
            losses.compose(
                hard=(0.0, losses.supervised),
                soft=(1.0, losses.bind(losses.annealed_mse, teacher="one")),
                hint=(1.0, hidden),
            ),
            Reads(logits=True),
            Reads(features={"hidden"}),
        ),
        # Nothing is known of a part that is compiled by itself.
        (
            lambda student, teachers, batch, clock: compiled(teachers["one"]),
            Reads(logits=True, features={"hidden", "map"}),
            Reads(),
        ),
        (
            lambda student, teachers, batch, clock: jax.tree.leaves(teachers["one"].features)[
                0
            ].mean(axis=-1),
            Reads(features={"hidden", "map"}),
            Reads(),
        ),
        # A look at the names reads nothing.
        (
            lambda student, teachers, batch, clock: jnp.full(2, len(teachers["one"].features)),
            Reads(),
            Reads(),
        ),
    ],
)
def test_only_what_the_loss_reads_is_found(loss, one, two):
    assert reads(loss) == (one, two)


def test_message_has_one_line_and_names_the_stage():
    def loss(student, teachers, batch, clock):
        raise ValueError("logits: expected something\nand more")

    with pytest.raises(InputError, match=r"^stage stage: logits: expected something$"):
        reads(loss)
