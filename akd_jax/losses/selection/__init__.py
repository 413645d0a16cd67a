"""KD from teachers that are chosen for each example."""

from akd_jax.losses.selection.chosen import TeacherSelection, fold_names
from akd_jax.losses.selection.reinforced import REWARD_EXAMPLES, ReinforcedSelection

__all__ = ["REWARD_EXAMPLES", "ReinforcedSelection", "TeacherSelection", "fold_names"]
