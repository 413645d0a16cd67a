"""Teacher-assistant KD (Mirzadeh et al., AAAI 2020, https://arxiv.org/abs/1902.03393).

An assistant, whose size is between teacher and student, learns from the teacher by KD. The
student learns from the assistant by KD.
"""

from akd_jax.config import RunConfig
from akd_jax.methods.kd import kd_stage
from akd_jax.types import Method


def build(config: RunConfig) -> Method:
    """Returns one stage with `kd_loss` and the assistant as the teacher."""
    student = config.student
    stage = kd_stage("takd", student.epochs, student.optimizer, config.kd, "assistant")
    return Method("takd", (stage,))


def build_assistant(config: RunConfig) -> Method:
    """Returns the method that trains the assistant: KD from the teacher."""
    assistant = config.takd.assistant
    stage = kd_stage("kd", assistant.epochs, assistant.optimizer, config.kd, "teacher")
    return Method("assistant", (stage,))
