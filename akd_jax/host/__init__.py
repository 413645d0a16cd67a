"""What the machine gives: files, processes, signals, checkpoints and records."""
