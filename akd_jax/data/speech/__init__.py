"""From recordings of speech to discrete codes."""
