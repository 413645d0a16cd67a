"""Losses as rows of a comparison: variants of the method compose, with published weights.

The row NAME has the published weight and options of a loss, added to a cross-entropy. Losses of
logits without such a setting have the weights of KD, 0.9 and 0.1, and divergences the temperature
4. Without a published weight, fsp has the weight 1, and crd_in_batch that of crd. The paper gives
the weight of wttm for a sum with CRD. Warm-ups are shortened to about the same share of the
training as published. The row NAME_chosen has the weight, and the temperature if the loss has one,
that experiments.choose_weights found best on the validation split.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from akd_jax.methods.compose import change_terms

Row = dict[str, Any]


def _row(term: str, weight: float, labels: float = 1.0, **options: Any) -> Row:
    """Returns the settings of a loss next to the cross-entropy of weight `labels`."""
    return {term: {"weight": weight, **options}, "supervised": {"weight": labels}}


def _soft(term: str, **options: Any) -> Row:
    """Returns the settings of a loss with the weights of KD."""
    return _row(term, 0.9, 0.1, **options)


LOGITS: Mapping[str, Row] = {
    "label_smoothing": _row("label_smoothing", 1.0, 0.0),
    "kl": _soft("kl"),
    "reverse_kl": _soft("reverse_kl", temperature=4.0),
    "generalized_jsd": _soft("generalized_jsd", temperature=4.0),
    "skew_kl": _soft("skew_kl", temperature=4.0),
    "skew_reverse_kl": _soft("skew_reverse_kl", temperature=4.0),
    "total_variation": _soft("total_variation"),
    "dkd": _row("dkd", 1.0, schedule="warm_up", schedule_epochs=2),
    "nkd": _row("nkd", 1.0),
    "wsld": _row("wsld", 2.25),
    "ofa": _row("ofa", 1.0),
    "dist": _row("dist", 1.0),
    "standardized_kl": _row("standardized_kl", 9.0, 0.1),
    "multi_level": _soft("multi_level"),
    "ttm": _row("ttm", 45.0),
    "wttm": _row("wttm", 4.0),
    "top_k_kl_bin": _soft("top_k_kl", tail="bin", top_k=10, temperature=4.0),
    "top_k_kl_drop": _soft("top_k_kl", tail="drop", top_k=10, temperature=4.0),
    "top_k_kl_renormalise": _soft("top_k_kl", tail="renormalise", top_k=10, temperature=4.0),
    "hinge_ranking": _soft("hinge_ranking"),
    "logistic_ranking": _soft("logistic_ranking"),
    "ctkd": _soft("ctkd", epochs=1),
    "annealed_mse": _soft("annealed_mse"),
}


def features(groups: Sequence[str], examples: int) -> dict[str, Row]:
    """Returns the rows of the losses of features and relations.

    Args:
      groups: the names of the maps that student and teacher share, such as 'group_1'; the last one
        is the deepest.
      examples: the number of training examples.
    """
    maps, last = ",".join(groups), groups[-1]
    before = ",".join(f"{group}:{group}_preactivation" for group in groups)
    return {
        "hint": _row("hint", 100.0, layers=last),
        "attention_transfer": _row("attention_transfer", 1000.0, layers=maps),
        "nst": _row("nst", 50.0, layers=maps),
        "fsp": _row("fsp", 1.0, layers=",".join(groups[-2:])),
        "vid": _row("vid", 1.0, layers=maps),
        "ab": _row("ab", 0.003, layers=f"{last}_preactivation"),
        "factor_transfer": _row("factor_transfer", 500.0, layers=last),
        "mgd": _row("mgd", 12e-4, layers=last, masked="channels", rate=0.15),
        "review_kd": _row("review_kd", 1.0, layers=before, schedule="warm_up", schedule_epochs=2),
        "semckd": _row("semckd", 400.0, layers=maps),
        "srrl": _row("srrl", 1.0, layers=f"{last}:pooled"),
        "sp": _row("sp", 3000.0, layers=last),
        "cc": _row("cc", 100.0),
        "pkt": _row("pkt", 30000.0),
        "rkd": {**_row("rkd_distance", 25.0), **_row("rkd_angle", 50.0)},
        # A third of the examples, as 16,384 of the 50,000 of CIFAR.
        "crd": _row("crd", 0.8, examples=examples, negatives=examples // 3),
        "crd_in_batch": _row("crd_in_batch", 0.8),
    }


def variants(
    rows: Mapping[str, Row], choices: Mapping[str, tuple[float, float | None]]
) -> dict[str, Any]:
    """Returns `config.variants`: each row, and NAME_chosen for each row with a choice.

    Args:
      rows: the sections of config.compose of each row.
      choices: maps a row to the factor of its weights, and to its temperature or None.
    """
    chosen = {
        f"{name}_chosen": change_terms(rows[name], *choice) for name, choice in choices.items()
    }
    return {name: {"method": "compose", "compose": row} for name, row in {**rows, **chosen}.items()}
