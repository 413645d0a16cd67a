"""The preparation of each data set: downloads, checks and conversions."""
