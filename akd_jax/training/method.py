"""Methods: stages in order, and the recipes of the teachers that they read."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import jax

from akd_jax.data.text import Vocabulary
from akd_jax.host.errors import InputError
from akd_jax.models.network import Model
from akd_jax.training.stage import Stage
from akd_jax.types import Variables


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A recipe of a finished teacher.

    Attributes:
      path: the folder of an earlier run's teacher, or a fine-tuned Hugging Face folder.
      field: the field of the configuration that holds the path, for messages.
      suffix: as for `Trained`.
    """

    path: str
    field: str
    suffix: str = ""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A recipe of a teacher that the run trains before the student.

    Attributes:
      model: the network, in the form that `akd_jax.models.build` reads.
      method: the method that trains it; it can have teachers too.
      seed: the seed of the initial parameters and of the order of the batches.
      settings: everything that its training depends on, as JSON values; a finished teacher is
        used again only if they match.
      field: the field of the configuration that holds the network, for messages.
      suffix: the end of the teacher's name, if its section describes several teachers. The path in
        the section has no such end.
    """

    model: str
    method: "Method"
    seed: int
    settings: Mapping[str, Any]
    field: str
    suffix: str = ""


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A recipe of a network whose pretrained weights the run only reads, such as a text encoder.

    Attributes:
      model: the network, in the form that `akd_jax.models.build` reads.
      field: the field of the configuration that holds the network, for messages.
    """

    model: str
    field: str


Recipe = Pretrained | Trained | Frozen


class Initialise(Protocol):
    """Computes the initial variables of a student that depend on its teachers."""

    def __call__(self, student: Model, teachers: Mapping[str, Model], inputs: Any) -> Variables:
        """Returns variables with the shapes and types of the student's.

        JAX traces it, first on shapes, before a teacher is trained; a problem must raise InputError
        then. A run that resumes calls it again: it must return the same variables.

        Args:
          student: the student with its random or pretrained variables.
          teachers: the teachers of the method by name.
          inputs: raw inputs of an example, [1, ...].
        """


@dataclasses.dataclass(frozen=True)
class Method:
    """A training method: stages in order. The best student of the last stage is the result.

    Attributes:
      name: the name of the method.
      stages: the stages. A stage can start only from an earlier one.
      teachers: the recipes of the teachers that the stages read, by name. The name is the
        teacher's folder in the workdir.
      initialise: changes the initial variables of the student; None to keep them.
      predicts_labels: whether the result predicts the labels of the task. If not, such as after a
        pretraining, it has no test scores.
      keeps_teachers: whether the weights of the teachers that a run trains are kept when it is
        finished.
      vocabularies: further tokenisations of the texts, which a loss reads in the inputs of a batch
        by their keys.

    Raises:
      InputError: two stages have one name, a stage starts from one that is not earlier, a
        stage reads a teacher without a recipe or has a teacher's name, the recipes form a
        circle, or two teachers of one name have different recipes.
    """

    name: str
    stages: tuple[Stage, ...]
    teachers: Mapping[str, Recipe] = dataclasses.field(default_factory=dict)
    initialise: Initialise | None = None
    predicts_labels: bool = True
    keeps_teachers: bool = True
    vocabularies: tuple[Vocabulary, ...] = ()

    def __post_init__(self) -> None:
        earlier: list[str] = []
        for stage in self.stages:
            if stage.name in earlier:
                raise InputError(
                    f"{self.name}: expected stages with different names, got {stage.name!r} twice;"
                    " rename one"
                )
            for start in (stage.start, stage.loss_start):
                if start is not None and start not in earlier:
                    raise InputError(
                        f"{self.name}: expected the stage {stage.name} to start from one of the"
                        f" earlier stages ({', '.join(earlier) or 'there are none'}), got"
                        f" {start!r}; change its start or the order of the stages"
                    )
            if stage.name in self.teachers:
                raise InputError(
                    f"{self.name}: expected different names of stages and teachers, got"
                    f" {stage.name!r} for both; rename one"
                )
            unknown = [name for name in stage.teachers if name not in self.teachers]
            if unknown:
                raise InputError(
                    f"{self.name}: expected a recipe for each teacher of the stage {stage.name},"
                    f" got none for {unknown[0]!r}; add it to the teachers of the method"
                )
            earlier.append(stage.name)
        self._check_circles(())
        self._check_recipes({})

    @property
    def epochs(self) -> int:
        """Total number of epochs of all stages."""
        return sum(stage.epochs for stage in self.stages)

    def initial_variables(
        self, student: Model, teachers: Mapping[str, Model], inputs: Any
    ) -> Variables:
        """Returns the student's variables before its first stage; arguments as `Initialise`."""
        if self.initialise is None:
            return student.variables
        return jax.jit(self.initialise)(student, dict(teachers), inputs)

    def all_teachers(self) -> Iterator[tuple[str, Recipe]]:
        """Returns each teacher once, before the teachers that train it."""
        teachers: list[tuple[str, Recipe]] = []
        for name, recipe in self.teachers.items():
            teachers.append((name, recipe))
            if isinstance(recipe, Trained):
                teachers += recipe.method.all_teachers()
        # A teacher that occurs several times keeps its last place, after all that it trains.
        return reversed(dict(reversed(teachers)).items())

    def _check_circles(self, chain: tuple[str, ...]) -> None:
        """Raises InputError if a teacher is among the teachers that train it."""
        for name, recipe in self.teachers.items():
            if name in chain:
                raise InputError(
                    "teachers: expected recipes without a circle, got"
                    f" {' <- '.join([*chain, name])}; give each teacher a different name"
                )
            if isinstance(recipe, Trained):
                recipe.method._check_circles((*chain, name))

    def _check_recipes(self, known: dict[str, Any]) -> None:
        """Raises InputError if a known teacher has another recipe; adds those not yet known."""
        for name, recipe in self.teachers.items():
            if isinstance(recipe, Trained):
                recipe.method._check_recipes(known)
            definition = _definition(recipe)
            if known.setdefault(name, definition) != definition:
                raise InputError(
                    f"teachers: expected one recipe for the teacher {name!r}, got two that differ;"
                    " give each teacher a different name"
                )


def _definition(recipe: Recipe) -> Any:
    """Returns what defines the network of a recipe, for comparisons.

    The losses of its method are left out, since two equal ones are different objects; `settings`
    stands for them. So are the recipes of the method's teachers, which are compared themselves.
    """
    if isinstance(recipe, Pretrained):
        return recipe.path
    if isinstance(recipe, Frozen):
        return recipe.model
    stages = [
        (stage.name, stage.epochs, stage.optimizer, stage.loss_optimizer, stage.start)
        for stage in recipe.method.stages
    ]
    method = (recipe.method.name, stages, sorted(recipe.method.teachers))
    return (recipe.model, recipe.seed, recipe.settings, method)
