"""Merging of the sums that steps return, and the metrics of the tasks over a whole split."""

from akd_jax.metrics.scores import METRICS, constant_predictor_score, predictions, scores
from akd_jax.metrics.sums import Sums, add, means

__all__ = ["METRICS", "Sums", "add", "constant_predictor_score", "means", "predictions", "scores"]
