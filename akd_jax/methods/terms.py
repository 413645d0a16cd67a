"""The losses that a configuration of the method compose can name."""

from collections.abc import Mapping

from akd_jax import losses
from akd_jax.methods.term_settings import TermSpec

LABELS = "supervised"  # The only term that is on by default.
_GROUPS = "group_1,group_2,group_3"

TERMS: Mapping[str, TermSpec] = {
    LABELS: TermSpec(losses.supervised),
    # Logits.
    "kl": TermSpec(losses.kl, "0.9, with 0.1 for the labels", of_classes=True),
    "reverse_kl": TermSpec(losses.reverse_kl, of_classes=True),
    "generalized_jsd": TermSpec(losses.generalized_jsd, of_classes=True),
    "skew_kl": TermSpec(losses.skew_kl, of_classes=True),
    "skew_reverse_kl": TermSpec(losses.skew_reverse_kl, of_classes=True),
    "total_variation": TermSpec(losses.total_variation, of_classes=True),
    "dkd": TermSpec(losses.dkd, "1, with a warm-up", of_classes=True),
    "nkd": TermSpec(losses.nkd, "1", of_classes=True),
    "wsld": TermSpec(losses.wsld, "2.25", of_classes=True),
    "ofa": TermSpec(losses.ofa, "1", of_classes=True),
    "dist": TermSpec(losses.dist, "1", of_classes=True),
    "standardized_kl": TermSpec(
        losses.standardized_kl, "9, with 0.1 for the labels", of_classes=True
    ),
    "multi_level": TermSpec(losses.multi_level, "0.9, with 0.1 for the labels", of_classes=True),
    "ttm": TermSpec(losses.ttm, "45 for gamma 0.1", of_classes=True),
    "wttm": TermSpec(losses.wttm, "4 for gamma 0.2, next to CRD", of_classes=True),
    "top_k_kl": TermSpec(losses.top_k_kl, of_classes=True),
    "hinge_ranking": TermSpec(losses.hinge_ranking, of_classes=True),
    "logistic_ranking": TermSpec(losses.logistic_ranking, of_classes=True),
    "label_smoothing": TermSpec(
        losses.label_smoothing, "1, with 0 for the labels", of_classes=True
    ),
    "ctkd": TermSpec(losses.CTKD, "0.9, with 0.1 for the labels", of_classes=True),
    "annealed_mse": TermSpec(losses.annealed_mse),
    "weighted_annealed_mse": TermSpec(losses.weighted_annealed_mse, of_classes=True),
    "absolute_error": TermSpec(losses.absolute_error, "1 for 31 classes"),
    # Features of convolutional networks.
    "hint": TermSpec(losses.Hint, "100", layers="group_2"),
    "attention_transfer": TermSpec(losses.attention_transfer, "1000", layers=_GROUPS),
    "nst": TermSpec(losses.nst, "50", layers=_GROUPS),
    "fsp": TermSpec(losses.FSP, layers="group_1,group_2", each_layer=False),
    "vid": TermSpec(losses.VID, "1", layers=_GROUPS),
    "ab": TermSpec(losses.AB, "0.003"),
    "factor_transfer": TermSpec(losses.FactorTransfer, "500", layers="group_3"),
    "mgd": TermSpec(losses.MGD, "0.0012 for masked channels", layers="group_3"),
    "review_kd": TermSpec(losses.ReviewKD, "1, with a warm-up", each_layer=False),
    "semckd": TermSpec(losses.SemCKD, "400", each_layer=False),
    "srrl": TermSpec(losses.SRRL, "1", layers="group_3:pooled"),
    "ofa_heads": TermSpec(losses.OFA, "1", each_layer=False, of_classes=True),
    # Features of encoders.
    "hidden_states": TermSpec(losses.HiddenStates, "1", each_layer=False),
    "attention_mse": TermSpec(losses.attention_mse, "1", layers="attention_1"),
    "attention_kl": TermSpec(losses.attention_kl, "1", layers="attention_1"),
    "cosine": TermSpec(losses.cosine, "1, next to 5 of kl", layers="last_hidden_state"),
    "pkd": TermSpec(losses.pkd, layers="hidden_1"),
    "minilm": TermSpec(losses.MiniLM, "1"),
    "minilm_v2": TermSpec(losses.MiniLMv2, "1"),
    # Relations between the examples of a batch.
    "sp": TermSpec(losses.sp, "3000", layers="group_3"),
    "cc": TermSpec(losses.CC, "100"),
    "pkt": TermSpec(losses.pkt, "30000", layers="pooled"),
    "rkd_distance": TermSpec(losses.rkd_distance, "25", layers="pooled"),
    "rkd_angle": TermSpec(losses.rkd_angle, "50", layers="pooled"),
    "crd": TermSpec(losses.CRD, "0.8"),
    "crd_in_batch": TermSpec(losses.InBatchCRD),
}
