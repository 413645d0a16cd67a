"""Losses: pure functions of arrays that return one value per row, and their composition."""

from akd_jax.losses.balance import Balanced, balance
from akd_jax.losses.compose import Layers, ModuleSum, Sum, bind, compose
from akd_jax.losses.contrastive import InBatchCRD, crd_in_batch
from akd_jax.losses.crd import CRD
from akd_jax.losses.features import attention_transfer, feature_mse
from akd_jax.losses.hint import Hint
from akd_jax.losses.labels import cross_entropy, squared_error, supervised
from akd_jax.losses.learned import CTKD
from akd_jax.losses.logits import ClassReduction, annealed_mse, continuation, kl
from akd_jax.losses.projectors import projector
from akd_jax.losses.relations import CC, correlation_congruence, pkt, sp
from akd_jax.losses.rkd import rkd_angle, rkd_distance

__all__ = [
    "CC",
    "CRD",
    "CTKD",
    "Balanced",
    "ClassReduction",
    "Hint",
    "InBatchCRD",
    "Layers",
    "ModuleSum",
    "Sum",
    "annealed_mse",
    "attention_transfer",
    "balance",
    "bind",
    "compose",
    "continuation",
    "correlation_congruence",
    "crd_in_batch",
    "cross_entropy",
    "feature_mse",
    "kl",
    "pkt",
    "projector",
    "rkd_angle",
    "rkd_distance",
    "sp",
    "squared_error",
    "supervised",
]
