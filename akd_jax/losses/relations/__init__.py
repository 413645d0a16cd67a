"""Losses of relations: similarities, distances and angles between the examples of a batch."""
