"""Losses: pure functions of arrays that return one value per row, and their composition."""

from akd_jax.losses.compose import Layers, ModuleSum, Sum, bind, compose
from akd_jax.losses.features import Hint, attention_transfer, feature_mse
from akd_jax.losses.labels import cross_entropy, squared_error, supervised
from akd_jax.losses.logits import ClassReduction, annealed_mse, continuation, kl
from akd_jax.losses.relations import rkd_angle, rkd_distance, sp
from akd_jax.losses.sparse import Tail, hinge_ranking, logistic_ranking, top_k_kl
from akd_jax.losses.tokens import chunked, linear_chunked, masked_mean

__all__ = [
    "ClassReduction",
    "Hint",
    "Layers",
    "ModuleSum",
    "Sum",
    "Tail",
    "annealed_mse",
    "attention_transfer",
    "bind",
    "chunked",
    "compose",
    "continuation",
    "cross_entropy",
    "feature_mse",
    "hinge_ranking",
    "kl",
    "linear_chunked",
    "logistic_ranking",
    "masked_mean",
    "rkd_angle",
    "rkd_distance",
    "sp",
    "squared_error",
    "supervised",
    "top_k_kl",
]
