"""Configurations: default.py has all fields; each other file changes those of one experiment."""
