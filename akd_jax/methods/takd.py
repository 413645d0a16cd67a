"""Teacher-assistant KD (Mirzadeh et al., AAAI 2020, https://arxiv.org/abs/1902.03393).

An assistant, whose size is between teacher and student, learns from the teacher by KD. The
student learns from the assistant by KD.
"""

from akd_jax.config import RunConfig
from akd_jax.methods.kd import kd_loss
from akd_jax.types import Method, Stage


def build(config: RunConfig) -> Method:
    """Returns one stage with `kd_loss` and the assistant as the teacher."""
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
    """Returns the method that trains the assistant: KD from the teacher."""
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
