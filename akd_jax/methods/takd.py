"""Teacher-assistant KD (Mirzadeh et al., AAAI 2020, https://arxiv.org/abs/1902.03393).

A network of a size between the two learns from the teacher by KD, and the student from it.
"""

from akd_jax.config import RunConfig
from akd_jax.methods.kd import kd_loss
from akd_jax.types import Method, Stage


def build(config: RunConfig) -> Method:
    """One stage with the loss of KD against the assistant."""
    loss = kd_loss(config.kd, "assistant")
    stage = Stage(
        "takd",
        config.student.epochs,
        loss,
        config.student.optimizer,
        temperature=config.kd.temperature,
        teachers=("assistant",),
    )
    return Method("takd", (stage,))


def build_assistant(config: RunConfig) -> Method:
    """How the assistant itself is trained: by KD from the teacher."""
    settings = config.takd.assistant
    loss = kd_loss(config.kd, "teacher")
    stage = Stage(
        "kd",
        settings.epochs,
        loss,
        settings.optimizer,
        temperature=config.kd.temperature,
        teachers=("teacher",),
    )
    return Method("assistant", (stage,))
