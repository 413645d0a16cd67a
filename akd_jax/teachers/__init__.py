"""Teachers: sources of teacher outputs for a batch, live or stored."""
