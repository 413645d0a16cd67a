"""Launchers, the comparison and the report, and their recorded results."""
