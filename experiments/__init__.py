"""Command-line launchers, the comparison of methods, benchmarks and recorded results."""
