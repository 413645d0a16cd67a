"""A method whose loss combines terms per example and per token, and a hint with a projector."""

import json

from akd_jax import losses, schedules
from akd_jax.methods import MethodSpec, default_teacher
from akd_jax.training.method import Method
from akd_jax.training.stage import Stage
from tests.support.texts import text_config, write_folders


def token_kl(student, teachers, batch, clock):
    """The KL divergence of the softened last hidden states, one value per token [B, L]."""
    del batch, clock
    states = (x.features["last_hidden_state"] for x in (student, teachers["teacher"]))
    return losses.kl(*states, 2.0)


def combined_loss():
    """A cross-entropy per example, a KL divergence per token and a hint, with scheduled weights."""
    return losses.compose(
        ce=(schedules.linear(1.0, 0.5, steps=4), losses.cross_entropy),
        kl=(schedules.cosine(0.5, 0.0, steps=6), token_kl),
        hint=(schedules.exponential(2.0, 0.5, epochs=2), losses.Hint(("hidden_1", "hidden_2"))),
    )


def build(config, task):
    """Returns a method of one stage with this loss."""
    del task
    student = config.student
    stage = Stage(
        "combined", student.epochs, combined_loss(), student.optimizer, teachers=("teacher",)
    )
    return Method("combined", (stage,), default_teacher(config))


SPEC = MethodSpec(build)


def write(folders):
    """Writes texts and encoders without dropout, which would differ between devices."""
    write_folders(folders)
    for kind in ("bert", "roberta"):
        path = folders / kind / "config.json"
        settings = json.loads(path.read_text(encoding="utf-8"))
        settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        path.write_text(json.dumps(settings), encoding="utf-8")


def combined_config(folders):
    """The configuration of a run with this method that takes seconds."""
    config = text_config(folders)
    config.method = "combined"
    config.student.epochs = 3
    config.checkpoint_every = 1
    return config
