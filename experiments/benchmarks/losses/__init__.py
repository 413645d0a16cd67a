"""The losses of akd_jax and the same losses in PyTorch, to compare their values and their speed.

The functions in PyTorch follow the papers' formulas. They are straightforward, and do not guard
against extreme inputs. The tests compare the values of both, and the suite 'losses' their times.
"""
