"""Runs: from a configuration to a trained student, and back from its folder."""
