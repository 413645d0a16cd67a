"""Losses: pure functions of arrays that return one value per row, and their composition."""

from akd_jax.losses.compose import Layers, Sum, bind, compose
from akd_jax.losses.labels import cross_entropy, squared_error, supervised
from akd_jax.losses.logits import ClassReduction, annealed_mse, continuation, kl

__all__ = [
    "ClassReduction",
    "Layers",
    "Sum",
    "annealed_mse",
    "bind",
    "compose",
    "continuation",
    "cross_entropy",
    "kl",
    "squared_error",
    "supervised",
]
