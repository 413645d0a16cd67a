"""The machine: files, processes, signals, checkpoints and records."""
