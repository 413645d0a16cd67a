"""Losses: pure functions of arrays that return one value per row, and their composition."""

from akd_jax.losses.annealing import ClassReduction, annealed_mse, continuation
from akd_jax.losses.compose import Layers, ModuleSum, Sum, bind, compose
from akd_jax.losses.correlation import dist
from akd_jax.losses.divergences import generalized_jsd, kl, reverse_kl, total_variation
from akd_jax.losses.features import Hint, attention_transfer, feature_mse
from akd_jax.losses.labels import cross_entropy, label_smoothing, squared_error, supervised
from akd_jax.losses.levels import multi_level
from akd_jax.losses.relations import rkd_angle, rkd_distance, sp
from akd_jax.losses.skew_divergences import skew_kl, skew_reverse_kl
from akd_jax.losses.soft_targets import ofa, wsld
from akd_jax.losses.standardization import standardize, standardized_kl
from akd_jax.losses.target_class import dkd, nkd
from akd_jax.losses.transformed_teacher import ttm, wttm

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
    "dist",
    "dkd",
    "feature_mse",
    "generalized_jsd",
    "kl",
    "label_smoothing",
    "multi_level",
    "nkd",
    "ofa",
    "reverse_kl",
    "rkd_angle",
    "rkd_distance",
    "skew_kl",
    "skew_reverse_kl",
    "sp",
    "squared_error",
    "standardize",
    "standardized_kl",
    "supervised",
    "total_variation",
    "ttm",
    "wsld",
    "wttm",
]
