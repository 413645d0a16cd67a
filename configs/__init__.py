"""Configurations: default.py, and one short overlay per experiment."""
