"""Losses: pure functions of arrays that return one value per row, and their composition."""

from akd_jax.losses.compose import Layers, ModuleSum, Sum, bind, compose
from akd_jax.losses.features import attention_transfer, feature_mse
from akd_jax.losses.hint import Hint
from akd_jax.losses.labels import cross_entropy, squared_error, supervised
from akd_jax.losses.logits import ClassReduction, annealed_mse, continuation, kl
from akd_jax.losses.projectors import projector
from akd_jax.losses.relations import rkd_angle, rkd_distance, sp

__all__ = [
    "ClassReduction",
    "Hint",
    "Layers",
    "ModuleSum",
    "Sum",
    "annealed_mse",
    "attention_transfer",
    "bind",
    "compose",
    "continuation",
    "cross_entropy",
    "feature_mse",
    "kl",
    "projector",
    "rkd_angle",
    "rkd_distance",
    "sp",
    "squared_error",
    "supervised",
]
