"""Losses of features: hidden representations of student and teacher, compared per example."""
