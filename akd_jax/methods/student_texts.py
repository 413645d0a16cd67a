"""How a student writes texts in training."""

from pydantic import Field

from akd_jax.host.settings import NonNegative, NonNegativeInt, PositiveFraction, Section
from akd_jax.schedules import Schedule
from akd_jax.training.prefixes import StudentPrefixes
from akd_jax.types import TargetVocabulary


class StudentTexts(Section):
    """The tokens that a student writes: the most probable ones, or drawn ones."""

    temperature: NonNegative = Field(
        default=0.0,
        description="Softmax temperature of the tokens that the student draws; 0 for its best"
        " ones.",
    )
    top_k: NonNegativeInt = Field(
        default=0, description="Number of the best tokens that the student draws from; 0 for all."
    )
    top_p: PositiveFraction = Field(
        default=1.0,
        description="Probability of the best tokens that the student draws from, above 0 and at"
        " most 1; 1 for all.",
    )

    def prefixes(self, target: TargetVocabulary, kept: Schedule) -> StudentPrefixes:
        """Returns the change of a batch that keeps its contexts with a scheduled probability."""
        return StudentPrefixes(target, kept, self.temperature, self.top_k, self.top_p)
