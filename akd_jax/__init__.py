"""Knowledge distillation in JAX and Flax, centred on Annealing-KD (EACL 2021)."""
