"""Losses: pure functions of arrays that return one value per row, and their composition."""

from akd_jax.losses.balance import Balanced, balance
from akd_jax.losses.binding import Layers, bind
from akd_jax.losses.compose import ModuleSum, Sum, compose
from akd_jax.losses.features.attention import attention_kl, attention_mse, relation_kl
from akd_jax.losses.features.boundaries import AB
from akd_jax.losses.features.classifier import SRRL, simkd
from akd_jax.losses.features.distances import attention_transfer, feature_mse
from akd_jax.losses.features.factors import FactorTransfer
from akd_jax.losses.features.gram import FSP, fsp_matrix, nst
from akd_jax.losses.features.hidden import HiddenStates, LayerStrategy, cosine, layer_map, pkd
from akd_jax.losses.features.hint import Hint
from akd_jax.losses.features.masked import MGD
from akd_jax.losses.features.masked_codes import MaskedCodes
from akd_jax.losses.features.minilm import MiniLM, MiniLMv2
from akd_jax.losses.features.projectors import projector
from akd_jax.losses.features.review import ReviewKD, hcl
from akd_jax.losses.features.semantic import SemCKD
from akd_jax.losses.features.stage_heads import OFA
from akd_jax.losses.features.transcripts import CTC
from akd_jax.losses.features.variational import VID
from akd_jax.losses.logits.alignments import ctc, ctc_alignable
from akd_jax.losses.logits.annealing import (
    ClassReduction,
    annealed_mse,
    continuation,
    weighted_annealed_mse,
)
from akd_jax.losses.logits.correlation import dist
from akd_jax.losses.logits.divergences import generalized_jsd, kl, reverse_kl, total_variation
from akd_jax.losses.logits.ensembles import Average, average_teachers
from akd_jax.losses.logits.errors import absolute_error
from akd_jax.losses.logits.labels import cross_entropy, label_smoothing, squared_error, supervised
from akd_jax.losses.logits.learned_temperature import CTKD
from akd_jax.losses.logits.levels import multi_level
from akd_jax.losses.logits.ranking import hinge_ranking, logistic_ranking
from akd_jax.losses.logits.skew_divergences import skew_kl, skew_reverse_kl
from akd_jax.losses.logits.soft_targets import ofa, wsld
from akd_jax.losses.logits.sparse import Tail, top_k_kl
from akd_jax.losses.logits.standardization import standardize, standardized_kl
from akd_jax.losses.logits.target_class import dkd, nkd
from akd_jax.losses.logits.tokens import chunked, linear_chunked
from akd_jax.losses.logits.transformed_teacher import ttm, wttm
from akd_jax.losses.relations.contrastive import InBatchCRD, crd_in_batch
from akd_jax.losses.relations.crd import CRD
from akd_jax.losses.relations.rkd import rkd_angle, rkd_distance
from akd_jax.losses.relations.similarities import CC, correlation_congruence, pkt, sp
from akd_jax.losses.rows import masked_mean
from akd_jax.losses.selection import (
    REWARD_EXAMPLES,
    ReinforcedSelection,
    TeacherSelection,
    fold_names,
)
from akd_jax.losses.stream import StreamLoss

__all__ = [
    "AB",
    "CC",
    "CRD",
    "CTC",
    "CTKD",
    "FSP",
    "MGD",
    "OFA",
    "REWARD_EXAMPLES",
    "SRRL",
    "VID",
    "Average",
    "Balanced",
    "ClassReduction",
    "FactorTransfer",
    "HiddenStates",
    "Hint",
    "InBatchCRD",
    "LayerStrategy",
    "Layers",
    "MaskedCodes",
    "MiniLM",
    "MiniLMv2",
    "ModuleSum",
    "ReinforcedSelection",
    "ReviewKD",
    "SemCKD",
    "StreamLoss",
    "Sum",
    "Tail",
    "TeacherSelection",
    "absolute_error",
    "annealed_mse",
    "attention_kl",
    "attention_mse",
    "attention_transfer",
    "average_teachers",
    "balance",
    "bind",
    "chunked",
    "compose",
    "continuation",
    "correlation_congruence",
    "cosine",
    "crd_in_batch",
    "cross_entropy",
    "ctc",
    "ctc_alignable",
    "dist",
    "dkd",
    "feature_mse",
    "fold_names",
    "fsp_matrix",
    "generalized_jsd",
    "hcl",
    "hinge_ranking",
    "kl",
    "label_smoothing",
    "layer_map",
    "linear_chunked",
    "logistic_ranking",
    "masked_mean",
    "multi_level",
    "nkd",
    "nst",
    "ofa",
    "pkd",
    "pkt",
    "projector",
    "relation_kl",
    "reverse_kl",
    "rkd_angle",
    "rkd_distance",
    "simkd",
    "skew_kl",
    "skew_reverse_kl",
    "sp",
    "squared_error",
    "standardize",
    "standardized_kl",
    "supervised",
    "top_k_kl",
    "total_variation",
    "ttm",
    "weighted_annealed_mse",
    "wsld",
    "wttm",
]
