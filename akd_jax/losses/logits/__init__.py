"""Losses of logits: hard labels, divergences, transformed logits, tokens and large vocabularies."""
